"""The alerts as Prometheus' and Alertmanager's own files."""

from __future__ import annotations

from typing import Any

from stack.watching.alerts import ALERTS, INHIBITED


def rules() -> dict[str, Any]:
    """The file of Prometheus' rules."""
    return {
        "groups": [
            {
                "name": "desk",
                "rules": [
                    {
                        "alert": one.name,
                        "expr": one.expr,
                        "for": one.lasting,
                        "labels": {"severity": one.severity},
                        "annotations": {"summary": one.summary, "runbook": f"docs/runbook/{one.name}.md"},
                    }
                    for one in ALERTS
                ],
            }
        ]
    }


def routing(webhook: str) -> dict[str, Any]:
    """Alertmanager's configuration: critical ones at once, warnings gathered; all to one webhook.

    `webhook` is an address; "" tells nobody, and alerts are seen where they are looked for.
    """
    send = {"webhook_configs": [{"url": webhook, "send_resolved": True}]} if webhook else {}
    return {
        "route": {
            "receiver": "desk",
            "group_by": ["alertname"],
            "group_wait": "10s",
            "group_interval": "10s",
            "repeat_interval": "4h",
            "routes": [
                {"matchers": ['severity="critical"'], "receiver": "now", "group_wait": "0s", "group_interval": "5s"}
            ],
        },
        "receivers": [{"name": "desk", **send}, {"name": "now", **send}],
        "inhibit_rules": [
            {
                "source_matchers": one.source.split(", "),
                "target_matchers": [f'alertname=~"{one.silenced}"'],
                **({"equal": list(one.equal)} if one.equal else {}),
            }
            for one in INHIBITED
        ],
    }
