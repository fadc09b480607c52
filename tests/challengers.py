"""Canaries and their challengers, hand-written."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.ports import RunningCanary
from tests.fakes import FakePredictor
from trading.experiments.arms import Arm
from trading.experiments.assignment import CanaryArms, ShareStep


class FakeChallenger:
    """Implements ChallengerModel: answers with a fixed target, or fails as told, at once or when it is waited for."""

    def __init__(self, target=-0.25, version="9", broken=(), fails=None, late=None):
        self.model, self.version, self.fails, self.late = FakePredictor(target), version, fails, late
        self.model.broken_rows = set(broken)
        self.asked, self.closed, self.served = [], False, True

    def begin(self, features):
        if self.fails is not None:
            raise self.fails
        self.asked.append(features)
        return self

    def result(self, timeout_s):
        if self.late is not None:
            raise self.late
        return replace(self.model.predict(self.asked[-1], timeout_s), model_version=self.version)

    def settle_rows(self, probe):
        pass

    def is_served(self):
        return self.served

    def close(self):
        self.closed = True


class FakeCanaries:
    """Implements Canaries: these run."""

    def __init__(self, *canaries):
        self.canaries = canaries

    def running(self):
        return self.canaries


def canary(
    model, share=0.5, name="fresh", *, champion=("trading_decision", "7"), symbols=(), from_block=0, block_s=10
):
    """One challenger, `newer`, with a share of the units; of the command at offset 5."""
    steps = (ShareStep(from_block, share, 5),)
    arms = CanaryArms(name, f"salt-of-{name}", block_s * 1_000_000_000, 1, frozenset(symbols), steps)
    return RunningCanary(arms, champion, (Arm("newer", "trading_decision_fused", "9"),), (model,))
