"""The names of all topics, and how each is kept: nobody else writes a topic's name."""

from __future__ import annotations

from msgspec import Struct, structs


class Topics(Struct, frozen=True):
    """Names by role. All that has to do with ticks is partitioned alike: what belongs to one lies beside it."""

    ticks: str = "market.ticks"
    decisions: str = "trading.decisions"
    dead_letters: str = "market.ticks.dlq"
    snapshots: str = "gateway.snapshots"
    control: str = "gateway.control"
    orders: str = "trading.orders"
    fills: str = "trading.fills"
    scratch: str = "gateway.scratch"
    starts: str = "gateway.starts"
    releases: str = "models.releases"
    experiments: str = "trading.experiments"
    checkpoints: str = "forensics.checkpoints"

    def by_role(self) -> dict[str, str]:
        """Role -> name."""
        return structs.asdict(self)


#: As a desk calls them.
TOPICS = Topics()
#: Roles whose topic has one partition, whatever the others have.
UNPARTITIONED = frozenset({"control", "scratch", "starts", "releases", "experiments", "checkpoints"})
FOR_GOOD = {"retention.ms": "-1"}
#: How a role's topic is kept, where that is not the broker's default.
KEPT: dict[str, dict[str, str]] = {
    # By the broker's clock: a producer's must not move a partition's.
    "ticks": {"message.timestamp.type": "LogAppendTime"},
    # Decisions hold the book's past: without them a restart would find a flat book.
    "decisions": FOR_GOOD,
    "fills": FOR_GOOD,
    # What the broker was asked, and when: how soon a stop had ended what worked.
    "orders": FOR_GOOD,
    # What is on the audit trail can be put there again.
    "dead_letters": FOR_GOOD,
    "starts": FOR_GOOD,
    "releases": FOR_GOOD,
    "experiments": FOR_GOOD,
    # Signed sizes and roots of the trail, where the database's owner does not reach.
    "checkpoints": FOR_GOOD,
    # The latched state, and limits, hold until somebody sets others.
    "control": FOR_GOOD,
    # What a start is rehearsed with means nothing afterwards.
    "scratch": {"retention.ms": "60000", "segment.ms": "60000"},
    # Compacted soon: a restart reads what is left of it.
    "snapshots": {
        "cleanup.policy": "compact",
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.2",
    },
}
