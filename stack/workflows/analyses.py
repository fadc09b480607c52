"""The data service's ports on the trail's own code: proofs, replays, and what would have been."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

from services.forensics.gateway_starts import decided_with, starts_of
from services.forensics.proving import prove_record, to_file
from services.forensics.rebindings import rebindings_of
from services.forensics.replay_log import place_of
from services.forensics.replaying import Span, replay_span
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import TrailReader, opened, to_record
from stack.workflows.asking import ModelPlace
from stack.workflows.lived_ticks import lived_ticks
from stack.workflows.risk_simulation import SimulationPart, parts_of_decisions, simulate
from stack.workflows.trusted_keys import trusted
from stack.workflows.what_if import decide_otherwise
from trading.control import read_command, read_limits
from trading.errors import BadRecord, ConfigurationError
from trading.keys import Keys
from trading.risk import limits_file
from trading.risk.limits import LimitSet, LimitsFile

Progress = Callable[[int, int], None]
MOST_DIFFERENT = 20
KEPT_PROOFS = 1000


class TrailEvidence:
    """Implements the data service's Evidence."""

    def __init__(self, settings: ForensicsSettings) -> None:
        """Nothing is asked yet: without a trail the rest of the service answers."""
        self._settings = settings
        self._keys: Keys | None = None
        self._lock = threading.Lock()
        self._proofs: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def proof(self, decision_id: str) -> dict[str, Any] | None:
        """A proof, checked before it is given; what was proven once stays so."""
        with self._lock:
            known = self._proofs.get(decision_id)
        made = known or self._prove(decision_id)
        if made is not None:
            with self._lock:
                self._proofs[decision_id] = made
                if len(self._proofs) > KEPT_PROOFS:
                    self._proofs.popitem(last=False)
        return made

    def _prove(self, decision_id: str) -> dict[str, Any] | None:
        self._keys = self._keys or trusted(self._settings, None)
        with opened(self._settings.reader_url.get_secret_value()) as reader:
            found = reader.find("decisions", "decision_id", decision_id)
            return None if not found else to_object(to_file(prove_record(reader, found[-1], self._keys)))

    def replay(self, decision_id: str, progress: Progress) -> dict[str, Any]:
        """Made again from its partition's beginning."""
        settings = self._settings
        partition, offset = place_of(decision_id, settings.ticks_topic)
        with opened(settings.reader_url.get_secret_value()) as reader:
            ticks = lived_ticks(settings, rebindings_of(reader, settings))
            done = replay_span(reader, ticks, settings, Span(partition, offset, offset), progress)
        if not done.decisions:
            raise ConfigurationError(f"{decision_id} is not on record")
        differences = [msgspec.to_builtins(one.difference) for one in done.different[:MOST_DIFFERENT]]
        return {
            "verdict": "different" if done.different else "same", "decisions": done.decisions,
            "before": done.before, "differences": differences,
        }  # fmt: skip


class TrailAnalyses:
    """Implements the data service's Analyses."""

    def __init__(self, settings: ForensicsSettings, place: ModelPlace) -> None:
        """Of a trail, and where models are asked."""
        self._settings, self._place = settings, place

    def what_if(
        self, decision_id: str, limits: str | None, model: str | None, progress: Progress
    ) -> dict[str, Any]:
        """As `ultrathink forensics what-if`."""
        other = None if limits is None else limits_file.parse(limits)
        recorded, made = decide_otherwise(self._settings, self._place, decision_id, other, model, progress)
        return {"recorded": msgspec.to_builtins(recorded), "what_if": msgspec.to_builtins(made)}

    def simulate(self, limits: str, most_ticks: int, progress: Progress) -> dict[str, Any]:
        """As `ultrathink risk simulate decisions`, of the decisions that are on record."""
        file = limits_file.parse(limits)
        with opened(self._settings.reader_url.get_secret_value()) as reader:
            logs = [row for row in reader.logs() if row.kind == "decisions"]
            books = max(1, len({row.name.partition for row in logs}))
            believed = rebindings_of(reader, self._settings)
            starts = [one for log in logs for one in starts_of(reader, self._settings, log, believed)]
            decided = decided_with(self._settings, sorted(starts, key=lambda one: one.at_ns))
            base, new = (
                LimitSet(one, decided.account, decided.strategy, books) for one in (limits_in_force(reader), file)
            )
            total = min(most_ticks, sum(reader.counts("decisions").values()))
            parts = parts_of_decisions(islice(payloads(reader), most_ticks))
            result, _, _ = simulate("decisions on record", counted(parts, total, progress), base, new)
        told: dict[str, Any] = msgspec.to_builtins(result)
        del told["plot"]
        return told


def to_object(content: bytes) -> dict[str, Any]:
    """A proof's file as it is answered."""
    found: dict[str, Any] = msgspec.json.decode(content)
    return found


def payloads(reader: TrailReader) -> Iterator[bytes]:
    """Of all decisions on record, partition by partition."""
    for log in reader.logs():
        if log.kind == "decisions":
            yield from (to_record(row).value or b"" for row in reader.rows("decisions", log.id, 0))


def limits_in_force(reader: TrailReader) -> LimitsFile | None:
    """The limits that were set last, as they are on record; None where nobody has set any.

    Raises ConfigurationError for those that nobody understands.
    """
    found = reader.find("commands", "kind", "limits")
    if not found:
        return None
    try:
        return read_limits(read_command(found[-1].record.value).value)
    except BadRecord as error:
        raise ConfigurationError(f"the limits on record cannot be compared with: {error}") from error


def counted(parts: Iterator[SimulationPart], total: int, progress: Progress) -> Iterator[SimulationPart]:
    """Tell how far it is."""
    seen = 0
    for part in parts:
        yield part
        seen += len(part.symbols)
        progress(seen, total)
