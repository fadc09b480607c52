"""The files of a run, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from loadtest.measuring.result import RunResult, save
from loadtest.report.texts import junit, markdown, rows, title
from trading.errors import ConfigurationError
from trading.files import write_atomically

OURS = ("result.json", "capacity.json", "summary.md", "junit.xml", "report.html")
TEMPLATES = Path(__file__).with_name("templates")


def write_all(folder: Path, results: Sequence[RunResult], more: Mapping[str, str] | None = None) -> Path:
    """Write result.json (of several runs NAME.json), summary.md, junit.xml and report.html; returns the last.

    `more` are further pictures: titles and PNGs as text.
    """
    names = unique([r.target for r in results]) if len(results) > 1 else ["result"]
    for name, result in zip(names, results, strict=False):
        save(folder / f"{name}.json", result)
    write_atomically(folder / "summary.md", markdown(results))
    write_atomically(folder / "junit.xml", junit(results))
    report = folder / "report.html"
    write_atomically(report, html(results, more or {}))
    return report


def fresh(folder: Path, names: Sequence[str] = ()) -> None:
    """A folder that can be written, without what an earlier run left of ours: a verdict must not outlive its run.

    Raises ConfigurationError where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
        for name in (*OURS, *(f"{name}.json" for name in names)):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}") from error


def html(results: Sequence[RunResult], more: Mapping[str, str]) -> str:
    """One self-contained page."""
    # Plots take a second to import, which only a run that ended pays.
    from loadtest.report.plots import pictures

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.globals.update(title=title, rows=rows)
    heading = ", ".join(dict.fromkeys(r.target for r in results))
    runs = [(result, pictures(result)) for result in results]
    return environment.get_template("report.html.j2").render(heading=heading, runs=runs, more=more)


def unique(names: Sequence[str]) -> list[str]:
    """Names, a number behind those that came before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found
