"""Signals, start, drain."""

from __future__ import annotations

import gc
import signal
import sys

import structlog

from connectors.kafka.identity import act_as
from connectors.logs import configure
from gateway.bootstrap import build
from gateway.settings import GatewaySettings

SWITCH_INTERVAL_S = 0.0005
GC_THRESHOLDS = (50_000, 20, 50)

log = structlog.get_logger()


def run(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was read, commit and leave.

    Raises:
        UltraThinkError: the gateway could not start, or a server failed for good.
    """
    log_level = configure(settings.log_level)
    act_as("gateway")
    # Told to stop while it starts, it closes what it has opened. A container's first process would not even end.
    signal.signal(signal.SIGTERM, leave_at_once)
    gateway = build(settings, log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: gateway.pipeline.stop())
    # A thread that has work waits for the interpreter at most so long, not the default 5 ms.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What exists now lives as long as the process: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    # What a batch allocates is freed by counting references; the default looks for cycles every 700 objects.
    gc.set_threshold(*GC_THRESHOLDS)
    log.info(
        "gateway ready",
        model=gateway.model,
        instance=gateway.instance,
        delivery=settings.delivery,
        budget_ms=settings.budget_ms,
        group=settings.group,
    )
    try:
        gateway.pipeline.run()
        log.info("gateway drained")
    finally:
        gateway.close()


def leave_at_once(*_: object) -> None:
    """There is nothing to finish yet."""
    log.info("stopped while starting")
    raise SystemExit(0)
