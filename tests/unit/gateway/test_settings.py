"""Settings are frozen, checked, and share the desk's limit among partitions."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from trading.errors import ConfigurationError
from trading.risk.limits import LimitsFile


def test_a_partition_gets_its_share_of_what_is_divided():
    file = LimitsFile(defaults={"max_gross_notional": 1_000.0, "max_orders": 8, "max_leverage": 2.0})
    limits = GatewaySettings().limit_set(4, file).book
    assert (limits.max_gross_notional, limits.capital) == (250.0, 500_000.0)
    assert limits.max_orders == 2
    assert limits.max_leverage == 2.0


def test_fewer_orders_than_books_are_refused_for_they_would_add_up_to_more():
    file = LimitsFile(defaults={"max_orders": 2})
    with pytest.raises(ConfigurationError, match="max_orders 2 is fewer than the 4 books"):
        GatewaySettings().limit_set(4, file)
    assert GatewaySettings().limit_set(2, file).book.max_orders == 1


@pytest.mark.parametrize("bad", [{"budget_ms": 0}, {"max_batch": 5000}, {"rebalance_band": 1.0}, {"unknown": 1}])
def test_nonsense_is_refused(bad):
    with pytest.raises(ValidationError):
        GatewaySettings(**bad)


def test_the_environment_sets_what_flags_do_not(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_GATEWAY_BUDGET_MS", "20")
    assert GatewaySettings().pipeline().budget_ns == 20_000_000


def test_the_redis_password_is_not_printed():
    assert "hunter2" not in repr(GatewaySettings(redis_url="redis://:hunter2@127.0.0.1:6379/0"))


def test_a_setting_of_before_is_refused_by_name_and_not_passed_over(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_GATEWAY_COMMIT_MS", "0")
    with pytest.raises(ValueError, match=r"ULTRATHINK_GATEWAY_COMMIT_MS is gone: ULTRATHINK_GATEWAY_GATHER_MS"):
        GatewaySettings()


@pytest.mark.parametrize(
    ("given", "files"), [("", ()), ("/a.pub", ("/a.pub",)), ("/a.pub, /b c.pub,", ("/a.pub", "/b c.pub"))]
)
def test_keys_are_named_as_people_write_files(monkeypatch, given, files):
    monkeypatch.setenv("ULTRATHINK_GATEWAY_REBINDING_KEYS", given)
    assert tuple(map(str, GatewaySettings().rebinding_keys)) == files
    monkeypatch.setenv("ULTRATHINK_GATEWAY_REBINDING_KEYS", "~/desk.pub")
    assert str(GatewaySettings().rebinding_keys[0]).startswith("/")
