"""What of `deploy/` is generated: `python -m stack.deploying.files` writes it, `--check` says what is stale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from stack.deploying import strimzi
from stack.watching import alerting, scraping
from stack.watching.boards import BOARDS
from trading.files import write_atomically

#: Of the repository.
HERE = Path(__file__).parents[2]
HEADER = "# Made by `python -m stack.deploying.files` from the code: change it there.\n"
#: Where compose's containers find them.
RULES = "/etc/prometheus/alerts.yml"


def dumped(*documents: object) -> str:
    """As YAML that people can read."""
    return HEADER + yaml.safe_dump_all(documents, sort_keys=False, width=110)


def rule_resource() -> dict[str, object]:
    """The alerts as Prometheus' operator takes them."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "desk"},
        "spec": alerting.rules(),
    }


def compose_scraping() -> str:
    """Prometheus' configuration in compose."""
    targets = {**scraping.COMPOSE, **scraping.COMPOSE_EXPORTERS}
    return dumped(scraping.configuration(targets, scraping.COMPOSE["alertmanager"], RULES))


def boards_resource() -> str:
    """The boards as ConfigMaps, one each, by the label that Grafana's sidecar looks for."""
    generated = [
        {
            "name": f"board-{one.uid}",
            "files": [f"dashboards/{one.uid}.json"],
            "options": {"labels": {"grafana_dashboard": "1"}},
        }
        for one in BOARDS
    ]
    return dumped(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "configMapGenerator": generated,
            "generatorOptions": {"disableNameSuffixHash": True},
        }
    )


def copied(name: str) -> Callable[[], str]:
    """What reads a file: Kustomize takes nothing from outside of its own folder."""
    return (HERE / name).read_text


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
    "deploy/kubernetes/base/limits.yaml": copied("deploy/limits.yaml"),
    "deploy/kubernetes/base/start.sh": copied("deploy/triton/start.sh"),
    "deploy/kubernetes/base/kafka-desk.yaml": lambda: dumped(*strimzi.resources()),
    "deploy/kubernetes/components/monitoring/alerts.yaml": lambda: dumped(rule_resource()),
    "deploy/grafana/kustomization.yaml": boards_resource,
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
            sys.stderr.write(f"{name} is stale: python -m stack.deploying.files\n")
        return int(bool(found))
    for name in found:
        write_atomically(root / name, FILES[name]())
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
