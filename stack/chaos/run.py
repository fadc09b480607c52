"""Kills at random moments, then the list of faults; each compared with an undisturbed run."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from connectors.redis import open_client
from loadtest.open_loop.watcher import DecisionWatcher
from stack.chaos.evidence import PublishedLog, Span, compare, read_trail
from stack.chaos.feed import Feed, Progress, spoil_control, symbols, wait_until_decided
from stack.chaos.log_faults import LogFaults
from stack.chaos.proxy import Proxy
from stack.chaos.recovery import Fault, recovered_after
from stack.chaos.servers import ServerFaults
from stack.chaos.table import ChaosReport, Injected, Trial, row
from stack.processes.gateway import GatewayProcess, SeriesTopics, series_gateway
from stack.processes.own import running
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ServiceUnavailable

#: No deadline: the undisturbed run and the disturbed one must not differ by their speed.
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}
CATCH_UP_S = 180.0
RATE_HZ = 400.0
RECOVERY_GOAL_S = 10.0
#: Longer than the group's session.
PAUSE_S = 9.0
SETTLE_S = 3.0


def proxied(settings: StackSettings) -> tuple[StackSettings, int, int]:
    """A stack whose broker has a second listener, which clients reach through a proxy's port."""
    listen, target = free_ports(2)
    port, controller = settings.ports.kafka[0], settings.ports.kafka_controller[0]
    extra = {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller},FAR://{LOOPBACK}:{target}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},FAR://{LOOPBACK}:{listen}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    return settings.model_copy(update={"kafka_extra": extra}), listen, target


