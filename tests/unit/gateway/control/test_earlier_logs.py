"""Whose word that a log continues another a gateway believes."""

from __future__ import annotations

import pytest

from gateway.control.earlier_logs import earlier_names
from gateway.control.topic import told
from tests.unit.trading.state.test_rebinding import MADE
from trading.control import InForce
from trading.encoding import encode
from trading.errors import ConfigurationError
from trading.keys import make_keys, public_path
from trading.risk.trading_state import TradingState
from trading.state.rebinding import sign_rebinding


@pytest.fixture
def keys(tmp_path):
    return {name: make_keys(tmp_path / name) for name in ("ours", "theirs")}


def test_only_a_word_that_a_known_key_has_signed_is_believed(tmp_path, keys):
    ours, theirs = (sign_rebinding(MADE, key) for key in keys.values())
    public = [public_path(tmp_path / "ours")]
    assert earlier_names(MADE.now, [ours], public) == {MADE.was: MADE.ends}
    assert earlier_names(MADE.now, [theirs, "{}", ours[:-2]], public) == {}
    assert earlier_names(MADE.now, [ours], []) == {}
    assert earlier_names("c/t3/d3/g", [ours], public) == {}


def test_a_key_that_cannot_be_read_starts_nobody_whether_it_is_needed_yet_or_not(tmp_path):
    gone = [tmp_path / "gone.pub"]
    with pytest.raises(ConfigurationError, match=r"gone\.pub cannot be read"):
        earlier_names(MADE.now, [], gone)
    with pytest.raises(ConfigurationError, match=r"gone\.pub cannot be read"):
        earlier_names(MADE.now, ["{}"], gone)


def test_it_is_a_command_that_changes_no_state(keys):
    found = InForce()
    command = told("rebind", sign_rebinding(MADE, keys["ours"]), "disks were copied", "me")
    assert found.take(0, encode(command)) == command
    assert (found.latched, found.newest, found.problem, found.bad) == (None, None, "", 0)
    assert found.state() is None or found.state().state is TradingState.ACTIVE
