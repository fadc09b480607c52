"""What of `deploy/` is generated: `python -m stack.watching.files` writes it, `--check` says what is stale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from stack.watching import alerting, scraping
from stack.watching.boards import BOARDS
from trading.files import write_atomically

HEADER = "# Made by `python -m stack.watching.files` from stack/watching/: change it there.\n"
#: Where compose's containers find them.
RULES = "/etc/prometheus/alerts.yml"


def dumped(document: object) -> str:
    """As YAML that people can read."""
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=110)


def compose_scraping() -> str:
    """Prometheus' configuration in compose."""
    targets = {**scraping.COMPOSE, **scraping.COMPOSE_EXPORTERS}
    return dumped(scraping.configuration(targets, scraping.COMPOSE["alertmanager"], RULES))


def board(number: int) -> Callable[[], str]:
    """What makes a board's file."""

    def make() -> str:
        # Its SDK is there where the project is built, and not where it runs.
        from stack.watching.grafana import made

        return made(BOARDS[number])

    return make


FILES: Mapping[str, Callable[[], str]] = {
    "deploy/prometheus/prometheus.yml": compose_scraping,
    "deploy/prometheus/alerts.yml": lambda: dumped(alerting.rules()),
    "deploy/alertmanager/alertmanager.yml": lambda: dumped(alerting.routing("")),
    **{f"deploy/grafana/dashboards/{one.uid}.json": board(number) for number, one in enumerate(BOARDS)},
}


def stale(root: Path) -> list[str]:
    """Those that are not what would be written now."""
    return [name for name, made in FILES.items() if not same(root / name, made())]


def same(path: Path, text: str) -> bool:
    """Whether a file holds just this."""
    return path.is_file() and path.read_text() == text


def main(words: list[str]) -> int:
    """Write the files below the working folder, or check them; returns the exit code."""
    root = Path.cwd()
    found = stale(root)
    if "--check" in words:
        for name in found:
            sys.stderr.write(f"{name} is stale: python -m stack.watching.files\n")
        return int(bool(found))
    for name in found:
        write_atomically(root / name, FILES[name]())
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
