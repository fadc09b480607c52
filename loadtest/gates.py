"""What a load test must show."""

from __future__ import annotations

from msgspec import Struct


class Target(Struct, frozen=True):
    """Limits of a run."""

    p99_ms: float = 50.0
    max_error_ratio: float = 0.001
    min_samples: int = 100


TARGET = Target()


def misses(samples: int, failures: int, p99_ms: float, target: Target = TARGET) -> list[str]:
    """A sentence for each target that was missed; too few samples prove nothing, and miss."""
    missed = []
    if samples < target.min_samples:
        missed.append(f"{samples} requests, at least {target.min_samples} are needed")
    if samples and failures / samples > target.max_error_ratio:
        missed.append(f"{failures} of {samples} requests failed")
    if p99_ms > target.p99_ms:
        missed.append(f"p99 {p99_ms:.1f} ms, the target is {target.p99_ms:.0f} ms")
    return missed
