"""`python -m tests.fuzz [--inputs N] [TARGET ...]`: coverage-guided, a process a target; what fails is kept as a file."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INPUTS = 1_000_000
#: Of all inputs, what each target gets: the slow ones fewer.
SHARES = {"ticks": 0.3, "control": 0.1, "fills": 0.1, "orders": 0.15, "limits": 0.03, "snapshots": 0.1, "decisions": 0.15,
          "headers": 0.05, "releases": 0.02}  # fmt: skip


def one(name: str, runs: int, corpus: Path) -> None:
    """In a process of its own: libFuzzer never returns."""
    import atheris

    # What is compiled cannot be followed branch by branch: it is there before the others are.
    for compiled in ("trading.portfolio.book", "trading.features.engine", "trading.models.prediction"):
        importlib.import_module(compiled)
    with atheris.instrument_imports(include=["trading", "gateway", "services", "exporters", "connectors"]):
        from tests.fuzz.targets import TARGETS

    for number, example in enumerate(TARGETS[name].examples):
        (corpus / f"example-{number}").write_bytes(example)
    atheris.Setup(
        [name, str(corpus), f"-runs={runs}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=4096",
         f"-artifact_prefix={corpus.parent}/failed-{name}-"],
        TARGETS[name].run,
    )  # fmt: skip
    atheris.Fuzz()


def main() -> int:
    """Every target in turn; exit code 1 when one of them failed."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *SHARES], help="default: all")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of all targets together")
    parser.add_argument("--one", nargs=2, metavar=("RUNS", "CORPUS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.targets[0], int(given.one[0]), Path(given.one[1]))
    folder, failed = Path(tempfile.mkdtemp(prefix="ultrathink-fuzz-")), []
    for name in given.targets or SHARES:
        corpus, runs = folder / name, max(1, int(given.inputs * SHARES[name]))
        corpus.mkdir()
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, "--one", str(runs), str(corpus)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        verdict = "held" if done.returncode == 0 else "FAILED"
        print(f"{name:10} {runs:9,} inputs  {time.monotonic() - began:6.0f} s  {verdict}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-3000:], file=sys.stderr)
    if failed:
        print(f"inputs that failed are in {folder}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
