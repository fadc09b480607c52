"""The live view is made of what grew between two scrapes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from prometheus_client import generate_latest
from rich.console import Console

from gateway.adapters.metrics import PrometheusMetrics
from stack.cli.top import view
from stack.processes.scrape import Scrape, quantile_ms

STATUS = {
    "instance": "vm-0", "group": "gateway", "delivery": "exactly-once", "model": "trading_decision/3", "ready": False,
    "problems": ["Redis does not answer"], "trading_state": "reducing", "breaker": "closed", "partitions": [0, 2],
}  # fmt: skip


@pytest.fixture
def scrapes():
    metrics = PrometheusMetrics()
    metrics.published([5], 0.9, [0.9])
    metrics.batch(5, 0.001, 0.001, 5)
    before = Scrape.of(generate_latest(metrics.registry).decode(), STATUS)
    for _ in range(99):
        metrics.published([10], 0.0021, [0.0042])
    metrics.published([10], 0.0021, [0.09])
    metrics.dead_letters(3)
    now = Scrape.of(generate_latest(metrics.registry).decode(), STATUS)
    return before, now


def test_quantiles_are_of_the_interval_alone(scrapes):
    before, now = scrapes
    # Within its bucket, as if all were spread evenly there.
    assert 3.0 < quantile_ms(before, now, "gateway_handled_seconds", 0.5) < 5.0
    assert quantile_ms(before, now, "gateway_handled_seconds", 0.1) < quantile_ms(
        before, now, "gateway_handled_seconds", 0.5
    )
    assert 50.0 < quantile_ms(before, now, "gateway_handled_seconds", 0.995) < 100.0
    assert 2.0 < quantile_ms(before, now, "gateway_stage_seconds", 0.99, stage="publish") < 3.0
    assert quantile_ms(now, now, "gateway_handled_seconds", 0.5) != quantile_ms(
        now, now, "gateway_handled_seconds", 0.5
    )


def test_beyond_the_last_bound_it_is_that_bound():
    """Who is slower than anybody foresaw is slow, and not unknown."""
    samples = {
        ("x_bucket", (("le", le),)): value for le, value in (("0.01", 10.0), ("0.05", 20.0), ("+Inf", 120.0))
    }
    before, now = Scrape(0.0, {}, {}), Scrape(1.0, samples, {})
    assert quantile_ms(before, now, "x", 0.99) == 50.0
    assert quantile_ms(before, now, "x", 15.0 / 120.0) == pytest.approx(30.0)
    assert quantile_ms(before, now, "x", 1.0 / 12.0) == pytest.approx(10.0)


def test_the_view_names_the_rules_that_deny(scrapes):
    before, now = scrapes
    assert "denied by" not in shown_text(before, now)
    labels = ("gateway_denials_total", (("rule", "position_limit"),))
    none = ("gateway_denials_total", (("rule", "leverage"),))
    later = Scrape(now.at_s, {**now.samples, labels: 7.0, none: 0.0}, STATUS)
    lines = shown_text(before, later).splitlines()
    (at,) = [k for k, line in enumerate(lines) if "denied by" in line]
    assert lines[at + 1].split()[0] == "position_limit"
    assert lines[at + 1].split()[-1] == "7"
    assert "leverage" not in "".join(lines)


def shown_text(before, now):
    console = Console(file=io.StringIO(), width=120)
    console.print(view(before, now))
    return console.file.getvalue()


def test_the_view_says_state_problems_and_stages(scrapes):
    console = Console(file=io.StringIO(), width=120)
    console.print(view(*scrapes))
    text = console.file.getvalue()
    assert "not ready: Redis does not answer" in text
    assert "partitions 0, 2" in text
    assert "received to published" in text
    assert "publish" in text


def test_the_light_histogram_counts_as_prometheus_does():
    metrics = PrometheusMetrics()
    metrics.sent_to_decided.observe_all(np.array([0.0001, 0.00011, 0.004]))
    metrics.sent_to_decided.observe(5.0)
    lines = generate_latest(metrics.registry).decode().splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("gateway_tick_seconds")}
    assert found['gateway_tick_seconds_bucket{le="0.0001"}'] == 1
    assert found['gateway_tick_seconds_bucket{le="0.0002"}'] == 2
    assert found['gateway_tick_seconds_bucket{le="0.004"}'] == 3
    assert found['gateway_tick_seconds_bucket{le="+Inf"}'] == found["gateway_tick_seconds_count"] == 4
    assert found["gateway_tick_seconds_sum"] == pytest.approx(5.00421)
