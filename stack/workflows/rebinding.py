"""A log whose topics were made anew, compared with what was decided, and bound to it: signed, and on record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from connectors.kafka.cluster import Cluster, check_cluster
from connectors.kafka.watermarks import Watermarks
from gateway.adapters.kafka_recovery import KafkaPartitionLog, LogPlace
from gateway.adapters.redis_snapshots import RedisSnapshots
from gateway.control.control import Control
from gateway.control.topic import ControlListener, all_commands
from gateway.settings import GatewaySettings
from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.ports import LogName
from services.forensics.rebindings import compare_log, previous_log, rebindings_of
from services.forensics.replay_log import DecisionStream, logs_of
from services.forensics.replaying import Span, replay_span
from services.forensics.settings import ForensicsSettings
from services.forensics.source import KafkaSource
from services.forensics.store.reading import TrailReader, opened, to_record
from services.forensics.verification import verify
from stack.workflows.lived_ticks import lived_ticks
from stack.workflows.trusted_keys import trusted
from trading.encoding import safe_text
from trading.errors import BadRecord, ConfigurationError
from trading.keys import private_key
from trading.models.serving import read_start
from trading.state.codec import ForeignSnapshot, UnusableSnapshot, decode_snapshot
from trading.state.log import log_name
from trading.state.rebinding import ComparedLog, Rebinding, names_before, read_rebinding, sign_rebinding

#: What a gateway takes its past from, and what must not be lost beside it.
COMPARED = ("decisions", "orders", "fills", "dead_letters", "control")
Show = Callable[[str, int, int], None]


class Desk(Struct, frozen=True):
    """What is there now: its cluster and topics, and the name of its log."""

    cluster: Cluster
    name: str


def rebind(
    trail: ForensicsSettings, gateway: GatewaySettings, reason: str, by: str, show: Show, *, try_only: bool = False
) -> Rebinding:
    """Compare the topics that were made anew with the trail, and say so on the control topic, signed.

    Args:
        trail: settings of the audit trail, whose key signs.
        gateway: of those that refuse; none of them may run.
        reason, by: why, and who asks.
        show: told of a stage, how far it is, and of how much.
        try_only: compare, and say nothing.

    Raises:
        ConfigurationError: nothing refuses, or what is there is not what was decided; says where.
        ServiceUnavailable: a server does not answer.
    """
    # Whoever may not sign need not wait for what is compared.
    key = private_key(trail.signing_key)
    cluster = check_cluster(gateway.kafka_bootstrap, gateway.topics)
    desk = Desk(cluster, log_name(cluster.id, cluster.ticks_id, cluster.decisions_id, gateway.group))
    refuse_other_topics(trail, gateway)
    with opened(trail.reader_url.get_secret_value()) as reader:
        seen = what_is_known(gateway, desk)
        was = refused_name(gateway, desk, seen, said_already(gateway, trail))
        ids = ids_of(reader, trail, gateway, desk, was)
        refuse_tampered(reader, trail, show)
        with closing(KafkaSource(trail.kafka_bootstrap, trail.roles())) as source:
            logs, more = compare_all(reader, source, ids, cluster.partitions, show)
        said = safe_text(reason), safe_text(by), time.time_ns()
        asked = Rebinding(was, desk.name, ids | more, tuple(logs), 0, *said)
        replayed = 0
        for partition in range(cluster.partitions):
            count, decided_to = replay_whole(reader, trail, asked, partition, show)
            replayed += count
            refuse_undecided(trail, seen[partition], was, decided_to)
    made = replace(asked, replayed=replayed)
    if not try_only:
        redis_url = gateway.redis_url.get_secret_value()
        text = sign_rebinding(made, key)
        Control(gateway.kafka_bootstrap, gateway.topics.control, redis_url).command("rebind", text, reason, by)
    return made


def said_already(gateway: GatewaySettings, trail: ForensicsSettings) -> list[Rebinding]:
    """What the control topic holds, signed by a key of ours. Raises ServiceUnavailable and ConfigurationError."""
    keys, found = trusted(trail, None), []
    for command in all_commands(gateway.kafka_bootstrap, gateway.topics.control):
        if command.kind == "rebind":
            with suppress(BadRecord):
                found.append(read_rebinding(command.value, keys))
    return found


def refuse_other_topics(trail: ForensicsSettings, gateway: GatewaySettings) -> None:
    """Raise ConfigurationError where the trail is of other topics than the gateway's: it says nothing of those."""
    known, roles = trail.roles(), gateway.topics.by_role()
    wrong = [f"{roles[role]} ({role})" for role in COMPARED if known.get(roles[role]) != role]
    if wrong or trail.ticks_topic != gateway.topics.ticks or trail.kafka_bootstrap != gateway.kafka_bootstrap:
        told = ", ".join(wrong) or f"{gateway.topics.ticks} at {gateway.kafka_bootstrap}"
        raise ConfigurationError(f"the trail's settings and the gateway's name other topics or brokers: {told}")


