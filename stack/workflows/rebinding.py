"""A log whose topics were made anew, compared with what was decided, and bound to it: signed, and on record."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from connectors.kafka.cluster import check_cluster
from gateway.control.control import Control
from gateway.control.redis_latch import MOST_REASON
from gateway.control.topic import all_commands
from gateway.settings import GatewaySettings
from services.forensics.checkpoint_files import PUBLIC_KEY, CheckpointFiles
from services.forensics.checkpoints import read
from services.forensics.gateway_starts import all_starts
from services.forensics.ports import LogName
from services.forensics.rebindings import compare_log, previous_log, rebindings_of
from services.forensics.replay_log import logs_of
from services.forensics.replaying import Span, replay_span
from services.forensics.settings import ForensicsSettings
from services.forensics.source import KafkaSource
from services.forensics.store.reading import TrailReader, opened
from services.forensics.verification import verify
from stack.workflows.known_past import (
    Desk,
    refuse_members,
    refuse_other_topics,
    refuse_undecided,
    refused_name,
    what_is_known,
)
from stack.workflows.lived_ticks import lived_ticks
from stack.workflows.trail_gaps import records
from stack.workflows.trusted_keys import trusted
from stack.workflows.walked_ticks import Walked, walk
from trading.encoding import safe_text
from trading.errors import BadRecord, ConfigurationError
from trading.keys import key_id, private_key, public_keys, public_path
from trading.state.log import log_name
from trading.state.rebinding import ComparedLog, Rebinding, read_rebinding, sign_rebinding

#: What a gateway takes its past from, and what must not be lost beside it.
COMPARED = ("decisions", "orders", "fills", "dead_letters", "control")
Show = Callable[[str, int, int], None]


def rebind(
    trail: ForensicsSettings,
    gateway: GatewaySettings,
    reason: str,
    by: str,
    show: Show,
    *,
    try_only: bool = False,
    believe_unsigned: bool = False,
) -> Rebinding:
    """Compare the topics that were made anew with the trail, and say so on the control topic, signed.

    Args:
        trail: settings of the audit trail, whose key signs.
        gateway: of those that refuse; none of them may run.
        reason, by: why, and who asks.
        show: told of a stage, how far it is, and of how much.
        try_only: compare, and say nothing.
        believe_unsigned: measure by records too that nobody has signed yet.

    Raises:
        ConfigurationError: nothing refuses, or what is there is not what was decided; says where.
        ServiceUnavailable: a server does not answer.
    """
    if not reason.strip():
        raise ConfigurationError(
            "a reason goes on record for good: say with --reason why the topics were made anew"
        )
    # Whoever may not sign need not wait for what is compared.
    key = private_key(trail.signing_key)
    refuse_unknown_key(gateway, trail.signing_key, trail.checkpoints, key_id(key.public_key()))
    cluster = check_cluster(gateway.kafka_bootstrap, gateway.topics)
    desk = Desk(cluster, log_name(cluster.id, cluster.ticks_id, cluster.decisions_id, gateway.group))
    refuse_other_topics(trail, gateway, COMPARED)
    refuse_members(gateway)
    with opened(trail.reader_url.get_secret_value()) as reader:
        refuse_tampered(reader, trail, show)
        made = measured(reader, trail, gateway, desk, show, believe_unsigned=believe_unsigned)
    made = replace(
        made, reason=safe_text(reason)[:MOST_REASON], by=safe_text(by)[:MOST_REASON], at_ns=time.time_ns()
    )
    if not try_only:
        # What is compared takes its time, in which somebody may have started one.
        refuse_members(gateway)
        redis_url = gateway.redis_url.get_secret_value()
        text = sign_rebinding(made, key)
        Control(gateway.kafka_bootstrap, gateway.topics.control, redis_url).command("rebind", text, reason, by)
    return made


def refuse_unknown_key(gateway: GatewaySettings, path: Path, checkpoints: Path, name: str) -> None:
    """Raise ConfigurationError where the gateways would not believe it."""
    if name not in public_keys(gateway.rebinding_keys):
        known = ", ".join(map(str, gateway.rebinding_keys)) or "none"
        # In a container the private key lies alone, and forensics hands the public one out with the checkpoints.
        halves = [one for one in (public_path(path), checkpoints / PUBLIC_KEY) if name in keys_in(one)]
        where = str(halves[0]) if halves else "which forensics hands out as it starts with that key"
        raise ConfigurationError(
            f"gateways of these settings do not believe the key {name} of {path} "
            f"(ULTRATHINK_GATEWAY_REBINDING_KEYS: {known}): name its public half there, {where}, here and where "
            "they run"
        )


def keys_in(path: Path) -> Collection[str]:
    """Ids of the public keys that a file holds; none where it cannot be read."""
    try:
        return public_keys([path])
    except ConfigurationError:
        return ()


def measured(
    reader: TrailReader, trail: ForensicsSettings, gateway: GatewaySettings, desk: Desk, show: Show, *,
    believe_unsigned: bool,
) -> Rebinding:  # fmt: skip
    """What is to be signed, once it says why and by whom. Raises as `rebind`."""
    seen = what_is_known(gateway, desk)
    was = refused_name(gateway, desk, seen, said_already(gateway, trail))
    ids = ids_of(reader, trail, gateway, desk, was)
    with closing(KafkaSource(trail.kafka_bootstrap, trail.roles())) as source:
        logs, more = compare_all(reader, source, ids, desk.cluster.partitions, signed_sizes(trail), show)
    if (unsigned := sum(one.unsigned for one in logs)) and not believe_unsigned:
        raise ConfigurationError(
            f"{unsigned:,} of the records on record are signed by no checkpoint: whoever owns the database may "
            "have written them. --believe-unsigned measures by them all the same"
        )
    asked = Rebinding(was, desk.name, ids | more, tuple(logs), (), 0, "", "", 0)
    replayed, ends = 0, []
    for known in seen:
        walked = replay_whole(reader, trail, asked, known.partition, show)
        refuse_undecided(trail, known, walked.decided_to)
        replayed += walked.decided
        ends.append(max(walked.decided_to, known.end))
    return replace(asked, replayed=replayed, ends=tuple(ends))


def said_already(gateway: GatewaySettings, trail: ForensicsSettings) -> list[Rebinding]:
    """What the control topic holds, signed by a key of ours. Raises ServiceUnavailable and ConfigurationError."""
    keys, found = trusted(trail, None), []
    for command in all_commands(gateway.kafka_bootstrap, gateway.topics.control):
        if command.kind == "rebind":
            with suppress(BadRecord):
                found.append(read_rebinding(command.value, keys))
    return found


def ids_of(
    reader: TrailReader, trail: ForensicsSettings, gateway: GatewaySettings, desk: Desk, was: str
) -> dict[str, str]:
    """Old id -> new id of ticks and decisions, as far as they changed, as the starts on record name them.

    Raises ConfigurationError where no gateway that is on record has decided that log.
    """
    partitions = desk.cluster.partitions
    for start in sorted(all_starts(reader, trail), key=lambda one: one.at_ns, reverse=True):
        if was.endswith(f"/{start.ticks_topic_id}/{start.decisions_topic_id}/{gateway.group}"):
            if start.partitions != partitions:
                raise ConfigurationError(
                    f"the topics have {partitions} partitions, and had {start.partitions}: symbols would be "
                    "decided by other books"
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
    reader: TrailReader,
    source: KafkaSource,
    known: Mapping[str, str],
    partitions: int,
    signed: Mapping[LogName, int],
    show: Show,
) -> tuple[list[ComparedLog], dict[str, str]]:
    """What was compared of every topic that was made anew, and its old id -> its new one.

    `known` are those of ticks and decisions, old id -> new id: decisions of any other past are not these. `signed`
    says how many records of a log are.
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
        found = compare_log(
            reader, old, name, source.bounds(name), partial(source.committed, name),
            partial(show, f"{name} is compared"),
            # Somebody may have stopped the new desk.
            may_go_on=role == "control",
        )  # fmt: skip
        unsigned = 0 if old is None else max(0, records(reader, old) - signed.get(old.name, 0))
        compared.append(replace(found, unsigned=unsigned))
    missing = [one for one in reader.logs() if one.name.topic_id in ids and one.name.partition >= partitions]
    if missing:
        raise ConfigurationError(f"{missing[0].name} is on record, and {missing[0].name.topic} has not got it now")
    return compared, ids


