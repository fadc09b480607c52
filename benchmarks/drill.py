"""The whole drill from nothing: a fresh clone, `make demo`, then `ultrathink drill` as the clone has it.

`python -m benchmarks.drill` prints what was seen as JSON, and leaves that desk's boards in `docs/drill`; an hour.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from stack.drill.table import DrillReport
from trading.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[1]
#: Where the boards' pictures are kept.
PICTURES = ROOT / "docs" / "drill"
#: So long a drill that is interrupted may take its desk down.
ENDS_S = 180.0
#: Of the caller's own desk, make and git nothing is told to the clone's.
NOT_TOLD = ("ULTRATHINK_", "MAKE", "MFLAGS", "GIT_", "DATA", "DEMO_ARGS", "VENV", "VIRTUAL_ENV")


class FromNothing(Struct, frozen=True):
    """What a fresh clone did: seconds of `make demo` with its set-up, what the drill told, and its pictures."""

    demo_s: float
    drill: DrillReport
    pictures: list[str]


def drill(words: list[str]) -> FromNothing:
    """What came of it, the drill given these words.

    Raises ConfigurationError: something is not committed, a step before the drill fails, or that tells nothing.
    """
    if told := ran(["git", "status", "--porcelain"], ROOT).decode().strip():
        raise ConfigurationError(f"a clone has what is committed, and this is not:\n{told}")
    with tempfile.TemporaryDirectory(prefix="ultrathink-drill-") as place:
        clone, kept = Path(place) / "clone", Path(place) / "kept"
        ran(["git", "clone", "-q", str(ROOT), str(clone)], Path(place))
        began = time.monotonic()
        ran(["make", "demo"], clone, shown=True)
        demo_s = round(time.monotonic() - began, 1)
        report: DrillReport | None = None
        try:
            report = of_clone(clone, kept, words)
        finally:
            if report is None or not report.ok:
                sys.stderr.write(f"something did not hold: the logs are in {logs_of(kept)}\n")
        # Of a part of a drill the boards show a part.
        whole = report.counted is not None
        return FromNothing(demo_s, report, pictures_of(kept) if whole else [])


def of_clone(clone: Path, kept: Path, words: list[str]) -> DrillReport:
    """Raises ConfigurationError where it tells nothing."""
    command = [str(clone / ".venv/bin/ultrathink"), "drill", "--json", "--keep", str(kept), *words]
    # Exit code 1: something did not hold, which the report says.
    printed = ran(command, clone, codes=(0, 1))
    try:
        return msgspec.json.decode(printed, type=DrillReport)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"the drill told nothing: {error}") from error


def ran(command: list[str], folder: Path, *, shown: bool = False, codes: tuple[int, ...] = (0,)) -> bytes:
    """What a command prints; `shown`: on stderr. One that is interrupted may end its servers first.

    Raises ConfigurationError where its exit code is none of these.
    """
    told = {name: value for name, value in os.environ.items() if not name.startswith(NOT_TOLD)}
    process = subprocess.Popen(command, cwd=folder, env=told, stdout=sys.stderr if shown else subprocess.PIPE)
    try:
        printed, _ = process.communicate()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(ENDS_S)
        raise
    if process.returncode not in codes:
        raise ConfigurationError(f"`{' '.join(command)}` ended with {process.returncode}")
    return printed or b""


def logs_of(kept: Path) -> Path:
    """The logs of a drill, put where they stay."""
    place = Path(tempfile.mkdtemp(prefix="ultrathink-drill-logs-"))
    for folder in kept.glob("logs*"):
        shutil.copytree(folder, place / folder.name)
    return place


def pictures_of(kept: Path) -> list[str]:
    """The boards' names, when their pictures are in docs."""
    found = sorted((kept / "boards").glob("*.png"))
    PICTURES.mkdir(exist_ok=True)
    for picture in found:
        shutil.copy(picture, PICTURES)
    return [picture.name for picture in found]


def main(words: list[str]) -> int:
    """Exit code: 0 all of it held, 1 something did not, 2 nothing was seen."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = drill(words)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0 if report.drill.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
