"""Whoever cannot listen says why, and what chooses another port; whoever ends lets go of it."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from connectors.listening import bind, serve_metrics
from trading.errors import ConfigurationError


@pytest.fixture
def registry():
    made = CollectorRegistry()
    Gauge("figure", "of a test", registry=made).set(7)
    return made


def test_metrics_are_served_until_they_are_closed_and_the_port_is_free_again(registry):
    port, close = serve_metrics(registry, "127.0.0.1", 0, "X")
    assert "figure 7.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    close()
    bind("127.0.0.1", port, "X").close()


def test_a_port_that_is_taken_is_a_sentence_with_a_way_out(registry):
    with bind("127.0.0.1", 0, "X") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for listen in (lambda: serve_metrics(registry, "127.0.0.1", port, "--port"),
                       lambda: bind("127.0.0.1", port, "--port")):  # fmt: skip
            with pytest.raises(ConfigurationError, match=f"{port}.*--port"):
                listen()
