"""Both sides of a run joined by partition and offset, in pieces: memory does not grow with the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from loadtest.measuring.latency_tally import Tally
from loadtest.open_loop.reader import ROW, SEEN, UNKNOWN
from trading.decision.schema import REASONS, Reason

#: Rows that are joined at once.
CHUNK = 500_000
#: Answers that say why nothing was decided about the tick.
UNDECIDED = {
    Reason.DEADLINE,
    Reason.SUPERSEDED,
    Reason.PREDICTOR_TIMEOUT,
    Reason.PREDICTOR_UNAVAILABLE,
    Reason.PREDICTOR_INVALID,
}
Ints = npt.NDArray[np.int64]


class Joined(Struct, frozen=True):
    """A tally, and what it does not know; see Result."""

    tally: Tally
    repeated: int
    undecided: dict[str, int]
    bytes_an_answer: float


class Sent:
    """What one partition was sent, mapped from its file; and which of it was seen."""

    def __init__(self, path: Path, base: int) -> None:
        size = path.stat().st_size // 16
        self.base = base
        self.pairs: Ints = np.memmap(path, np.int64, "r", shape=(size, 2)) if size else np.zeros((0, 2), np.int64)
        self.seen = np.zeros(size, np.bool_)

    def first_seen(self, rows: npt.NDArray[np.void]) -> tuple[Ints, npt.NDArray[np.void], Ints]:
        """Places in `pairs` of what is seen for the first time, its rows, and places that came again."""
        places = rows["offset"] - self.base
        # A decision of a tick that we did not send (before our base) is not ours.
        ours = (places >= 0) & (places < len(self.pairs))
        places, rows = places[ours], rows[ours]
        distinct, first = np.unique(places, return_index=True)
        fresh = ~self.seen[distinct]
        again = np.concatenate([np.delete(places, first), distinct[~fresh]])
        self.seen[distinct] = True
        return distinct[fresh], rows[first[fresh]], again


def join(folder: Path, sent: dict[str, Any], warm_up_s: float) -> Joined:
    """Join `sent_*.bin` and `seen.bin` of a run.

    Args:
        folder: where both children wrote.
        sent: what the sender told: "start_ns", and "bases" by partition.
        warm_up_s: what was meant in the first seconds is left out.
    """
    partitions = {int(p): Sent(folder / f"sent_{p}.bin", base) for p, base in sent["bases"].items()}
    from_ns = sent["start_ns"] + int(warm_up_s * 1e9)
    last_ns = max((int(p.pairs[-1, 0]) for p in partitions.values() if len(p.pairs)), default=from_ns)
    tally = Tally(from_ns, last_ns)
    undecided: Counter[str] = Counter()
    repeated = size = 0
    for rows in pieces(folder / SEEN):
        for number, mine in partitions.items():
            places, first, again = mine.first_seen(rows[rows["partition"] == number])
            pairs = mine.pairs[places]
            tally.add(pairs[:, 0], pairs[:, 1], first["visible_ns"])
            first = first[tally.measured(pairs[:, 0])]
            repeated += int(tally.measured(mine.pairs[again, 0]).sum())
            size += int(first["size"].sum())
            undecided.update(undecided_in(first["reason"]))
    for mine in partitions.values():
        for begin in range(0, len(mine.pairs), CHUNK):
            part = mine.pairs[begin : begin + CHUNK]
            tally.plan(part[:, 0], part[:, 1])
    return Joined(tally, repeated, dict(undecided), size / max(1, tally.answered))


def pieces(path: Path) -> Iterator[npt.NDArray[np.void]]:
    """The reader's rows, some at a time."""
    with path.open("rb") as file:
        while len(rows := np.fromfile(file, ROW, CHUNK)):
            yield rows


def undecided_in(reasons: npt.NDArray[np.int16]) -> dict[str, int]:
    """How many of each reason that decides nothing."""
    codes, counts = np.unique(reasons, return_counts=True)
    return {
        REASONS[code].value: count
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if code != UNKNOWN and REASONS[code] in UNDECIDED
    }
