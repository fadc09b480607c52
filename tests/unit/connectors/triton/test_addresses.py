"""One Triton or several are named as host:port; whatever else is a sentence."""

from __future__ import annotations

import pytest

from connectors.triton.addresses import only, split


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("127.0.0.1:8001", ("127.0.0.1:8001",)),
        ("triton:8001, other.local:8001", ("triton:8001", "other.local:8001")),
        ("[::1]:8001,[fe80::1]:9", ("[::1]:8001", "[fe80::1]:9")),
    ],
)
def test_addresses_are_split_in_their_order(told, found):
    assert split(told, "--triton-url") == found


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("", "--triton-url names ''"),
        ("triton", "names 'triton': give host:port"),
        ("http://triton:8000", "names 'http://triton:8000'"),
        ("triton:8001,", "names ''"),
        ("::1:8001", "names '::1:8001'"),
        ("triton:8001;rm", "names 'triton:8001;rm'"),
        ("a:1,b:2,a:1", "names one twice: a:1,b:2,a:1"),
    ],
)
def test_what_is_no_address_or_is_there_twice_is_refused(told, says):
    with pytest.raises(ValueError, match="--triton-url names") as raised:
        split(told, "--triton-url")
    assert says in str(raised.value)


def test_what_asks_one_refuses_several():
    assert only("a:1", "--triton-url") == "a:1"
    with pytest.raises(ValueError, match="names 2 Tritons, and one is asked: name one of a:1, b:2"):
        only("a:1,b:2", "--triton-url")
