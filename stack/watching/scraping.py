"""What Prometheus scrapes: the same jobs everywhere, at other addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTERVAL = "5s"
#: What is kept of what was measured.
RETENTION = "15d"
#: From a latency to the trace of a tick that had it.
EXEMPLARS = "--enable-feature=exemplar-storage"
#: Job -> the address in docker-compose.yml. The jobs of exporters that other people wrote are compose's alone.
COMPOSE: Mapping[str, str] = {
    "triton": "triton:8002",
    "gateway": "gateway:9108",
    "forensics": "forensics:9109",
    "paper-broker": "paper-broker:9110",
    "metrics": "metrics:9111",
    "experiments": "experiments:9112",
    "data": "data:8010",
    "orchestrator": "orchestrator:8030",
    "prometheus": "localhost:9090",
    "alertmanager": "alertmanager:9093",
}
#: Exporters of the machine and the GPU, in containers of their own; embedded, `metrics` tells of both.
COMPOSE_EXPORTERS: Mapping[str, str] = {"node": "node-exporter:9100", "gpu": "dcgm-exporter:9400"}


def configuration(targets: Mapping[str, str], alertmanager: str, rules: str) -> dict[str, Any]:
    """Prometheus' configuration.

    Args:
        targets: job -> address.
        alertmanager: its address; "" is none.
        rules: the file of the rules, beside the configuration or by its whole path.
    """
    alerting = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]} if alertmanager else {}
    return {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        **({"alerting": alerting} if alerting else {}),
        "rule_files": [rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
        ],
    }
