"""A source sent once, as it was recorded, and every decision about it, whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, structs

from loadtest.errors import InvalidInput, InvalidRun
from loadtest.open_loop.drive import Load, Progress, send_and_read
from loadtest.open_loop.reader import ROW, SEEN, WHOLE
from loadtest.open_loop.schedule import Speed
from trading.errors import UltraThinkError


class Replayed(Struct, frozen=True):
    """What was sent, and what came back; all times are of one clock, in ns.

    Attributes:
        intended_ns: (partition, offset) -> when the tick was meant to be sent.
        payloads: the decisions, in the order in which they were read.
        visible_ns: when each was.
        per_s: ticks a second, as they were handed to the client library; 0 for one.
    """

    intended_ns: dict[tuple[int, int], int]
    payloads: list[bytes]
    visible_ns: list[int]
    per_s: float


def replay(load: Load, show: Callable[[Progress], None] = lambda _: None) -> Replayed:
    """Send and read in processes of their own, so that nothing of this one's is measured.

    Args:
        load: what to send where, and how fast.
        show: called a few times a second.

    Raises:
        InvalidInput: the source cannot be sent at that pace.
        UltraThinkError: nothing came of it, by no fault of the input.
    """
    load = structs.replace(load, as_recorded=True, keep_decisions=True)
    state = Progress()

    def progress(told: dict[str, Any]) -> None:
        state.hear(told)
        show(state)

    with tempfile.TemporaryDirectory(prefix="ultrathink-replay-") as folder:
        try:
            sent, _ = send_and_read(load, folder, {}, progress)
        except InvalidInput:
            raise
        except InvalidRun as error:
            raise UltraThinkError(str(error)) from error
        return collect(Path(folder), sent["bases"], as_meant=Speed.parse(load.speed).kind != "max")


def collect(folder: Path, bases: dict[str, int], *, as_meant: bool) -> Replayed:
    """What both children wrote.

    Args:
        folder: where.
        bases: of each partition, the offset of the first tick.
        as_meant: a tick counts from when it was meant; without a pace, from when it was handed over.

    Raises UltraThinkError where nothing was sent.
    """
    intended: dict[tuple[int, int], int] = {}
    handed: list[int] = []
    for partition, base in bases.items():
        pairs = np.fromfile(folder / f"sent_{partition}.bin", np.int64).reshape(-1, 2)
        meant = pairs[:, 0 if as_meant else 1].tolist()
        handed += pairs[:, 1].tolist()
        intended.update({(int(partition), base + k): ns for k, ns in enumerate(meant)})
    if not handed:
        raise UltraThinkError("no tick was sent")
    rows, whole = np.fromfile(folder / SEEN, ROW), (folder / WHOLE).read_bytes()
    ends = np.cumsum(rows["size"], dtype=np.int64).tolist()
    payloads = [whole[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    seconds = (max(handed) - min(handed)) / 1e9
    return Replayed(
        intended, payloads, rows["visible_ns"].tolist(), (len(handed) - 1) / seconds if seconds else 0.0
    )
