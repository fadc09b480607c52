"""How soon a halt has ended what works at the broker: from the command to the broker's last report.

Needs nothing running: a stack of its own. The broker fills nothing for an hour: only a cancel ends an order.
The times are those that `ultrathink gateway stops` tells. Example: python -m benchmarks.cancels
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.load import send_only
from connectors.kafka.topics import TOPICS
from gateway.control.control import Control
from gateway.control.stop_audit import StopRecord, read_stops
from stack.processes.broker import running_broker
from stack.processes.gateway import running_gateway
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import TradingState

HALTS = 10
RATE, TICKS = 1_000, 5_000
ENDED_S = 30.0
FOREVER_MS = 3_600_000
#: Each turn's market has a time of its own; only the broker's refusals shall end an order.
LIMITS = LimitsFile(defaults={"max_staleness_s": None, "max_drawdown": None, "max_daily_loss": None})


def halted(settings: StackSettings, control: Control, turn: int) -> StopRecord:
    """One halt of a desk whose orders work, and what became of it."""
    market = f"simulate:regimes?seed={turn}&ticks={TICKS}&symbols=16"
    feed = threading.Thread(target=send_only, args=(settings.kafka_bootstrap, market, f"{RATE}/s", TICKS))
    feed.start()
    time.sleep(3.0 + 0.037 * turn)
    # A halt, not a kill: that the broker hears of by itself.
    control.latch(TradingState.HALTED, "measured", "benchmark")
    deadline = time.monotonic() + ENDED_S
    while True:
        found = read_stops(settings.kafka_bootstrap, TOPICS, 1)[-1]
        if found.orders and not found.open:
            break
        if time.monotonic() > deadline:
            raise SystemExit(
                f"{found.open} of {found.orders} orders were open after {ENDED_S:.0f} s: no figure counts"
            )
        time.sleep(0.2)
    feed.join()
    control.latch(TradingState.ACTIVE, "measured", "benchmark")
    return found


def main() -> None:
    """Ten halts."""
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "home") as settings:
        control = Control(settings.kafka_bootstrap, TOPICS.control, settings.redis_url)
        control.apply(LIMITS, "several markets", "benchmark")
        broker = running_broker(settings, latency_ms=FOREVER_MS, reject_share=0.0)
        with broker, running_gateway(settings, model_name=MODELS[1], execution="broker"):
            stops = [halted(settings, control, turn) for turn in range(HALTS)]
    figures = BenchmarkFigures("cancels", "cancels: what a halt ends at the broker, one machine")
    say(f"{sum(s.orders for s in stops)} orders, {sum(s.cancelled for s in stops)} cancelled")
    asked = sorted(s.asked_ms for s in stops if s.asked_ms is not None)
    ended = sorted(s.ended_ms for s in stops if s.ended_ms is not None)
    figures.tell("from the halt to the first cancel, median", asked[len(asked) // 2], "ms")
    figures.tell(f"from the halt to the first cancel, worst of {HALTS}", asked[-1], "ms", at_most=250.0)
    figures.tell("from the halt to the last order's end, median", ended[len(ended) // 2], "ms")
    figures.tell(f"from the halt to the last order's end, worst of {HALTS}", ended[-1], "ms", at_most=500.0)
    figures.save({"stops": [[s.orders, s.asked_ms, s.ended_ms] for s in stops]})


if __name__ == "__main__":
    main()
