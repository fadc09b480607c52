"""Wrong addresses and servers that are down are sentences without a password."""

from __future__ import annotations

import traceback

import pytest

from connectors import postgres, redis
from connectors.addresses import shown
from connectors.redis import RedisError
from trading.errors import ConfigurationError, ServiceUnavailable, UltraThinkError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("connect", "url", "kind"),
    [
        (redis.connect, f"rediss-typo://:{SECRET}@h/0", ConfigurationError),
        (redis.connect, f"redis://:{SECRET}@127.0.0.1:x/0", ConfigurationError),
        (redis.connect, f"redis://:{SECRET}@127.0.0.1:1/0", ServiceUnavailable),
        (postgres.connect_url, f"postgresq://u:{SECRET}@h/d", ConfigurationError),
        (postgres.connect_url, f"u:{SECRET}@h", ConfigurationError),
        (postgres.connect_url, f"postgresql://u:{SECRET}@127.0.0.1:x/d", ServiceUnavailable),
        (postgres.connect_url, f"postgresql://u:{SECRET}@127.0.0.1:1/d", ServiceUnavailable),
        (redis.connect, f"redis://:{SECRET}/x@127.0.0.1:1/0", ConfigurationError),
        (redis.connect, f"redis://:{SECRET}#x@127.0.0.1:1/0", ConfigurationError),
        (redis.connect, f"redis://{SECRET}?x@127.0.0.1:1/0", ServiceUnavailable),
        (redis.connect, f"redis://127.0.0.1:1/0?password={SECRET}", ServiceUnavailable),
        (redis.connect, f"{SECRET}", ConfigurationError),
        (postgres.connect_url, f"host=127.0.0.1 port=1 user=a password={SECRET}", ServiceUnavailable),
        (postgres.connect_url, f"host=127.0.0.1 port=1 user=a pasword={SECRET}", ConfigurationError),
        (postgres.connect_url, f"postgresql://127.0.0.1:1/d?user=a&password={SECRET}", ServiceUnavailable),
        (postgres.connect_url, f"postgresql://u:{SECRET}/y@127.0.0.1:1/d", ServiceUnavailable),
    ],
)
def test_no_error_shows_the_password(connect, url, kind):
    with pytest.raises(UltraThinkError) as raised:
        connect(url)
    assert isinstance(raised.value, kind)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("redis://:pw@h:6379/0", "h:6379/0"),
        ("redis://[::1]:6379/0", "[::1]:6379/0"),
        ("postgresql://u:p@w@db.example:5432/desk?sslmode=require", "db.example:5432/desk"),
        ("host=h port=5 dbname=d password='a b'", "host=h port=5 dbname=d"),
        ("redis://:hunter2", "the given address"),
        ("", "the given address"),
    ],
)
def test_what_is_shown_of_an_address_is_where_it_is(address, text):
    assert shown(address) == text


@pytest.mark.parametrize(("connector", "error"), [(redis, RedisError("said")), (postgres, postgres.Error("said"))])
def test_only_the_clients_errors_are_translated(connector, error):
    with pytest.raises(ServiceUnavailable, match="it is not kept.*said"), connector.translating("it is not kept"):
        raise error
    with pytest.raises(KeyError), connector.translating("it is not kept"):
        raise KeyError("ours")