def signed_sizes(trail: ForensicsSettings) -> Mapping[LogName, int]:
    """How many records of each log the last checkpoint covers. Raises ConfigurationError where it is none."""
    if (line := CheckpointFiles(trail.checkpoints).last()) is None:
        return {}
    try:
        return read(line, trusted(trail, None)).sizes
    except BadRecord as error:
        raise ConfigurationError(f"the last checkpoint in {trail.checkpoints} is none: {error}") from None


def was_of(old: LogName, name: LogName, known: Mapping[str, str]) -> bool:
    """Whether a log is what this one was before."""
    return known.get(old.topic_id) == name.topic_id and old.partition == name.partition


def replay_whole(
    reader: TrailReader, trail: ForensicsSettings, asked: Rebinding, partition: int, show: Show
) -> Walked:
    """Every message held against what is on record of it, and every decision made again. Raises as `walk`."""
    logs = logs_of(reader, partition, trail.roles(), set(asked.ids.values()))
    if "decisions" not in logs:
        return Walked()
    place, ticks = f"{trail.ticks_topic}[{partition}]", lived_ticks(trail, [*rebindings_of(reader, trail), asked])
    seen = partial(show, f"{place} is looked at")
    walked = walk(reader, ticks, logs, (trail.ticks_topic, partition), seen)
    told = partial(show, f"{place} is decided again")
    found = replay_span(reader, ticks, trail, Span(partition), told, asked)
    if found.different or found.decisions != walked.decided:
        first = next((one for one in found.different if one.difference is not None), None)
        where = "" if first is None or first.difference is None else (
            f", the first {first.decision_id} ({first.difference.why or first.difference.field})"
        )  # fmt: skip
        settings = f"; {found.said}" if found.said else ""
        raise ConfigurationError(
            f"{place} does not hold the ticks that were decided, or they were decided by other settings: "
            f"of {walked.decided:,} decisions {found.decisions:,} were made again, and {len(found.different):,} "
            f"differ{where}{settings}"
        )
    return walked
