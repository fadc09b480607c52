"""The contiguous watermark of completed offsets, a partition."""

from __future__ import annotations

import threading
from collections import deque


class OffsetTracker:
    """Knows up to where every tick is safely decided. Gaps in the log (compaction, aborts) are fine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[int, deque[int]] = {}
        self._done: dict[int, set[int]] = {}
        self._next: dict[int, int] = {}
        self._reported: dict[int, int] = {}

    def reading(self, partitions: list[int], offsets: list[int]) -> None:
        """Note offsets that were read, in order within each partition."""
        with self._lock:
            for partition, offset in zip(partitions, offsets, strict=True):
                self._pending.setdefault(partition, deque()).append(offset)

    def done(self, partition: int, offset: int) -> None:
        """Note an offset whose decision or dead letter is safe."""
        with self._lock:
            pending = self._pending.get(partition)
            if pending is None:
                return  # the partition was given away meanwhile
            finished = self._done.setdefault(partition, set())
            finished.add(offset)
            while pending and pending[0] in finished:
                first = pending.popleft()
                finished.remove(first)
                self._next[partition] = first + 1

    def committable(self) -> dict[int, int]:
        """Partition -> next offset to read, for those that moved since the last call."""
        with self._lock:
            moved = {p: n for p, n in self._next.items() if self._reported.get(p) != n}
            self._reported.update(moved)
            return moved

    def unfinished(self) -> int:
        """Ticks read but not yet safe."""
        with self._lock:
            return sum(len(p) for p in self._pending.values())

    def forget(self, partition: int) -> None:
        """The partition belongs to another gateway."""
        with self._lock:
            self._pending.pop(partition, None)
            self._done.pop(partition, None)
            self._next.pop(partition, None)
            self._reported.pop(partition, None)
