"""What commits and snapshots know of a past, and what is refused for it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from connectors.kafka.cluster import Cluster
from gateway.settings import GatewaySettings
from services.forensics.settings import ForensicsSettings
from stack.workflows.known_past import Asked, Desk, Known, refuse_other_topics, refuse_undecided, refused_name
from stack.workflows.rebinding import COMPARED
from tests.unit.trading.state.test_rebinding import MADE
from trading.errors import ConfigurationError, ServiceUnavailable

TRAIL, GATEWAY = ForensicsSettings(), GatewaySettings()
NAMES = {letter: f"c/t{letter}/d{letter}/gateway" for letter in "abc"}
DESK = Desk(Cluster(2, "c", "tc", "dc"), NAMES["c"])


def known(buried=(), **ends):
    return Known(0, {NAMES.get(name, name): end for name, end in ends.items()}, frozenset(buried))


def bound(was, now):
    return replace(MADE, was=NAMES[was], now=NAMES[now])


def test_what_is_named_and_is_not_what_lies_there_is_refused_for():
    assert refused_name(GATEWAY, DESK, [known(b=5), known(c=7)], []) == NAMES["b"]
    # Of another group, or without a name, it is nobody's log.
    assert (
        refused_name(GATEWAY, DESK, [Known(0, {"": 9, "c/t/d/other": 3, NAMES["b"]: 1}, frozenset())], [])
        == NAMES["b"]
    )


def test_a_partition_that_still_names_what_was_before_is_of_the_same_past():
    assert refused_name(GATEWAY, DESK, [known(b=5), known(a=3)], [bound("a", "b")]) == NAMES["b"]
    with pytest.raises(ConfigurationError, match="of several other logs"):
        refused_name(GATEWAY, DESK, [known(b=5), known(a=3)], [])


def test_where_nothing_refuses_nothing_is_bound():
    with pytest.raises(ConfigurationError, match="no gateway of the group gateway refuses it"):
        refused_name(GATEWAY, DESK, [known(c=5)], [])
    with pytest.raises(ConfigurationError, match="which is bound already"):
        refused_name(GATEWAY, DESK, [known(b=5)], [bound("b", "c")])


@pytest.mark.parametrize("name", ["a", "b", ""])
def test_more_than_is_on_record_was_decided_whoever_says_so(name):
    one = Known(0, {NAMES.get(name, name): 500}, frozenset())
    assert refuse_undecided(TRAIL, one, 500) is None
    with pytest.raises(
        ConfigurationError, match="was decided to 500, and on record are decisions to 300: 200 are lost"
    ):
        refuse_undecided(TRAIL, one, 300)


def test_what_was_buried_after_the_last_decision_is_not_lost():
    refuse_undecided(TRAIL, known(range(300, 320), b=320), 300)
    with pytest.raises(ConfigurationError, match="1 are lost"):
        refuse_undecided(TRAIL, known([*range(300, 310), *range(311, 320), 7], b=320), 300)


def test_a_trail_of_other_topics_or_brokers_says_nothing_of_these():
    refuse_other_topics(TRAIL, GATEWAY, COMPARED)
    with pytest.raises(ConfigurationError, match=r"desk2\.decisions \(decisions\)"):
        refuse_other_topics(TRAIL, GatewaySettings(decisions_topic="desk2.decisions"), COMPARED)
    for other in (GatewaySettings(ticks_topic="desk2.ticks"), GatewaySettings(kafka_bootstrap="10.0.0.9:9092")):
        with pytest.raises(ConfigurationError, match="name other topics or brokers"):
            refuse_other_topics(TRAIL, other, COMPARED)


def test_a_redis_that_does_not_answer_is_not_one_without_snapshots():
    asked = Asked("redis://127.0.0.1:1/0", "gateway")
    with pytest.raises(ServiceUnavailable, match="Redis"):
        asked.get(0)
    asked.close()
