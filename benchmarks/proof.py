"""`make proof`: what takes longer than a change may wait for, run by hand, its results committed.

Each proof is a command that judges itself by its exit code; docs/proof.json keeps what it told, with commit, date
and machine, and docs/proof.md is written from that. `python -m benchmarks.proof chaos` runs one of them, and
`--render` writes the page again. The drill takes an hour, and is run where it is named.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.child import ENDS_S, printed
from benchmarks.drill import FromNothing
from benchmarks.figures import commit
from benchmarks.pace import Pace, paced
from loadtest.measuring.result import machine
from trading.errors import ConfigurationError
from trading.files import write_atomically

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Proofs, and the commands whose exit code 0 means that they hold; each prints JSON.
PROOFS = {
    "chaos": ["ultrathink", "chaos", "--kills", "100", "--poison", "1000000", "--json"],
    "drill": ["python", "-m", "benchmarks.drill"],
    "audit": ["python", "-m", "tests.fuzz.audit", "--json"],
    "api": ["python", "-m", "tests.fuzz.api", "--cases", "108000", "--json"],
    "tests": ["python", "-m", "tests.long", "--json"],
}
#: Too long to be run with the others.
APART = ("drill",)


class Proven(Struct, frozen=True):
    """What one proof told, and where and when; `pace` is how quick the machine was, None of earlier ones."""

    name: str
    command: str
    commit: str
    measured_at: str
    machine: dict[str, str]
    seconds: float
    holds: bool
    report: Any
    pace: Pace | None = None


def prove(name: str, at: str) -> Proven:
    """Run one on the commit `at`. Raises ConfigurationError where it told nothing."""
    words, began = PROOFS[name], time.monotonic()
    with paced() as pacer:
        code, told = printed([Path(sys.executable).with_name(words[0]), *words[1:]], ends_s=2 * ENDS_S)
    try:
        report = msgspec.json.decode(told)
    except msgspec.DecodeError as error:
        # Minutes of work: what it said is shown, whatever it is.
        sys.stderr.write(told.decode(errors="replace")[-4000:])
        raise ConfigurationError(f"{name} printed no JSON (exit code {code}): {error}") from error
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    took = round(time.monotonic() - began, 1)
    command = " ".join(words)
    return Proven(name, command, at, now, machine(), took, code == 0, report, pacer.pace())


def page(proofs: list[Proven]) -> str:
    """docs/proof.md."""
    lines = [
        "# Proof",
        "",
        "<!-- Written by `make proof` (benchmarks/proof.py) from docs/proof.json: change that, not this. -->",
        "",
        "What takes longer than a change may wait for: `make proof`; `make proof PROOF=drill`, an hour by itself.",
        "Short forms run in `make test-slow`.",
        "",
    ]
    for proof in proofs:
        lines += [f"## {proof.name}: {'holds' if proof.holds else '**does not hold**'}", ""]
        lines += [f"`{proof.command}`, {proof.measured_at}, commit {proof.commit}, {proof.seconds / 60:.0f} min;"]
        m = proof.machine
        quick = "" if proof.pace is None else f"; {proof.pace}"
        lines += [f"{m['processor']}, {m['cores']} cores, {m['memory']}{quick}.", "", *table(proof.report), ""]
    for name in [name for name in PROOFS if name not in {proof.name for proof in proofs}]:
        lines += [f"## {name}: **not run yet**", "", f"`make proof PROOF={name}`.", ""]
    return "\n".join(lines)


def table(report: Any) -> list[str]:
    """Of chaos and of the drill: a line a fault; of changes and of requests: how many, and what became of them."""
    if "drill" in report:
        return drill_table(msgspec.convert(report, FromNothing))
    if "tests" in report:
        lines = ["| test | | seconds |", "| --- | --- | ---: |"]
        return [*lines, *(f"| `{one['test']}` | {one['end']} | {one['seconds']:.0f} |" for one in report["tests"])]
    if "changes" in report:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(report["by_kind"].items()))
        wrong = f"{report['not_located']} not found or not located"
        return [f"{report['changes']:,} changes of a trail of {report['records']:,} records, {wrong}: {kinds}."]
    if "requests" in report:
        told = ", ".join(f"{status} {count:,}" for status, count in sorted(report["by_status"].items()))
        return [
            f"{report['requests']:,} requests, {report['answered_wrongly']} answered wrongly; by status: {told}."
        ]
    lines = ["| fault | times | ticks | letters | missing | repeated | disordered | different | back after s |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for r in report["rows"]:
        seen = [r["verdict"][k] for k in ("ticks", "letters", "missing", "repeated", "disordered", "different")]
        back = "" if r["recovery_s"] is None else f"{r['recovery_s']:.1f}"
        lines.append("| " + " | ".join([r["fault"], str(r["times"]), *(f"{n:,}" for n in seen), back]) + " |")
    restarts = (
        f"Restart to first decision: p50 {report['restart_p50_s']:.2f} s, max {report['restart_max_s']:.2f} s."
    )
    return [*lines, "", restarts]


def drill_table(report: FromNothing) -> list[str]:
    """A line an alert, a line a process that was killed, and what became of every tick."""
    told = report.drill
    lines = [f"A fresh clone's `make demo`: {report.demo_s / 60:.1f} min with its set-up.", ""]
    lines += ["| fault | alert | fired after s | told after s | cleared after s | |"]
    lines += ["| --- | --- | ---: | ---: | ---: | --- |", *("| " + " | ".join(row) + " |" for row in told.alerts())]
    lines += ["", "| killed | decides after s | answers after s | available | |"]
    lines += ["| --- | ---: | ---: | ---: | --- |", *("| " + " | ".join(row) + " |" for row in told.killed())]
    lines += ["", *(f"- {sentence}" for sentence in told.sentences()), ""]
    return [*lines, *(f"![{name}](drill/{name})" for name in report.pictures)]


def written(proofs: list[Proven]) -> str:
    """docs/proof.json."""
    return msgspec.json.format(msgspec.json.encode(proofs), indent=2).decode() + "\n"


def wanted(words: list[str]) -> list[str]:
    """Those that are named; without any, all that are run together."""
    if words == ["--render"]:
        return []
    return words or [name for name in PROOFS if name not in APART]


def main(words: list[str]) -> int:
    """Exit code: 0 all hold, 1 one does not, 2 one told nothing."""
    path = DOCS / "proof.json"
    kept = {p.name: p for p in msgspec.json.decode(path.read_bytes(), type=list[Proven])} if path.is_file() else {}
    names = wanted(words)
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        sys.stderr.write(f"error: no proof is called {unknown[0]}: {', '.join(PROOFS)}\n")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Before the first: they write what is committed with them.
    at = commit()
    try:
        for name in names:
            kept[name] = prove(name, at)
            write_atomically(path, written(list(kept.values())))
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    write_atomically(DOCS / "proof.md", page(list(kept.values())))
    return 0 if all(kept[name].holds for name in names) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
