"""`make bench`: every benchmark, one after the other, into one file and one table.

Each runs in a process of its own and writes benchmarks/results/NAME.json; then benchmarks/results/latest.json and
latest.md hold all, and docs/performance.md is written from them. BENCH=risk,peers runs only those;
`python -m benchmarks.all --render` writes the page again from the results that lie there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.figures import RESULTS, BenchmarkFigure, BenchmarkPart, read, say
from loadtest.report.texts import number
from trading.errors import ConfigurationError
from trading.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
#: Results, and the modules that write them.
PARTS = {
    "gateway": "benchmarks.run",
    "limits": "benchmarks.limits",
    "sides": "benchmarks.sides",
    "risk": "benchmarks.risk",
    "exporters": "benchmarks.exporters",
    "trainers": "benchmarks.trainers",
    "peers": "benchmarks.peers",
    "cancels": "benchmarks.cancels",
    "cold": "benchmarks.cold",
    "reactions": "benchmarks.reactions",
    "quix": "benchmarks.quix",
    "bounds": "benchmarks.bounds",
    "forensics": "benchmarks.forensics",
    "data": "benchmarks.data",
    "scaling": "benchmarks.scaling",
    "coverage": "benchmarks.coverage",
    "experiments": "benchmarks.experiments",
    "drift": "benchmarks.drift",
    "training": "benchmarks.training",
    "torchserve": "benchmarks.torchserve",
}


class Latest(Struct, frozen=True):
    """All of it."""

    parts: list[BenchmarkPart]


def markdown(latest: Latest, before: str = "") -> str:
    """docs/performance.md; parts that have no results here stay as they are on the page before."""
    sections = sections_of(before) | {heading(part): section(part) for part in latest.parts}
    told = "".join(sections.values())
    reached, missed = told.count("| reached |"), told.count("| **missed** |")
    lines = [
        "# Performance",
        "",
        "<!-- Written by `make bench` (benchmarks/all.py) from benchmarks/results/latest.json: change that, not this. -->",
        "",
        f"{reached} goals reached, {missed} missed. Without a GPU: every server, the sender and the reader shared the cores",
        "that each part names. The goals are those of the desk's own machine.",
        "",
        "Latency counts from the time for which a tick was meant (docs/loadtest.md). Ratios are of runs that took turns",
        "in one session; absolute figures of two sessions on a shared machine can differ by half.",
        "",
        "To repeat: `make bench` (an hour; nothing else should run), or one part as",
        "`BENCH=peers make bench`. With recorded feeds in `../shared/data` or `$ULTRATHINK_DATA` these are used.",
        "",
    ]
    return "\n".join([*lines, *sections.values()])


def heading(part: BenchmarkPart) -> str:
    """Its line on the page."""
    return f"## {part.title[0].upper()}{part.title[1:]}"


def section(part: BenchmarkPart) -> str:
    """A part of the page."""
    m = part.machine
    lines = [
        heading(part), "",
        f"{part.measured_at}, commit {part.commit}; {m['processor']}, {m['cores']} cores, {m['memory']}.", "",
        "| figure | measured | goal | | beside |", "| --- | ---: | ---: | --- | --- |", *map(row, part.figures), "",
    ]  # fmt: skip
    return "\n".join(lines)


def sections_of(page: str) -> dict[str, str]:
    """Heading -> section, of a page as it was written before."""
    found: dict[str, str] = {}
    for text in page.split("\n## ")[1:]:
        body = "## " + text.rstrip("\n") + "\n"
        found[body.partition("\n")[0]] = body
    return found


def row(f: BenchmarkFigure) -> str:
    """A figure's line."""
    verdict = {None: "", True: "reached", False: "**missed**"}[f.reached]
    cells = (f.name, number(f.value, f.unit), f.goal, verdict, f.beside)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def collect(names: list[str]) -> Latest:
    """The results that lie there."""
    parts = [read(name) for name in names if (RESULTS / f"{name}.json").is_file()]
    if not parts:
        raise ConfigurationError("no results in benchmarks/results: run `make bench`")
    return Latest(parts)


def run(command: list[str]) -> int:
    """A benchmark's exit code. Ctrl-C reaches it too: it is waited for while it takes its servers down."""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def main() -> int:
    """Run what BENCH names, and write the page; the exit code."""
    wanted = os.environ.get("BENCH", ",".join(PARTS)).split(",")
    unknown = set(wanted) - set(PARTS)
    if unknown:
        say(f"error: BENCH={','.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
        return 2
    failed = []
    if "--render" not in sys.argv:
        for number_, name in enumerate(wanted, 1):
            say(f"\n[{number_}/{len(wanted)}] {name}")
            (RESULTS / f"{name}.json").unlink(missing_ok=True)
            data = sys.argv[1:] if name == "trainers" else []
            if run([sys.executable, "-m", PARTS[name], *data]):
                failed.append(name)
    try:
        latest = collect(list(PARTS))
    except ConfigurationError as error:
        say(f"error: {error}")
        return 1
    write_atomically(RESULTS / "latest.json", msgspec.json.format(msgspec.json.encode(latest)).decode())
    page = markdown(latest, PAGE.read_text() if PAGE.is_file() else "")
    write_atomically(RESULTS / "latest.md", page)
    write_atomically(PAGE, page)
    say(f"\nwritten: {RESULTS / 'latest.json'}, latest.md beside it, {PAGE}")
    if failed:
        say(f"error: no figures of {', '.join(failed)}: what went wrong is told above")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