def refused_name(gateway: GatewaySettings, desk: Desk, seen: Sequence[Known], bound: Sequence[Rebinding]) -> str:
    """The log that a gateway would find its past to be of. Raises ConfigurationError for none, or many."""
    known = names_before(desk.name, bound)
    found = {name for one in seen for name in one.ends} - known - {desk.name}
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


class Known(Struct, frozen=True):
    """What commits and snapshots say of a partition: name of a log -> the tick after the last decided there.

    `buried` are ticks whose dead letters are published.
    """

    partition: int
    ends: dict[str, int]
    buried: frozenset[int]


def what_is_known(gateway: GatewaySettings, desk: Desk) -> list[Known]:
    """Of every partition. Raises ServiceUnavailable."""
    found = []
    with each_log(gateway, desk) as logs:
        for log in logs:
            ends, committed = dict[str, int](), log.committed()
            if committed.log.endswith(f"/{gateway.group}"):
                ends[committed.log] = committed.offset
            for _, payload in log.snapshots():
                try:
                    decode_snapshot(payload, desk.name, log.partition)
                except ForeignSnapshot as error:
                    if error.log.endswith(f"/{gateway.group}"):
                        ends[error.log] = max(ends.get(error.log, 0), error.offset)
                except UnusableSnapshot:
                    continue
            found.append(Known(log.partition, ends, frozenset(log.buried(0))))
    return found


def refuse_undecided(trail: ForensicsSettings, known: Known, was: str, decided_to: int) -> None:
    """Raise ConfigurationError where more was decided than is on record: what was ordered of it is not known."""
    end = known.ends.get(was, 0)
    lacking = end - decided_to - sum(decided_to <= offset < end for offset in known.buried)
    if lacking > 0:
        raise ConfigurationError(
            f"{trail.ticks_topic}[{known.partition}] was decided to {end}, and on record are decisions to "
            f"{decided_to}: {lacking:,} are lost, and with them the book's past"
        )


@contextmanager
def each_log(gateway: GatewaySettings, desk: Desk) -> Iterator[Iterator[KafkaPartitionLog]]:
    """The logs of all partitions, as a gateway opens them."""
    place = LogPlace(gateway.kafka_bootstrap, desk.cluster.id, gateway.group, gateway.topics, desk.name)
    base = gateway.limit_set(desk.cluster.partitions)
    with (
        closing(RedisSnapshots(gateway.redis_url.get_secret_value(), gateway.group)) as fast,
        closing(ControlListener(gateway.kafka_bootstrap, gateway.topics.control, base)) as listener,
        closing(Watermarks(gateway.kafka_bootstrap, gateway.group)) as watermarks,
    ):
        yield (KafkaPartitionLog(place, p, fast, listener, watermarks) for p in range(desk.cluster.partitions))


def ids_of(
    reader: TrailReader, trail: ForensicsSettings, gateway: GatewaySettings, desk: Desk, was: str
) -> dict[str, str]:
    """Old id -> new id of ticks and decisions, as far as they changed, as the starts on record name them.

    Raises ConfigurationError where no gateway that is on record has decided that log.
    """
    for log in reader.logs():
        if log.kind != "starts" or log.name.topic != trail.starts_topic:
            continue
        for row in reader.rows("starts", log.id, 0):
            try:
                start = read_start(to_record(row).value)
            except BadRecord:
                continue
            if was.endswith(f"/{start.ticks_topic_id}/{start.decisions_topic_id}/{gateway.group}"):
                if start.partitions != desk.cluster.partitions:
                    raise ConfigurationError(
                        f"the topics have {desk.cluster.partitions} partitions, and had {start.partitions}: "
                        "symbols would be decided by other books"
                    )
                pairs = {
                    start.ticks_topic_id: desk.cluster.ticks_id, start.decisions_topic_id: desk.cluster.decisions_id
                }  # fmt: skip
                return {old: new for old, new in pairs.items() if old != new}
    raise ConfigurationError(f"no start of a gateway on record names the log {was}: nobody can say what it held")


