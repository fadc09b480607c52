"""Signals, start, drain."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable

import structlog

from connectors.kafka.identity import act_as
from connectors.logs import configure
from gateway.bootstrap import Gateway, build
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
    gateway = started(lambda: build(settings, log_level))
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


def started(build: Callable[[], Gateway]) -> Gateway:
    """What is built; if SIGTERM comes meanwhile, all that was opened is closed and the process ends with 0."""
    asked: list[int] = []

    def leave(number: int, _: object) -> None:
        # Nothing is said here: what was interrupted may hold the log's lock.
        asked.append(number)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    try:
        gateway = build()
        if asked:
            # It was raised where nothing is let through.
            gateway.close()
            raise SystemExit(0)
    except BaseException as error:
        if not asked:
            raise
        # What could not be closed on the way out is no failure of a start that was given up.
        left_open = {} if isinstance(error, SystemExit) else {"left_open": str(error)[:200]}
        log.info("stopped while starting", **left_open)
        raise SystemExit(0) from error
    return gateway
