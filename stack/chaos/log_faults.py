"""Faults of the log, and of a stop while it stalls: each on a series of its own, and what must come of it."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from connectors.kafka.admin import admin_client, delete_before
from connectors.kafka.errors import translating
from connectors.kafka.messages import MS, as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import LogComparison, PublishedLog, Span, compare, read_trail
from stack.chaos.feed import SYMBOLS, Feed, symbols, wait_until_decided
from stack.chaos.table import FaultRow, Trial
from stack.processes.gateway import GatewayProcess, SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from trading.errors import BadRecord, ServiceUnavailable
from trading.events import CancelOrder, NewOrder, read_order
from trading.history import open_source
from trading.risk.trading_state import TradingState

#: No deadline, and orders that do not expire: what keeps one in is the stop alone.
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0", "order_lifetime_ms": "600000"}
CATCH_UP_S = 60.0
RATE_HZ = 400.0
ADMIN_S = 20.0
#: Of the stall, before the kill and after it; together as long as a transaction is waited for.
STALL_S = 2.0
REFUSAL = re.compile(r"is decided to \d+ and ends at \d+: it was recreated or cut short")


class LogFaults:
    """Rows of the table for what happens to topics, and to a desk that is stopped while its broker stalls."""

    def __init__(self, trial: Trial) -> None:
        """Nothing is broken yet."""
        self._settings, self._series, self._seed = trial.settings, trial.series, trial.seed
        self._servers, self._progress = trial.servers, trial.progress
        self._bootstrap = trial.settings.kafka_bootstrap

    def rows(self) -> list[FaultRow]:
        """All of them. Raises UltraThinkError."""
        return [self.killed_during_a_stall(), self.ticks_deleted(), self.ticks_recreated()]

    # ---- a stop while the broker stalls ---------------------------------------------------------

    def killed_during_a_stall(self) -> FaultRow:
        """Kafka stands still, the desk is killed, Kafka goes on: no order leaves then, and each is cancelled."""
        self._progress("killed during a stalled publish")
        topics = self._topics("stall")
        calm = SeriesTopics(f"{topics.series}-calm", ticks=topics.ticks)
        create_topics(self._settings, calm.names)
        feed = Feed(self._settings, topics.ticks, self._seed, RATE_HZ)
        try:
            with running(self._gateway(topics, execution="broker")) as process:
                process.wait_for_partitions()
                self._kill_in_a_stall(topics)
                self._catch_up(topics, feed.ends())
                resumed_ns = time.time_ns()
                self._control(topics).latch(TradingState.ACTIVE, "chaos goes on", "chaos")
                feed.close()
                self._catch_up(topics, feed.ends())
        finally:
            feed.close()
            self._control(topics).latch(TradingState.ACTIVE, "chaos goes on", "chaos")
        with running(self._gateway(calm, execution="broker")) as process:
            process.wait_for_partitions()
            self._catch_up(calm, feed.ends())
        whole = Span(dict.fromkeys(range(self._settings.partitions), 0), feed.ends())
        found = self._trail(topics)
        # A position moves by the broker's reports, of which there are none here, and not by the last decision.
        found.broken.clear()
        verdict = compare(self._trail(calm), found, whole, whole_evidence=False)
        late, working = self._after_the_kill(topics, resumed_ns)
        verdict = structs.replace(verdict, different=verdict.different + late, missing=verdict.missing + working)
        return FaultRow("killed during a stalled publish", 1, verdict, None, None, "features, orders")

    def _kill_in_a_stall(self, topics: SeriesTopics) -> None:
        self._wait_for_orders(topics)
        pids = [self._servers.pid(f"kafka-{k + 1}") for k in range(self._settings.brokers)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(STALL_S)
            # In Redis at once; in the log when it goes on.
            telling = threading.Thread(
                target=self._control(topics).latch, args=(TradingState.KILLED, "chaos", "chaos")
            )
            telling.start()
            time.sleep(STALL_S)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        telling.join()

    def _wait_for_orders(self, topics: SeriesTopics) -> None:
        deadline = time.monotonic() + CATCH_UP_S
        while not any(True for p in range(self._settings.partitions) for _ in self._orders(topics, p)):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"the desk ordered nothing within {CATCH_UP_S:.0f} s: nothing to stop")
            time.sleep(0.2)

    def _after_the_kill(self, topics: SeriesTopics, resumed_ns: int) -> tuple[int, int]:
        """How many orders lie behind a cancel, and how many have none behind them, of those before the resumption.

        A gateway that cancels knows of the kill: what it lets out after that is late, whenever it was decided. By
        offsets, because that is what a broker sees.
        """
        late = working = 0
        for partition in range(self._settings.partitions):
            seen, stopped = list[str](), False
            for at_ns, asked in self._orders(topics, partition):
                if isinstance(asked, CancelOrder):
                    stopped = True
                    seen = [order_id for order_id in seen if order_id != asked.order_id]
                elif at_ns < resumed_ns:
                    late += stopped
                    seen.append(asked.order_id)
            working += len(seen)
        return late, working

    # ---- topics ---------------------------------------------------------------------------------

    def ticks_deleted(self) -> FaultRow:
        """Retention takes ticks that are not decided: counted, HALTED until a human resumes, the rest decided."""
        self._progress("ticks deleted by retention")
        topics = self._topics("deleted")
        self._decide(topics, 300)
        before = self._ends(topics)
        self._publish(topics, 600)
        gone = {p: (before[p] + end) // 2 for p, end in self._ends(topics).items() if end > before[p] + 1}
        delete_before(self._bootstrap, topics.ticks, gone)
        lost = sum(offset - before[p] for p, offset in gone.items())
        control = self._control(topics)
        try:
            with running(self._gateway(topics)) as process:
                process.wait_for_partitions()
                told = process.scrape().value("gateway_lost_ticks_total")
                held = control.effective()
                self._catch_up(topics, self._ends(topics))
        finally:
            control.latch(TradingState.ACTIVE, "chaos goes on", "chaos")
        as_promised = told == lost and held.state is TradingState.HALTED and "deleted before" in held.reason
        expected = {
            (p, offset)
            for p, end in self._ends(topics).items()
            for offset in (*range(before[p]), *range(gone.get(p, before[p]), end))
        }
        return self._row("ticks deleted by retention", topics, expected, wrong=not as_promised, by="count, state")

    def ticks_recreated(self) -> FaultRow:
        """Ticks are made anew below what is decided: no start, a sentence with both offsets, nothing written."""
        self._progress("ticks topic recreated")
        topics = self._topics("recreated")
        self._decide(topics, 300)
        expected = {(p, offset) for p, end in self._ends(topics).items() for offset in range(end)}
        admin = admin_client(self._bootstrap)
        with translating(f"{topics.ticks} cannot be deleted"):
            admin.delete_topics([topics.ticks])[topics.ticks].result(ADMIN_S)
        deadline = time.monotonic() + ADMIN_S
        while topics.ticks in admin.list_topics(timeout=ADMIN_S).topics and time.monotonic() < deadline:
            time.sleep(0.1)
        create_topics(self._settings, topics.names)
        self._publish(topics, 30)
        process = self._gateway(topics)
        said = ""
        try:
            process.start()
            process.wait_for_partitions()
        except ServiceUnavailable as error:
            said = str(error)
        finally:
            process.kill()
        wrong = REFUSAL.search(said) is None or "Traceback" in said
        return self._row("ticks topic recreated", topics, expected, wrong=wrong, by="refusal")

    # ---- both -----------------------------------------------------------------------------------

    def _row(
        self, fault: str, topics: SeriesTopics, expected: set[tuple[int, int]], *, wrong: bool, by: str
    ) -> FaultRow:
        """What is decided against what must be; `wrong` says that the desk did not behave as promised."""
        trail = self._trail(topics)
        decided = set(trail.evidence)
        verdict = LogComparison(
            ticks=len(expected),
            letters=len(trail.letters),
            missing=len(expected - decided),
            repeated=len(trail.repeated),
            disordered=len(trail.disordered),
            different=len(decided - expected) + len(trail.broken) + trail.unreadable + wrong,
        )
        return FaultRow(fault, 1, verdict, None, None, by)

    def _decide(self, topics: SeriesTopics, ticks: int) -> None:
        with running(self._gateway(topics)) as process:
            process.wait_for_partitions()
            self._publish(topics, ticks)
            self._catch_up(topics, self._ends(topics))

    def _gateway(self, topics: SeriesTopics, **given: Any) -> GatewayProcess:
        return series_gateway(
            self._settings, topics, "a", symbols=symbols(), max_order_notional="1e6", **PATIENT, **given
        )

    def _publish(self, topics: SeriesTopics, ticks: int) -> None:
        source = open_source(f"simulate:regimes?seed={self._seed}&ticks={ticks}&symbols={SYMBOLS}")
        TickPublisher(self._bootstrap, topics.ticks).publish(
            plan(source.records(), Speed("constant", rate_hz=2000.0))
        )

    def _ends(self, topics: SeriesTopics) -> dict[int, int]:
        return {p: bounds(self._bootstrap, topics.ticks, p)[1] for p in range(self._settings.partitions)}

    def _orders(self, topics: SeriesTopics, partition: int) -> Iterator[tuple[int, NewOrder | CancelOrder]]:
        """Each with the wall time of whoever wrote it, in their order."""
        for messages in read_to_end(self._bootstrap, topics.orders, partition, 0):
            for message in messages:
                try:
                    yield message.timestamp()[1] * MS, read_order(as_bytes(message.value()))
                except BadRecord:
                    continue

    def _topics(self, name: str) -> SeriesTopics:
        topics = SeriesTopics(f"{self._series}-{name}", ticks=f"{self._series}-{name}.ticks")
        create_topics(self._settings, topics.names)
        return topics

    def _control(self, topics: SeriesTopics) -> Control:
        return Control(self._bootstrap, topics.control, self._settings.redis_url)

    def _catch_up(self, topics: SeriesTopics, ends: dict[int, int]) -> None:
        # A partition that holds nothing is never committed.
        wanted = {p: end for p, end in ends.items() if end}
        if not wait_until_decided(self._settings, topics.series, topics.ticks, wanted, CATCH_UP_S):
            raise ServiceUnavailable(f"series {topics.series} did not decide all within {CATCH_UP_S:.0f} s")

    def _trail(self, topics: SeriesTopics) -> PublishedLog:
        return read_trail(self._bootstrap, topics.decisions, topics.dead_letters)
