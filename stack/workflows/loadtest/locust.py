"""Locust, headless and in a process of its own: gevent's patches must not reach ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.errors import InvalidRun
from loadtest.judging.gates import EXIT_CODES
from loadtest.measuring.result import RunResult, load
from stack.workflows.loadtest.load_target import LoadTarget

ROOT = Path(__file__).resolve().parents[3]
LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
#: Tags of the kinds of users, and what each kind's requests are called.
USERS = {
    "grpc": "grpc",
    "stream": "stream",
    "json": "http-json",
    "binary": "http-binary",
    "end-to-end": "end-to-end",
}
COUNT, SECONDS, WARM_UP_S = 2, 12, 3
LEFT_OVER_S = 60


def locust(
    place: LoadTarget,
    targets: Path | None,
    show: Callable[[str], None],
    users: Sequence[str] = tuple(USERS),
) -> list[RunResult]:
    """Each kind of users after the other, judged; raises InvalidRun with Locust's own sentence."""
    found = []
    for tag in users:
        show(tag)
        with tempfile.TemporaryDirectory(prefix="ultrathink-locust-") as folder:
            done = run_locust(
                [
                    *(sys.executable, "-m", "locust", "-f", os.fspath(LOCUSTFILE), "--headless", "--only-summary"),
                    *("-u", str(COUNT), "-r", str(COUNT), "-t", f"{SECONDS}s", "--warm-up", str(WARM_UP_S)),
                    *("--tags", tag, "--results", folder, "--kafka", place.bootstrap),
                    *("--triton-grpc", place.triton_grpc, "--triton-http", place.triton_http),
                    *(() if targets is None else ("--targets", os.fspath(targets.absolute()))),
                ],
                tag,
            )
            result = Path(folder, "result.json")
            if done.returncode not in EXIT_CODES.values() or not result.is_file():
                told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
                why = told[-1].removeprefix("error: ") if told else done.stderr.strip()[-500:]
                raise InvalidRun(f"Locust's {tag} users proved nothing: {why}")
            found.append(load(result))
    return found


def run_locust(command: list[str], tag: str) -> subprocess.CompletedProcess[str]:
    """Raises InvalidRun where it does not end."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + LEFT_OVER_S)
    except subprocess.TimeoutExpired:
        raise InvalidRun(f"Locust's {tag} users did not end within {SECONDS + LEFT_OVER_S} s") from None
