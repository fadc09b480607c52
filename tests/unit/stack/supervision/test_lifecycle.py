"""Starting and stopping, where nothing runs."""

from __future__ import annotations

import pytest

from stack.servers.log_files import tail
from stack.servers.settings import StackSettings
from stack.supervision.checks import check_brokers
from stack.supervision.lifecycle import down
from trading.errors import ConfigurationError


def test_down_where_nothing_runs_is_harmless(tmp_path):
    assert down(tmp_path / "home") is False


def test_passwords_are_asked_for_only_after_up(tmp_path):
    with pytest.raises(ConfigurationError, match="ultrathink stack up"):
        _ = StackSettings(home=tmp_path).redis_url


def test_data_of_another_number_of_brokers_is_named(tmp_path):
    (tmp_path / "kafka" / "1").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="1 broker"):
        check_brokers(StackSettings(home=tmp_path, brokers=3))


def test_a_server_that_wrote_nothing_has_an_empty_log(tmp_path):
    assert tail(tmp_path / "absent") == []
