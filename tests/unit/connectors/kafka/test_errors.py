"""Every code of Kafka's client has one meaning."""

from __future__ import annotations

from collections import Counter

import pytest

from connectors.kafka import errors
from connectors.kafka.client import KafkaError, KafkaException
from connectors.kafka.errors import MEANINGS, Meaning, is_denied, passes, translated, translating
from trading.errors import ServiceUnavailable

CODES = {name: getattr(KafkaError, name) for name in dir(KafkaError) if name.isupper()}


def test_the_table_is_complete():
    assert CODES
    assert {name for name, code in CODES.items() if code not in MEANINGS} == set()


def test_no_code_has_two_meanings():
    named = Counter(name for names in errors._NAMES.values() for name in names.split())
    assert [name for name, count in named.items() if count > 1] == []
    assert errors._NAMES.keys() == set(Meaning)


@pytest.mark.parametrize(
    ("name", "may_pass", "denied"),
    [
        ("NOT_ENOUGH_REPLICAS", True, False),
        ("_ALL_BROKERS_DOWN", True, False),
        ("TOPIC_AUTHORIZATION_FAILED", False, True),
        ("_FENCED", False, False),
        ("MSG_SIZE_TOO_LARGE", False, False),
        ("UNKNOWN_TOPIC_OR_PART", False, False),
    ],
)
def test_what_may_pass_and_what_is_denied(name, may_pass, denied):
    error = KafkaError(CODES[name])
    assert (passes(error), is_denied(error)) == (may_pass, denied)


def test_a_code_that_is_not_known_does_not_pass():
    error = KafkaError(29_999)
    assert not passes(error)
    assert not is_denied(error)


def test_an_error_says_what_could_not_be_done_what_was_said_and_the_way_out():
    told = translated(
        KafkaException(KafkaError(CODES["TOPIC_AUTHORIZATION_FAILED"], "no")), "the ticks cannot be read"
    )
    assert str(told) == "the ticks cannot be read (no); give the client the permission, or other credentials"
    with pytest.raises(ServiceUnavailable, match="orders are not sent"), translating("orders are not sent"):
        raise KafkaException(KafkaError(CODES["_TRANSPORT"]))
    with pytest.raises(ValueError, match="ours"), translating("whatever"):
        raise ValueError("ours")