class Chaos:
    """One run on a stack that is up and serves a released model."""

    def __init__(self, settings: StackSettings, seed: int, progress: Progress) -> None:
        self._settings, self._progress = settings, progress
        self._random = random.Random(seed)
        self._series = f"chaos-{seed}-{time.time_ns() // 1_000_000}"
        self._seed = seed
        self._servers = ServerFaults(settings.absolute_home)
        self._redis = open_client(settings.redis_url, 2.0)
        self._restarts: list[float] = []

    def run(self, kills: int, poison: int, faults: bool, proxy_ports: tuple[int, int] | None) -> ChaosReport:
        """Do all of it.

        Args:
            kills: SIGKILLs of the gateway at random moments.
            poison: messages of the flood.
            faults: whether the fault list is run.
            proxy_ports: of the proxied listener; None leaves the cut out.
        """
        began = time.monotonic()
        storm, breeze, calm = (self._topics(name) for name in ("storm", "breeze", "calm"))
        feed = Feed(self._settings, storm.ticks, self._seed, RATE_HZ)
        try:
            injected = [self._kill_at_random(storm, feed, kills)]
            watched: list[Injected] = []
            if faults or poison:
                watched = self._fault_list(breeze, feed, poison, proxy_ports, faults=faults)
        finally:
            feed.close()
        self._progress("the undisturbed run over the same ticks")
        process = series_gateway(self._settings, calm, "calm", **self._environment(patient=True))
        with running(process):
            process.wait_for_partitions()
            self._catch_up(calm, feed.ends())
        reference = self._trail(calm)
        rows = [
            row(i, compare(reference, self._trail(storm), i.span, whole_evidence=True), "evidence")
            for i in injected
        ]
        if watched:
            found = self._trail(breeze)
            rows += [row(i, compare(reference, found, i.span, whole_evidence=False), "features") for i in watched]
        if faults:
            trial = Trial(self._settings, self._series, self._seed, self._servers, self._progress)
            rows += LogFaults(trial).rows()
        restarts = sorted(self._restarts) or [math.nan]
        return ChaosReport(rows, restarts[len(restarts) // 2], restarts[-1], time.monotonic() - began)

    # ---- kills --------------------------------------------------------------------------------

    def _kill_at_random(self, topics: SeriesTopics, feed: Feed, kills: int) -> Injected:
        since = dict.fromkeys(range(self._settings.partitions), 0)
        process = series_gateway(self._settings, topics, "storm", **self._environment(patient=True))
        watcher = DecisionWatcher(self._settings.kafka_bootstrap, topics.decisions)
        try:
            process.start()
            process.wait_for_partitions(self._settings.partitions)
            for number in range(kills):
                self._progress(f"kill {number + 1} of {kills}")
                self._wait_for_the_moment(process, number)
                process.kill()
                self._spoil_snapshots(topics, number)
                process.start()
            process.wait_for_partitions(self._settings.partitions)
            self._measure_restart(process, watcher)
            ends = feed.ends()
            self._catch_up(topics, ends)
            process.drain()
        finally:
            process.kill()
            watcher.close()
        return Injected("gateway killed (-9)", kills, Span(since, ends), None, None)

    def _wait_for_the_moment(self, process: GatewayProcess, number: int) -> None:
        """One in four while it still starts; the others while it decides."""
        if number % 4 == 3:
            time.sleep(self._random.uniform(0.0, 2.5))
            return
        process.wait_for_partitions(self._settings.partitions)
        time.sleep(self._random.uniform(0.0, 1.5))

    def _spoil_snapshots(self, topics: SeriesTopics, number: int) -> None:
        """Now and then Redis has lost them, or holds rubbish."""
        keys = [f"ultrathink:snapshot:{topics.series}:{p}" for p in range(self._settings.partitions)]
        if number % 7 == 5:
            self._redis.delete(*keys)
        elif number % 7 == 6:
            self._redis.set(keys[0], b"rubbish")

    def _measure_restart(self, process: GatewayProcess, watcher: DecisionWatcher) -> None:
        for _ in range(5):
            process.kill()
            time.sleep(0.2)
            seen, began = len(watcher.payloads), time.monotonic()
            process.start()
            while len(watcher.payloads) == seen and time.monotonic() - began < CATCH_UP_S:
                time.sleep(0.005)
            self._restarts.append(time.monotonic() - began)
            process.wait_for_partitions(self._settings.partitions)
            time.sleep(1.5)

    # ---- faults -------------------------------------------------------------------------------

    def _fault_list(
        self, topics: SeriesTopics, feed: Feed, poison: int, proxy_ports: tuple[int, int] | None, *, faults: bool
    ) -> list[Injected]:
        done: list[Injected] = []
        process = series_gateway(self._settings, topics, "a", **self._environment())
        watcher = DecisionWatcher(self._settings.kafka_bootstrap, topics.decisions)
        try:
            process.start()
            process.wait_for_partitions(self._settings.partitions)
            self._catch_up(topics, feed.ends())
            if faults:
                done += self._server_faults(topics, feed, watcher)
            if poison:
                done.append(
                    self._watch(
                        f"{poison:,} poison messages",
                        feed,
                        watcher,
                        topics,
                        lambda: feed.flood(poison),
                        goal_s=None,
                    )
                )
            if faults:
                action = partial(spoil_control, self._settings.kafka_bootstrap, topics.control)
                done.append(self._watch("bad control records", feed, watcher, topics, action))
                done += self._group_faults(topics, feed, watcher, process, proxy_ports)
            self._catch_up(topics, feed.ends())
            process.drain()
        finally:
            process.kill()
            watcher.close()
        return done

    def _server_faults(self, topics: SeriesTopics, feed: Feed, watcher: DecisionWatcher) -> list[Injected]:
        def freeze_triton() -> None:
            pid = self._servers.pid("triton")
            os.kill(pid, signal.SIGSTOP)
            time.sleep(3.0)
            os.kill(pid, signal.SIGCONT)

        actions: dict[str, Callable[[], None]] = {
            "Triton killed": lambda: self._servers.kill("triton"),
            "Triton frozen for 3 s": freeze_triton,
            "Redis killed": lambda: self._servers.kill("redis"),
            "Kafka broker killed": lambda: self._servers.kill("kafka-1"),
        }
        found = []
        for name, action in actions.items():
            found.append(self._watch(name, feed, watcher, topics, action))
            self._servers.wait_until_ready()
        return found

    def _group_faults(
        self, topics: SeriesTopics, feed: Feed, watcher: DecisionWatcher, first: GatewayProcess,
        proxy_ports: tuple[int, int] | None,
    ) -> list[Injected]:  # fmt: skip
        half = self._settings.partitions // 2
        found = []

        def pause(process: GatewayProcess) -> None:
            process.signal(signal.SIGSTOP)
            time.sleep(PAUSE_S)
            process.signal(signal.SIGCONT)

        with self._beside(topics, "b", half, **self._environment()) as second:
            found.append(
                self._watch("gateway paused beyond its session", feed, watcher, topics, lambda: pause(second))
            )
            second.wait_for_partitions(half)
            found.append(self._watch("gateway killed, another takes over", feed, watcher, topics, second.kill))
            first.wait_for_partitions(self._settings.partitions)
        if proxy_ports is None:
            return found
        listen, target = proxy_ports
        proxy = Proxy(listen, target)

        def cut() -> None:
            proxy.cut()
            time.sleep(PAUSE_S)
            proxy.mend()

        try:
            far = {**self._environment(), "kafka_bootstrap": f"{LOOPBACK}:{listen}"}
            with self._beside(topics, "c", half, **far) as third:
                found.append(self._watch("gateway cut off from the broker", feed, watcher, topics, cut))
                third.wait_for_partitions(half)
                third.kill()
                first.wait_for_partitions(self._settings.partitions)
        finally:
            proxy.close()
        return found

    @contextmanager
    def _beside(self, topics: SeriesTopics, name: str, partitions: int, **given: Any) -> Iterator[GatewayProcess]:
        """Another gateway of the series, which takes its share; killed at the end whatever happens."""
        process = series_gateway(self._settings, topics, name, **given)
        try:
            process.start()
            process.wait_for_partitions(partitions)
            yield process
        finally:
            process.kill()

    def _watch(
        self,
        fault: str,
        feed: Feed,
        watcher: DecisionWatcher,
        topics: SeriesTopics,
        action: Callable[[], None],
        goal_s: float | None = RECOVERY_GOAL_S,
    ) -> Injected:
        """Inject, and wait until every partition has decisions by the model again."""
        self._progress(fault)
        since = feed.ends()
        began, wall_began = time.monotonic(), time.time_ns()
        action()
        acted = time.monotonic()
        # What was sent before the fault's end may still be held; what comes now must not be.
        after = feed.ends() if goal_s is not None else since
        fault_at = Fault(since, after, wall_began, acted - began)
        recovery_s = recovered_after(watcher, fault_at, self._settings.partitions, CATCH_UP_S)
        time.sleep(SETTLE_S)
        until = feed.ends()
        self._catch_up(topics, until)
        return Injected(fault, 1, Span(since, until), recovery_s, goal_s)

    def _topics(self, name: str) -> SeriesTopics:
        # Ticks of its own: the desk whose stack this is never decides them.
        topics = SeriesTopics(f"{self._series}-{name}", ticks=f"{self._series}.ticks")
        create_topics(self._settings, topics.names)
        return topics

    def _environment(self, *, patient: bool = False) -> dict[str, Any]:
        found = {"symbols": symbols(), "durable_snapshot_s": "3", "max_order_notional": "1e6"}
        return {**found, **PATIENT} if patient else found

    def _catch_up(self, topics: SeriesTopics, ends: dict[int, int]) -> None:
        if not wait_until_decided(self._settings, topics.series, topics.ticks, ends, CATCH_UP_S):
            raise ServiceUnavailable(f"series {topics.series} did not decide all within {CATCH_UP_S:.0f} s")

    def _trail(self, topics: SeriesTopics) -> PublishedLog:
        return read_trail(self._settings.kafka_bootstrap, topics.decisions, topics.dead_letters)
