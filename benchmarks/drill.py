"""The whole drill from nothing: a fresh clone, `make demo`, then `ultrathink drill` as the clone has it.

`python -m benchmarks.drill` prints what was seen as JSON, and leaves that desk's boards in `docs/drill`; an hour.
"""

from __future__ import annotations

import shutil
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


class FromNothing(Struct, frozen=True):
    """What a fresh clone did: seconds of `make demo`, set-up included, and what the drill told."""

    demo_s: float
    drill: DrillReport


def drill(words: list[str]) -> FromNothing:
    """What came of it, the drill given these words.

    Raises ConfigurationError: a step before the drill fails, or the drill tells nothing.
    """
    with tempfile.TemporaryDirectory(prefix="ultrathink-drill-") as place:
        clone, kept = Path(place) / "clone", Path(place) / "kept"
        ran(["git", "clone", "-q", str(ROOT), str(clone)], Path(place))
        began = time.monotonic()
        ran(["make", "demo"], clone)
        demo_s = round(time.monotonic() - began, 1)
        command = [clone / ".venv/bin/ultrathink", "drill", "--json", "--keep", kept, *words]
        done = subprocess.run(command, cwd=clone, stdout=subprocess.PIPE, check=False)
        try:
            told = msgspec.json.decode(done.stdout, type=DrillReport)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"the drill told nothing (exit code {done.returncode}): {error}") from error
        PICTURES.mkdir(exist_ok=True)
        for picture in sorted((kept / "boards").glob("*.png")):
            shutil.copy(picture, PICTURES)
        if not told.ok:
            sys.stderr.write(f"something did not hold: the logs are in {logs_of(kept)}\n")
    return FromNothing(demo_s, told)


def logs_of(kept: Path) -> Path:
    """The logs of a drill, put where they stay."""
    place = Path(tempfile.mkdtemp(prefix="ultrathink-drill-logs-"))
    for folder in kept.glob("logs*"):
        shutil.copytree(folder, place / folder.name)
    return place


def ran(command: list[str], folder: Path) -> None:
    """What it says goes to stderr. Raises ConfigurationError where it fails."""
    if code := subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode:
        raise ConfigurationError(f"`{' '.join(command)}` ended with {code}")


def main(words: list[str]) -> int:
    """Exit code: 0 all of it held, 1 something did not, 2 nothing was seen."""
    try:
        report = drill(words)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0 if report.drill.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
