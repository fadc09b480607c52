"""Wrong addresses and servers that are down are sentences without a password."""

from __future__ import annotations

import pytest

from connectors import postgres, redis
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
    ],
)
def test_no_error_shows_the_password(connect, url, kind):
    with pytest.raises(UltraThinkError) as raised:
        connect(url)
    assert isinstance(raised.value, kind)
    shown = [raised.value, raised.value.__cause__]
    assert all(SECRET not in repr(error) for error in shown)
    assert url.rpartition("@")[2] in str(raised.value)


@pytest.mark.parametrize(("connector", "error"), [(redis, RedisError("said")), (postgres, postgres.Error("said"))])
def test_only_the_clients_errors_are_translated(connector, error):
    with pytest.raises(ServiceUnavailable, match="it is not kept.*said"), connector.translating("it is not kept"):
        raise error
    with pytest.raises(KeyError), connector.translating("it is not kept"):
        raise KeyError("ours")
