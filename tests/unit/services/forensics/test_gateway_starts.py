"""A replay goes by what the gateway said of itself, unless somebody says otherwise."""

from __future__ import annotations

import pytest
from msgspec import structs

from services.forensics.gateway_starts import BEFORE, decided_with, refuse_other_ticks
from services.forensics.settings import ForensicsSettings
from trading.encoding import encode
from trading.errors import BadRecord, ConfigurationError
from trading.models.serving import GatewayStart, ServingFacts, read_start

FACTS = ServingFacts("triton 2.60.0", {"trading_decision_fused": "cpu"}, 8, "ab" * 32)
START = GatewayStart(
    event="start", instance="one", group="gateway", at_ns=1, model_name="trading_decision_fused", model_version="3",
    serving=FACTS, account="main", strategy="slow", rebalance_band=0.1, execution="broker", ticks_topic="market.ticks",
    ticks_topic_id="t1", decisions_topic="trading.decisions", decisions_topic_id="d1", partitions=4, build={},
)  # fmt: skip


def test_a_start_is_read_as_it_was_written():
    assert read_start(encode(START)) == START
    for rubbish in (None, b"", b"{}", b"[1]", encode(START)[:-2]):
        with pytest.raises(BadRecord):
            read_start(rubbish)


def test_the_newest_start_tells_and_a_setting_stands_above_it():
    other = structs.replace(START, account="old", at_ns=0)
    assert decided_with(ForensicsSettings(), []) == BEFORE
    found = decided_with(ForensicsSettings(), [START])
    assert (found.account, found.strategy, found.rebalance_band, found.said) == ("main", "slow", 0.1, "")
    found = decided_with(ForensicsSettings(), [other, START])
    assert found.account == "main"
    assert "account old, strategy slow, band 0.1; account main, strategy slow, band 0.1" in found.said
    given = ForensicsSettings(account="mine", strategy="", rebalance_band=0.0)
    found = decided_with(given, [other, START])
    assert (found.account, found.strategy, found.rebalance_band, found.said) == ("mine", "", 0.0, "")


def test_ticks_of_a_topic_that_was_made_anew_are_refused():
    refuse_other_ticks(ForensicsSettings(), [START], "t1")
    with pytest.raises(
        ConfigurationError, match="of a market.ticks of id t1, and the one that is there now has the id t2"
    ):
        refuse_other_ticks(ForensicsSettings(), [START], "t2")
