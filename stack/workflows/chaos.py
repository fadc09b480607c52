"""A stack of its own, broken on purpose: brought up, taught, hurt, taken down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from stack.chaos.run import Chaos, proxied
from stack.chaos.servers import ServerFaults
from stack.chaos.table import ChaosReport, Trial
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import down, up
from stack.workflows.experiments.faults import CanaryFaults
from stack.workflows.export_workflow import export
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train

MARKET = "simulate:regimes?seed=3&ticks=9000&symbols=3"


def run_chaos(
    home: Path, seed: int, kills: int, poison: int, *, faults: bool, progress: Callable[[str], None]
) -> ChaosReport:
    """Kills, a flood of rubbish and faults, compared with an undisturbed run; the stack is taken down at the end.

    Args:
        home: of the stack; logs and topics stay there.
        seed: of the ticks and of the moments.
        kills: SIGKILLs of the gateway.
        poison: messages of rubbish.
        faults: whether servers and group are hurt too.
        progress: told what is being done.

    Raises:
        UltraThinkError: the stack does not come up, or does not come back.
    """
    base = StackSettings(
        profile="servers", home=home, ports=ServerPorts.automatic(), model_repository=home / "models"
    )
    settings, listen, target = proxied(base)
    os.environ["ULTRATHINK_HOME"] = str(home)
    progress("starting the servers")
    up(settings, lambda _: None)
    try:
        progress("training and exporting")
        train(TrainRequest((MARKET,)), lambda *_: None)
        export(lambda _: None)
        report = Chaos(settings, seed, progress).run(kills, poison, faults, (listen, target))
        if not faults:
            return report
        began = time.monotonic()
        series = f"chaos-{seed}-{time.time_ns() // 1_000_000}"
        trial = Trial(settings, series, seed, ServerFaults(settings.absolute_home), progress)
        grown = CanaryFaults(trial).rows()
        seconds = report.seconds + time.monotonic() - began
        return structs.replace(report, rows=[*report.rows, *grown], seconds=seconds)
    finally:
        down(home)
