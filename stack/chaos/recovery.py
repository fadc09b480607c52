"""How long after a fault every partition is decided by the model again."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping

from msgspec import Struct

from loadtest.open_loop.watcher import DecisionWatcher
from trading.decision.wire import place
from trading.encoding import Records
from trading.errors import BadRecord, ServiceUnavailable

#: A fault that takes longer than this is a pause: it is judged as it lasts.
AT_ONCE_S = 1.0
#: Decisions that were on their way when the fault came.
ON_THEIR_WAY_NS = 100_000_000


class Answered(Struct):
    """What recovery is told by."""

    decision_id: str
    regime_probabilities: list[float]


_answered = Records(Answered)


class Fault(Struct, frozen=True):
    """When it happened.

    Attributes:
        since: partition -> next offset of the ticks when it began.
        after: the same when it was over.
        began_ns: wall time.
        took_s: how long making it took.
    """

    since: Mapping[int, int]
    after: Mapping[int, int]
    began_ns: int
    took_s: float

    def is_past(self, partition: int, offset: int, visible_ns: int) -> bool:
        """Whether a decision, visible then, shows that its partition is decided again.

        A kill is over at once, so a decision of what came later counts; a pause is judged as it lasts, and
        partitions that went on elsewhere count from the moment when they did.
        """
        fresh = offset >= self.since[partition] and visible_ns > self.began_ns + ON_THEIR_WAY_NS
        return fresh and (self.took_s > AT_ONCE_S or offset >= self.after[partition])


def recovered_after(watcher: DecisionWatcher, fault: Fault, partitions: int, timeout_s: float) -> float:
    """Seconds from the fault until each partition has been decided by the model. Raises ServiceUnavailable."""
    deadline = time.monotonic() + timeout_s
    first: dict[int, float] = {}
    # What was seen before says nothing of it, and may be a hundred thousand decisions.
    read = bisect_right(watcher.visible_ns, fault.began_ns)
    while len(first) < partitions and time.monotonic() < deadline:
        payloads = watcher.payloads[read:]
        for payload, visible_ns in zip(payloads, watcher.visible_ns[read:], strict=False):
            try:
                answered = _answered.read(payload)
            except BadRecord:
                continue  # the comparison counts it
            partition, offset = place(answered.decision_id)
            if answered.regime_probabilities and fault.is_past(partition, offset, visible_ns):
                first.setdefault(partition, (visible_ns - fault.began_ns) / 1e9)
        read += len(payloads)
        time.sleep(0.02)
    if len(first) < partitions:
        raise ServiceUnavailable(f"after {timeout_s:.0f} s only partitions {sorted(first)} are decided again")
    return max(first.values())
