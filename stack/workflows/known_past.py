"""What a desk's commits and snapshots know of its past, whatever lies under the names of its topics now."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager

from msgspec import Struct

from connectors.kafka.cluster import Cluster, members_of
from connectors.kafka.watermarks import Watermarks
from gateway.adapters.kafka_recovery import KafkaPartitionLog, LogPlace
from gateway.adapters.redis_snapshots import RedisSnapshots
from gateway.control.topic import ControlListener
from gateway.settings import GatewaySettings
from services.forensics.settings import ForensicsSettings
from trading.errors import ConfigurationError
from trading.state.codec import ForeignSnapshot, UnusableSnapshot, decode_snapshot
from trading.state.rebinding import Rebinding, names_before

#: One that was killed counts as a member until its session is over.
LEFT_S = 10.0


class Desk(Struct, frozen=True):
    """What is there now: its cluster and topics, and the name of its log."""

    cluster: Cluster
    name: str


class Known(Struct, frozen=True):
    """What commits and snapshots say of a partition: name of a log -> the tick after the last decided there.

    `buried` are ticks whose dead letters are published.
    """

    partition: int
    ends: dict[str, int]
    buried: frozenset[int]

    @property
    def end(self) -> int:
        """The farthest that anything says, whatever it names: nothing that was decided is left out of sight."""
        return max(self.ends.values(), default=0)


def refuse_other_topics(trail: ForensicsSettings, gateway: GatewaySettings, wanted: Collection[str]) -> None:
    """Raise ConfigurationError where the trail is of other topics than the gateway's, by these roles, or ticks."""
    known, roles = trail.roles(), gateway.topics.by_role()
    wrong = [f"{roles[role]} ({role})" for role in wanted if known.get(roles[role]) != role]
    if wrong or trail.ticks_topic != gateway.topics.ticks or trail.kafka_bootstrap != gateway.kafka_bootstrap:
        told = ", ".join(wrong) or f"{gateway.topics.ticks} at {gateway.kafka_bootstrap}"
        raise ConfigurationError(f"the trail's settings and the gateway's name other topics or brokers: {told}")


def refuse_members(gateway: GatewaySettings) -> None:
    """Raise ConfigurationError while a gateway of the group runs: what it writes would be of no log."""
    deadline = time.monotonic() + LEFT_S
    while (count := len(members_of(gateway.kafka_bootstrap, gateway.group))) and time.monotonic() < deadline:
        time.sleep(0.5)
    if count:
        raise ConfigurationError(
            f"the group {gateway.group} has members ({count}): end these gateways (`ultrathink stack up --profile "
            "servers` ends the stack's), those on another Kafka with this Redis too"
        )


def refused_name(gateway: GatewaySettings, desk: Desk, seen: Sequence[Known], bound: Sequence[Rebinding]) -> str:
    """The log that a gateway would find its past to be of. Raises ConfigurationError for none, or many."""
    known = names_before(desk.name, bound)
    named = {name for one in seen for name in one.ends if name.endswith(f"/{gateway.group}")}
    found = named - set(known) - {desk.name}
    # A partition without ticks since the last rebinding still names what was before that.
    found -= {earlier for name in found for earlier in names_before(name, bound)}
    if not found:
        told = ", but of what it was before, which is bound already" if known else ""
        raise ConfigurationError(
            f"nothing is committed, and no snapshot is kept, of another log than {desk.name}{told}: no gateway of "
            f"the group {gateway.group} refuses it for that"
        )
    if len(found) > 1:
        raise ConfigurationError(
            f"commits and snapshots are of several other logs, and one can be bound: {', '.join(sorted(found))}"
        )
    return found.pop()


def what_is_known(gateway: GatewaySettings, desk: Desk) -> list[Known]:
    """Of every partition. Raises ServiceUnavailable."""
    found = []
    with each_log(gateway, desk) as logs:
        for log in logs:
            ends, committed = dict[str, int](), log.committed()
            # Without a name too: whoever sets a group's offsets by hand writes none.
            ends[committed.log] = max(0, committed.offset)
            for _, payload in log.snapshots():
                try:
                    decode_snapshot(payload, desk.name, log.partition)
                except ForeignSnapshot as error:
                    ends[error.log] = max(ends.get(error.log, 0), error.offset)
                except UnusableSnapshot:
                    continue
            found.append(Known(log.partition, ends, frozenset(log.buried(0))))
    return found


def refuse_undecided(trail: ForensicsSettings, known: Known, decided_to: int) -> None:
    """Raise ConfigurationError where more was decided than is on record: what was ordered of it is not known."""
    lacking = known.end - decided_to - sum(decided_to <= offset < known.end for offset in known.buried)
    if lacking > 0:
        raise ConfigurationError(
            f"{trail.ticks_topic}[{known.partition}] was decided to {known.end}, and on record are decisions to "
            f"{decided_to}: {lacking:,} are lost, and with them the book's past"
        )


class Asked(RedisSnapshots):
    """Snapshots of a Redis that must answer: a gateway may do without, and what is to be known may not."""

    def get(self, partition: int) -> bytes | None:
        """Raises ServiceUnavailable."""
        return self.read(partition)


@contextmanager
def each_log(gateway: GatewaySettings, desk: Desk) -> Iterator[Iterator[KafkaPartitionLog]]:
    """The logs of all partitions, as a gateway opens them."""
    place = LogPlace(gateway.kafka_bootstrap, desk.cluster.id, gateway.group, gateway.topics, desk.name)
    base = gateway.limit_set(desk.cluster.partitions)
    with (
        closing(Asked(gateway.redis_url.get_secret_value(), gateway.group)) as fast,
        closing(ControlListener(gateway.kafka_bootstrap, gateway.topics.control, base)) as listener,
        closing(Watermarks(gateway.kafka_bootstrap, gateway.group)) as watermarks,
    ):
        yield (KafkaPartitionLog(place, p, fast, listener, watermarks) for p in range(desk.cluster.partitions))
