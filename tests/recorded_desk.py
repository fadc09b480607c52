"""What a desk left in its logs: ticks, decisions, fills and commands of a real pipeline on real ticks, a partition each."""

from __future__ import annotations

from collections import defaultdict

from gateway.partitions import PartitionStates
from gateway.pipeline import Pipeline, PipelineSettings
from gateway.ports import Ports
from tests.fakes import FakeClock, FakeMetrics, FakeReservations, FakeSink, FakeSnapshots, FakeSource, FakeStates
from tests.golden_log import FILE, NO_DEADLINE, OTHER, PARTITIONS, Broker, Model, raw_batches
from trading.decision.policy import DecisionPolicy
from trading.events import Command
from trading.experiments.register import ExperimentHistory
from trading.intake import Admission
from trading.risk.limits import LimitSet
from trading.risk.trading_state import TradingState
from trading.state.log import Committed, LoggedMessage
from trading.state.partition import PartitionState

TOPIC, BAND = "market.ticks", 0.05


class RecordingBroker(Broker):
    """Keeps what it reported, where it lay."""

    def __init__(self):
        super().__init__()
        self.reported = defaultdict(list)

    def take(self, partition, fills_to, control_to):
        found = super().take(partition, fills_to, control_to)
        if found is not None:
            begin = found.fills_to - len(found.reports)
            self.reported[partition] += [(begin + k, report) for k, report in enumerate(found.reports)]
        return found


class MemoryLog:
    """Implements PartitionLog over lists."""

    cluster, group, name, ticks_topic, was = "cluster", "gateway", "log", TOPIC, {}

    def __init__(self, partition, ticks, decided, reported, told):
        self.partition = partition
        self.messages, self.published, self.reported, self.told = ticks, decided, reported, told
        self.experiments = ExperimentHistory()

    def committed(self):
        return Committed(-1)

    def bounds(self):
        return (self.messages[0].offset, self.messages[-1].offset + 1) if self.messages else (0, 0)

    def buried(self, since):
        return []

    def snapshots(self):
        return iter(())

    def ticks(self, start, stop):
        found = [m for m in self.messages if start <= m.offset < stop]
        for k in range(0, len(found), 1000):
            yield found[k : k + 1000]

    def decisions(self, start):
        if self.published[start:]:
            yield list(enumerate(self.published))[start:]

    def reports(self, start, stop):
        return [(offset, report) for offset, report in self.reported if start <= offset < stop]

    def commands(self, start, stop):
        return self.told[start:stop]

    def assigned(self, experiment, symbol, event_time_ns):
        return self.experiments.assigned(experiment, symbol, event_time_ns)


class Quotas(FakeReservations):
    """Another quota a batch, as reservations are."""

    def quota(self, partition, gross):
        self.money += 1234.56789 / 7
        if self.money > 950_000:
            self.money = 850_000.0
        return self.money


def limits():
    return LimitSet(FILE, books=PARTITIONS)


def recorded(source, limit, *, assumed, seed=5, canaries=None):
    """Partition -> its log."""
    clock, broker, states = FakeClock(0), RecordingBroker(), FakeStates()
    state = PartitionStates(lambda: PartitionState(limits()))
    ports = Ports(
        FakeSource([]), Model(), FakeSink(), FakeSnapshots(), states, clock, FakeMetrics(), events=broker,
        reservations=Quotas(900_000.0), canaries=canaries,
    )  # fmt: skip
    settings = PipelineSettings(NO_DEADLINE, 0, 0, 1024, 16, 0.0, "champion")
    policy = DecisionPolicy(limits(), BAND, assumed)
    pipeline = Pipeline(ports, state, policy, Admission(frozenset(), 64), settings)
    ticks, decided = defaultdict(list), defaultdict(list)
    for number, raw in enumerate(raw_batches(source, limit, clock, seed=seed)):
        states.state = TradingState.REDUCING if number % 50 in range(40, 44) else TradingState.ACTIVE
        if number == 60:
            broker.commands.append((Command("limits", "", "golden", "golden", 0), limits().like(OTHER).whole()))
        if number in {90, 150}:
            broker.commands += [
                (Command("reset", what, "golden", "golden", 0), None)
                for what in ("drawdown", "daily_loss", "cooldown", "repeated_execution")
            ]
        for part in raw.slices:
            columns = zip(part.offsets, part.sent_ns, part.keys, part.payloads, part.traceparents, strict=True)
            ticks[part.partition] += [LoggedMessage(*row, row[1]) for row in columns]
        for partition, part in pipeline.decide(raw).parts.items():
            for stream, _, value in part.records:
                if stream.value == "orders":
                    broker.order(partition, value)
                elif stream.value == "decisions":
                    decided[partition].append(value)
    return {p: MemoryLog(p, ticks[p], decided[p], broker.reported[p], broker.commands) for p in sorted(ticks)}
