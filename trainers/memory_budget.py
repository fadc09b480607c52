"""Memory: how much there is, a budget that is kept, and what to do where a batch does not fit.

Who only counts memory, as the orchestrator does, does not load torch for it.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import psutil

from trading.errors import ConfigurationError

CGROUP = Path("/sys/fs/cgroup")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: What Linux's and torch's allocators say when there is no more.
OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory", re.IGNORECASE
)
#: What one training needs beside its data: interpreter, torch, MLflow's client, and what they reserve: a ceiling
#: counts that too.
BASE_BYTES = 1_500 * 2**20
#: Of torch on a CPU. These networks are small: a second thread saves 6 % at most on two idle cores. Where others
#: work too, the two wait for one another most of the time: such a training took five times as long.
THREADS = 1


def parse_bytes(text: str) -> int:
    """Bytes of "800M", "6G" or "6GB". Raises ConfigurationError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)i?B?", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0.0:
        raise ConfigurationError(f"memory {text!r}: expected a number with K, M, G or T, as 6G")
    return int(float(match[1]) * UNITS[match[2].upper()])


def available_bytes(root: Path = CGROUP) -> int:
    """What can be used now: the machine's free memory, or what the control group leaves, whichever is less."""
    free = int(psutil.virtual_memory().available)
    try:
        most = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if not most.isdigit() else max(0, min(free, int(most) - used + reclaimable(root)))


def reclaimable(root: Path) -> int:
    """Bytes of files that the control group keeps in memory and gives up when asked."""
    try:
        words = (root / "memory.stat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("inactive_file") + 1]) if "inactive_file" in words else 0


def usable_bytes() -> int:
    """What this process may still take: of the machine's, and of its own ceiling."""
    ceiling = resource.getrlimit(resource.RLIMIT_DATA)[0]
    free = available_bytes()
    if ceiling == resource.RLIM_INFINITY:
        return free
    return max(0, min(free, ceiling - int(psutil.Process().memory_info().rss)))


def limit_memory(budget: int) -> None:
    """From now on this process gets no more than `budget` bytes of data: an allocation fails instead of a kill.

    Raises:
        ConfigurationError: the budget is less than a training needs to start.
    """
    if budget < BASE_BYTES:
        raise ConfigurationError(
            f"a memory budget of {budget / 2**20:,.0f} MB is below the {BASE_BYTES / 2**20:,.0f} MB that a "
            "training needs to start"
        )
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = budget if hard == resource.RLIM_INFINITY else min(budget, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on either device."""
    # torch's own error of a GPU is a RuntimeError, too.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None
    )


def explain_exit(code: int, peak_bytes: int, budget: int | None) -> str:
    """What a training's exit code means, in words."""
    peak = f"; it had used {peak_bytes / 2**20:,.0f} MB" if peak_bytes else ""
    if code in {-9, 137}:
        way_out = "give it a budget (--memory), so that it makes its batches smaller, or fewer experiments at once"
        return f"killed (exit 137), which is what the kernel does when memory runs out{peak}: {way_out}"
    if code == 3:
        budgeted = f" of {budget / 2**20:,.0f} MB" if budget else ""
        return f"its memory budget{budgeted} does not hold even the smallest batch{peak}"
    if code < 0:
        return f"ended by signal {-code}{peak}"
    return f"exit {code}{peak}"


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def be_deterministic(seed: int, threads: int = THREADS) -> None:
    """The same numbers for the same seed, device and number of threads on a CPU."""
    import torch

    torch.set_num_threads(threads)
    # cuBLAS is repeatable with a fixed workspace only.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
