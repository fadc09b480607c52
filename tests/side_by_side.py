"""Two runs of pytest on two cores: what talks to servers, and what computes; `python -m tests.side_by_side WORDS`.

The first is seen as it goes on, the other at its end. Exit code: 0 where both passed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

SERVERS, COMPUTES = "not slow and integration", "not slow and not integration"
#: Pytest's, where no test is of that kind.
NONE_OF_THEM = 5


def pytest_of(mark: str, words: list[str], output: int | None) -> subprocess.Popen[bytes]:
    """A run of its own, whose files in a cache are not the other's."""
    command = [sys.executable, "-m", "pytest", "-m", mark, "-o", f"cache_dir=.pytest_cache/{len(mark)}", *words]
    return subprocess.Popen(command, stdout=output, stderr=None if output is None else subprocess.STDOUT)


def main(words: list[str]) -> int:
    """See above."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile() as told:
        runs = [pytest_of(SERVERS, words, None), pytest_of(COMPUTES, words, told.fileno())]
        try:
            codes = [run.wait() for run in runs]
        except KeyboardInterrupt:
            for run in runs:
                run.send_signal(signal.SIGINT)
                run.send_signal(signal.SIGTERM)
            codes = [run.wait() for run in runs]
        told.seek(0)
        sys.stdout.buffer.write(told.read())
        sys.stdout.flush()
    passed = {0, NONE_OF_THEM}
    return 0 if set(codes) <= passed and codes != [NONE_OF_THEM] * 2 else next(c for c in codes if c not in {0})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
