"""Tables, Markdown and JUnit XML of judged runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from loadtest.measuring.result import RunResult

COLUMNS = ("figure", "goal", "measured", "verdict")


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits or more, and the unit."""
    if value is None or not math.isfinite(value):
        return "none"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


def rows(result: RunResult) -> list[tuple[str, str, str, str]]:
    """Figure, goal, measured, verdict; a verdict is empty where there is no goal."""
    found: list[tuple[str, str, str, str]] = [
        (c.name, c.goal, number(c.measured, c.unit), c.verdict) for c in result.checks
    ]
    told = {c.name for c in result.checks}
    for name, value in (("p50", result.latency.p50), ("p99", result.latency.p99), ("p99.9", result.latency.p99_9)):
        if name not in told:
            found.append((name, "", number(value, "ms"), ""))
    found.append(("longest", "", number(result.latency.max, "ms"), ""))
    # An open model has a lag that the service time leaves out; a closed loop has what it kept from being asked.
    beside = "without the generator's lag" if result.model == "open" else "not corrected"
    found.append((f"p50 {beside}", "", number(result.service.p50, "ms"), ""))
    found.append((f"p99 {beside}", "", number(result.service.p99, "ms"), ""))
    found.append(("offered", "", number(result.offered_per_s, "/s"), ""))
    found.append(("achieved", "", number(result.achieved_per_s, "/s"), ""))
    for what, count in (("missing", result.missing), ("repeated", result.repeated)):
        found.append((what, "", number(count), ""))
    found += [(f"undecided: {reason}", "", number(count), "") for reason, count in result.undecided.items()]
    found += [(f"failed: {sentence}", "", number(count), "") for sentence, count in result.errors.items()]
    return found


def title(result: RunResult) -> str:
    """A run in a line."""
    told = ", ".join(f"{k} {v}" for k, v in result.settings.items() if v)
    return f"{result.target}: {told}" if told else result.target


def markdown(results: Sequence[RunResult]) -> str:
    """A table a run, for a comment or a job's summary."""
    lines = []
    for result in results:
        lines += [f"### {title(result)}", "", f"**{result.verdict}**", ""]
        lines += ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | ---: | --- |"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(result)]
        lines.append("")
    return "\n".join(lines)


def junit(results: Sequence[RunResult]) -> str:
    """A suite a run, a case a check: a miss is a failure, what proves nothing an error."""
    root = ET.Element("testsuites")
    for result in results:
        suite = ET.SubElement(root, "testsuite", {
            "name": f"loadtest.{result.target}",
            "timestamp": result.started_at,
            "time": f"{result.seconds:.3f}",
            "tests": str(len(result.checks)),
            "failures": str(sum(c.verdict == "missed" for c in result.checks)),
            "errors": str(sum(c.verdict == "invalid" for c in result.checks)),
        })  # fmt: skip
        for check in result.checks:
            case = ET.SubElement(
                suite, "testcase", {"classname": f"loadtest.{result.target}", "name": check.name, "time": "0"}
            )
            if check.verdict != "held":
                kind = "failure" if check.verdict == "missed" else "error"
                told = f"{check.name}: {number(check.measured, check.unit)}, the goal is {check.goal}"
                ET.SubElement(case, kind, {"message": told})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