def refuse_tampered(reader: TrailReader, trail: ForensicsSettings, show: Show) -> None:
    """Raise ConfigurationError where the trail is not what was signed: nothing can be measured by it."""
    done, total = 0, reader.count()

    def advance(count: int) -> None:
        nonlocal done
        done += count
        show("the trail is verified", done, total)

    lines = CheckpointFiles(trail.checkpoints).lines()
    found = verify(reader, lines, trusted(trail, None), advance=advance, keep_days=trail.keep_days).findings
    if found:
        raise ConfigurationError(
            f"the trail is not as it was signed ({len(found)} findings, the first: {found[0].detail}): "
            "`ultrathink forensics verify` tells all"
        )


def compare_all(
    reader: TrailReader, source: KafkaSource, known: Mapping[str, str], partitions: int, show: Show
) -> tuple[list[ComparedLog], dict[str, str]]:
    """What was compared of every topic that was made anew, and its old id -> its new one.

    `known` are those of ticks and decisions, old id -> new id: decisions of any other past are not these.
    """
    compared, ids = [], dict[str, str]()
    for name, role in sorted(source.logs().items()):
        old = previous_log(reader, name)
        if role == "decisions":
            old = next((row for row in reader.logs() if was_of(row.name, name, known)), None)
            if old is None and name.topic_id not in known.values():
                continue
        elif role not in COMPARED or old is None:
            continue
        if old is not None:
            ids[old.name.topic_id] = name.topic_id
        compared.append(
            compare_log(
                reader, old, name, source.bounds(name), partial(source.committed, name),
                partial(show, f"{name} is compared"),
                # Somebody may have stopped the new desk.
                may_go_on=role == "control",
            )
        )  # fmt: skip
    missing = [one for one in reader.logs() if one.name.topic_id in ids and one.name.partition >= partitions]
    if missing:
        raise ConfigurationError(f"{missing[0].name} is on record, and {missing[0].name.topic} has not got it now")
    return compared, ids


def was_of(old: LogName, name: LogName, known: Mapping[str, str]) -> bool:
    """Whether a log is what this one was before."""
    return known.get(old.topic_id) == name.topic_id and old.partition == name.partition


def replay_whole(
    reader: TrailReader, trail: ForensicsSettings, asked: Rebinding, partition: int, show: Show
) -> tuple[int, int]:
    """Every decision of a partition made again of the ticks that are there now.

    Returns how many, and the tick after the last. Raises ConfigurationError.
    """
    logs = logs_of(reader, partition, trail.roles(), set(asked.ids.values()))
    if "decisions" not in logs:
        return 0, 0
    stream, decided, decided_to = DecisionStream(reader, logs["decisions"], trail.ticks_topic), 0, 0
    while (offset := stream.first()) is not None:
        stream.up_to(offset)
        decided, decided_to = decided + 1, offset + 1
    ticks = lived_ticks(trail, [*rebindings_of(reader, trail), asked])

    told = partial(show, f"partition {partition} is decided again")
    found = replay_span(reader, ticks, trail, Span(partition), told, asked)
    place = f"{trail.ticks_topic}[{partition}]"
    if found.different:
        first = found.different[0]
        why = "" if first.difference is None else f" ({first.difference.why or first.difference.field})"
        raise ConfigurationError(
            f"{place} does not hold the ticks that were decided: of {first.decision_id} another decision would be "
            f"made{why}, and of {len(found.different) - 1:,} more"
        )
    if found.decisions != decided:
        raise ConfigurationError(
            f"{place} lacks {decided - found.decisions:,} of the {decided:,} ticks that were decided"
        )
    return decided, decided_to
