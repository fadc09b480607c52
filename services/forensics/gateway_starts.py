"""What the gateways that decided said of themselves, as far as a replay depends on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import LogRow, TrailReader, to_record
from trading.decision.wire import decode_decision
from trading.errors import BadRecord, ConfigurationError
from trading.models.serving import GatewayStart, read_start
from trading.state.rebinding import Rebinding, ids_before


class DecidedWith(Struct, frozen=True):
    """Settings that orders depended on.

    Attributes:
        account, strategy: whose limits held.
        rebalance_band: below which a change is not traded.
        said: where gateways were started with several; "" where all agree, or a setting was given.
    """

    account: str
    strategy: str
    rebalance_band: float
    said: str = ""


#: Of a gateway that was started before starts were on record, unless a setting says otherwise.
BEFORE = DecidedWith("desk", "", 0.05)


def starts_of(
    reader: TrailReader, settings: ForensicsSettings, decisions: LogRow, rebindings: Sequence[Rebinding] = ()
) -> list[GatewayStart]:
    """Starts of those that wrote to a log of decisions, the oldest first, up to its last decision.

    What cannot be read is none; a gateway that began after the last decision has decided nothing yet. Of a log that
    continues another by one of the `rebindings`, those of the other are among them.
    """
    last_ns, ids = last_decided_ns(reader, decisions), {decisions.name.topic_id}
    ids |= ids_before(decisions.name.topic_id, rebindings)
    found = [one for one in all_starts(reader, settings) if one.decisions_topic_id in ids and one.at_ns <= last_ns]
    return sorted(found, key=lambda one: one.at_ns)


def all_starts(reader: TrailReader, settings: ForensicsSettings) -> Iterator[GatewayStart]:
    """Every start on record, as it lies there; what cannot be read is none."""
    for log in reader.logs():
        if log.kind == "starts" and log.name.topic == settings.starts_topic:
            for row in reader.rows("starts", log.id, 0):
                with suppress(BadRecord):
                    yield read_start(to_record(row).value)


def last_decided_ns(reader: TrailReader, decisions: LogRow) -> int:
    """When the last decision of a log was made, ns since 1970; the end of time where none can be read."""
    batch = reader.batch_before(decisions.id, 2**63 - 1)
    if batch is not None:
        for row in reader.rows("decisions", decisions.id, batch.last_offset):
            with suppress(BadRecord):
                return decode_decision(to_record(row).value or b"").decided_at_ns
    return 2**63 - 1


def decided_with(settings: ForensicsSettings, starts: Sequence[GatewayStart]) -> DecidedWith:
    """As the settings say, else as the newest start does."""
    distinct = {(s.account, s.strategy, s.rebalance_band): s for s in starts}
    newest = starts[-1] if starts else BEFORE
    found = DecidedWith(
        newest.account if settings.account is None else settings.account,
        newest.strategy if settings.strategy is None else settings.strategy,
        newest.rebalance_band if settings.rebalance_band is None else settings.rebalance_band,
    )
    if len(distinct) < 2 or None not in {settings.account, settings.strategy, settings.rebalance_band}:
        return found
    told = "; ".join(f"account {a}, strategy {s or 'none'}, band {b:g}" for a, s, b in distinct)
    return DecidedWith(
        found.account, found.strategy, found.rebalance_band,
        f"gateways were started with {told}: the newest is taken (ULTRATHINK_FORENSICS_ACCOUNT, _STRATEGY and "
        "_REBALANCE_BAND say otherwise)",
    )  # fmt: skip


def refuse_other_ticks(
    settings: ForensicsSettings, starts: Sequence[GatewayStart], topic_id: str, rebindings: Sequence[Rebinding] = ()
) -> None:
    """Raise ConfigurationError where decisions were made of another topic than the one of this name now.

    One that it continues by one of the `rebindings` is no other.
    """
    known = {topic_id} | ids_before(topic_id, rebindings)
    others = sorted({s.ticks_topic_id for s in starts if s.ticks_topic == settings.ticks_topic} - known)
    if others:
        raise ConfigurationError(
            f"the decisions were made of a {settings.ticks_topic} of id {', '.join(others)}, and the one that is "
            f"there now has the id {topic_id}: it was made anew since"
        )
