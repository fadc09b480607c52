"""Two runs of pytest on two cores: what talks to servers, and what computes; `python -m tests.side_by_side WORDS`.

Some of what computes runs behind what talks to servers, so that both take as long.

The first is seen as it goes on, the other at its end. Exit code: 0 where both passed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

MARKS = {
    "servers": "not slow and (integration or evens)",
    "computes": "not slow and not (integration or evens)",
}
#: Pytest's, where no test is of that kind.
NONE_OF_THEM = 5
ENDS_S = 60.0


def pytest_of(name: str, words: list[str], output: int | None) -> subprocess.Popen[bytes]:
    """A run of its own, whose files in a cache are not the other's."""
    command = [sys.executable, "-m", "pytest", "-m", MARKS[name], "-o", f"cache_dir=.pytest_cache/{name}", *words]
    errors = None if output is None else subprocess.STDOUT
    # In a session of its own: Ctrl-C reaches it once, from here.
    return subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)


def ended(run: subprocess.Popen[bytes]) -> int:
    """Its servers are ended by itself, where it hears that it is interrupted."""
    try:
        return run.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        run.terminate()
        return run.wait()


def main(words: list[str]) -> int:
    """See above."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # What is handled here is not ignored there, though a shell has put all of it in the background.
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with tempfile.TemporaryFile() as told:
        runs = [pytest_of("servers", words, None), pytest_of("computes", words, told.fileno())]
        try:
            codes = [run.wait() for run in runs]
        except KeyboardInterrupt:
            for run in runs:
                run.send_signal(signal.SIGINT)
            codes = [ended(run) for run in runs]
        told.seek(0)
        sys.stdout.buffer.write(told.read())
        sys.stdout.flush()
    failed = [code for code in codes if code not in {0, NONE_OF_THEM}]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
