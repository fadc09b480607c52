"""A signed word that a log continues another."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from trading.errors import BadRecord
from trading.keys import key_id
from trading.state.rebinding import ComparedLog, Rebinding, ids_before, names_before, read_rebinding, sign_rebinding

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (1, 2))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
MADE = Rebinding(
    "c/t1/d1/g", "c/t2/d2/g", {"t1": "t2", "d1": "d2"}, (ComparedLog("decisions", 0, 7, 9, "ab"),), (9, 4), 7,
    "disks were copied", "me", 5,
)  # fmt: skip


def named(was, now, *ends):
    return replace(MADE, was=was, now=now, ids={was: now}, ends=ends)


def test_what_was_signed_is_read_and_what_nobody_trusted_has_signed_is_not():
    text = sign_rebinding(MADE, KEY)
    assert read_rebinding(text, KEYS) == MADE
    with pytest.raises(BadRecord, match="which is not trusted"):
        read_rebinding(sign_rebinding(MADE, OTHER), KEYS)
    with pytest.raises(BadRecord, match="which is not trusted"):
        read_rebinding(text, {})


@pytest.mark.parametrize("field", ["was", "now", "replayed", "by"])
def test_what_was_changed_after_it_was_signed_is_none(field):
    found = json.loads(sign_rebinding(MADE, KEY))
    found["rebinding"][field] = 8 if field == "replayed" else "c/t9/d9/g"
    with pytest.raises(BadRecord, match="does not fit the key"):
        read_rebinding(json.dumps(found, separators=(",", ":")), KEYS)


def test_a_signature_of_another_kind_is_none():
    found = json.loads(sign_rebinding(MADE, KEY))
    content = json.dumps(found["rebinding"], separators=(",", ":")).encode()
    from base64 import b64encode

    found["signature"] = b64encode(KEY.sign(b"ultrathink-trail-checkpoint/1\n" + content)).decode()
    with pytest.raises(BadRecord, match="does not fit the key"):
        read_rebinding(json.dumps(found, separators=(",", ":")), KEYS)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "x", '{"rebinding":{},"key":"a","signature":"b"}', "\x00", "{" * 9999]
)
def test_whatever_else_is_there_is_none(text):
    with pytest.raises(BadRecord):
        read_rebinding(text, KEYS)


def test_names_follow_one_another_and_never_in_a_circle():
    chain = [named("a", "b", 5, 6), named("b", "c", 8, 6), named("x", "y", 1)]
    assert names_before("c", chain) == {"a": (5, 6), "b": (8, 6)}
    assert names_before("b", chain) == {"a": (5, 6)}
    assert names_before("a", chain) == {}
    assert names_before("c", [*chain, named("c", "a", 9, 9)]) == {"a": (5, 6), "b": (8, 6)}
    # Of two that say it of one log, what both say.
    assert names_before("c", [*chain, named("b", "c", 7, 9)])["b"] == (7, 6)
    assert ids_before("c", chain) == {"a", "b"}
