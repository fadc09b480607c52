"""A partition's log as a rebuild reads it, and whose log it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from trading.errors import ConfigurationError
from trading.events import Command, ExecutionReport
from trading.risk.limits import LimitSet

#: Of a log that is not the one that was decided.
WAY_OUT = (
    "Bring the topic back; or, where it holds what the old one did, say so with `ultrathink forensics rebind`; or "
    "begin a new book on purpose: new topics of decisions and snapshots, and another group"
)


def log_name(cluster: str, ticks_id: str, decisions_id: str, group: str) -> str:
    """What names the logs of a desk: by the ids of cluster and topics, which a topic that is made anew has not."""
    return f"{cluster}/{ticks_id}/{decisions_id}/{group}"


def is_of_desk(name: str, cluster: str, group: str) -> bool:
    """Whether a name of logs is of this cluster and group. Ids are base64: a slash may be part of one."""
    return name.startswith(f"{cluster}/") and name.endswith(f"/{group}")


class LoggedMessage(Struct, frozen=True):
    """A message of the ticks' partition as it lies in the log; `sent_ns` by the producer's clock, `appended_ns` by
    the broker's.
    """

    offset: int
    sent_ns: int
    key: bytes | None
    payload: bytes | None
    traceparent: bytes | None
    appended_ns: int


class PartitionLog(Protocol):
    """What a rebuild reads of one partition. Every method may raise ServiceUnavailable.

    Attributes:
        name: what a snapshot must say that it is of: these very logs, and the group's.
        was: names that these logs had before, by signed rebindings, with the tick after the last decided then.
        cluster, group: what any log of this desk is named by.
        ticks_topic: where the ticks lie.
        partition: which of its partitions.
    """

    name: str
    was: Mapping[str, int]
    cluster: str
    group: str
    ticks_topic: str
    partition: int

    def committed(self) -> Committed:
        """What the group has committed of the ticks; an open transaction is waited for."""

    def bounds(self) -> tuple[int, int]:
        """The first offset that the ticks still hold, and the one after their last."""

    def buried(self, since: int) -> Collection[int]:
        """Offsets of ticks at or after `since` whose dead letters are published."""

    def snapshots(self) -> Iterator[tuple[str, bytes]]:
        """Where a snapshot lay, and its bytes; the quickest to have first, read as far as they are asked for."""

    def ticks(self, start: int, stop: int) -> Iterator[Sequence[LoggedMessage]]:
        """Messages from `start` to before `stop`, in order, some at a time."""

    def decisions(self, start: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """Offsets and payloads of decisions from `start` to the end, in order, some at a time."""

    def reports(self, start: int, stop: int) -> list[tuple[int, ExecutionReport]]:
        """Offsets and reports of the broker from `start` to before `stop`; the log must reach that far."""

    def commands(self, start: int, stop: int) -> list[tuple[Command, LimitSet | None]]:
        """Commands that change limits or latches, from `start` to before `stop` of the control topic."""


class Committed(Struct, frozen=True):
    """A committed offset of the ticks: negative where there is none.

    `log` names the log that it was committed for, "" where that was not noted.
    """

    offset: int
    log: str = ""


class OtherLog(ConfigurationError):
    """What was decided, or committed, is of another log than the one that lies under its name now."""


def check_log(
    log: PartitionLog, committed: Committed, known: int, end: int, decisions_end: int, foreign: str
) -> None:
    """What is known of the ticks must lie in the ticks that are there, and what is committed must be decided.

    Args:
        log: of the partition.
        committed: of its ticks.
        known: offset after the last tick that is decided or committed.
        end: of the ticks.
        decisions_end: of the decisions.
        foreign: another log of this desk that a snapshot says its decisions are of; "" where none does.

    Raises:
        OtherLog: with both offsets, or both logs.
    """
    what = f"{log.ticks_topic}[{log.partition}]"
    why = ""
    if committed.log and committed.log != log.name and committed.offset > log.was.get(committed.log, -1):
        why = (
            f"{what} is committed to {committed.offset} of the log {committed.log}, and this is {log.name}: a "
            "topic was recreated"
        )
    elif known > end:
        why = f"{what} is decided to {known} and ends at {end}: it was recreated or cut short"
    elif foreign and decisions_end > 0:
        why = (
            f"{what} is decided to {known}, and a snapshot of that is of the log {foreign}; this is {log.name}: a "
            "topic was recreated"
        )
    elif committed.offset > 0 and not committed.log and decisions_end == 0:
        why = (
            f"{what} is committed to {committed.offset}, and nothing lies in its decisions: they were recreated, "
            "and with them the book's past is gone"
        )
    if why:
        raise OtherLog(f"{why}. {WAY_OUT}")
