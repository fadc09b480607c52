"""One run of the open-model driver against a desk."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from connectors.kafka.topics import TOPICS
from loadtest.errors import InvalidRun
from loadtest.measuring.result import RunResult, ServerSamples
from loadtest.measuring.sampling import Sampler
from loadtest.open_loop.child_process import DONE, READY, Child
from loadtest.open_loop.join import join
from loadtest.open_loop.schedule import Speed
from trading.errors import ConfigurationError
from trading.history import open_source

#: Reading a large source, and connecting.
PREPARE_S = 120.0


class Load(Struct, frozen=True):
    """What is sent to which desk.

    Attributes:
        bootstrap: Kafka's addresses.
        source: a SOURCE; beyond its end (or 300,000 ticks) it begins anew.
        speed: see Speed.parse.
        limit, duration_s: at most so many ticks, or so long; one of them at least.
        warm_up_s: what is meant in the first seconds is sent, and not counted.
        seed: of Poisson's gaps.
        quiet_s: without a new decision for so long after the last tick, the rest is missing.
        as_recorded: each tick happened when the source says, and is sent once; else it happens when it is sent.
        keep_decisions: the reader keeps them whole.
        linger_ms: how long the sender waits for more ticks to send together.
    """

    bootstrap: str
    source: str
    speed: str = "real"
    limit: int | None = None
    duration_s: float | None = None
    warm_up_s: float = 5.0
    seed: int = 0
    ticks_topic: str = TOPICS.ticks
    decisions_topic: str = TOPICS.decisions
    quiet_s: float = 20.0
    as_recorded: bool = False
    keep_decisions: bool = False
    linger_ms: float = 1.0

    def check(self) -> None:
        """Raises ConfigurationError for what cannot be run."""
        speed = Speed.parse(self.speed)
        if self.limit is None and self.duration_s is None:
            raise ConfigurationError("a run needs an end: give --limit or --duration")
        if self.duration_s is not None and self.duration_s <= self.warm_up_s:
            raise ConfigurationError(
                f"--duration {self.duration_s:g} s is all warm-up (--warm-up {self.warm_up_s:g} s)"
            )
        if speed.kind == "max":
            raise ConfigurationError("speed max has no intended times, and so no latency: give a rate")
        open_source(self.source)


class Progress(Struct):
    """How far a run is: ticks sent, decisions seen, and the generator's worst lag of late."""

    sent: int = 0
    seen: int = 0
    lag_ms: float = 0.0

    def hear(self, told: dict[str, Any]) -> None:
        """Take what a child says."""
        self.sent = told.get("sent", self.sent)
        self.seen = told.get("seen", self.seen)
        self.lag_ms = told.get("lag_ms", self.lag_ms)


def drive(
    load: Load,
    *,
    target: str = "decision",
    servers: Mapping[str, int] | None = None,
    settings: Mapping[str, str] | None = None,
    show: Callable[[Progress], None] = lambda _: None,
) -> RunResult:
    """Send, read, and join.

    Args:
        load: what to send.
        target: the name of the gates that will judge.
        servers: pids to sample, by name.
        settings: more to say about the run in its result.
        show: called a few times a second.

    Raises:
        ConfigurationError: the load makes no sense.
        InvalidRun: nothing came of it.
    """
    load.check()
    state = Progress()

    def progress(told: dict[str, Any]) -> None:
        state.hear(told)
        show(state)

    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="ultrathink-load-") as folder:
        sent, sampled = send_and_read(load, folder, servers or {}, progress)
        found = join(Path(folder), sent, load.warm_up_s)
    if not found.tally.planned:
        raise InvalidRun(
            f"all {sent['sent']:,} ticks were sent within the warm-up of {load.warm_up_s:g} s: send more"
        )
    return found.tally.result(
        target=target,
        settings={"source": load.source, "speed": load.speed, "seed": str(load.seed), **(settings or {})},
        started_at=started_at,
        warm_up_s=load.warm_up_s,
        sent=sent["sent"],
        missing=found.tally.planned - found.tally.answered,
        repeated=found.repeated,
        undecided=found.undecided,
        bytes_an_answer=found.bytes_an_answer,
        servers=sampled,
    )


def sender_of(load: Load, folder: str, progress: Callable[[dict[str, Any]], None]) -> Child:
    """The sender's process."""
    return Child("loadtest.open_loop.sender", {
        "bootstrap": load.bootstrap, "topic": load.ticks_topic, "out": folder, "source": load.source,
        "speed": load.speed, "limit": load.limit, "duration_s": load.duration_s, "seed": load.seed,
        "as_recorded": load.as_recorded, "linger_ms": load.linger_ms,
    }, progress)  # fmt: skip


def send_and_read(
    load: Load, folder: str, servers: Mapping[str, int], progress: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], list[ServerSamples]]:
    """Run sender and reader, each in a process of its own; what was sent, and what the servers used meanwhile."""
    reader = Child("loadtest.open_loop.reader", {
        "bootstrap": load.bootstrap, "topic": load.decisions_topic, "ticks_topic": load.ticks_topic,
        "out": folder, "quiet_s": load.quiet_s, "keep": load.keep_decisions,
    }, progress)  # fmt: skip
    sender = sender_of(load, folder, progress)
    sampler = None
    try:
        reader.expect(READY, PREPARE_S)
        sender.expect(READY, PREPARE_S)
        sampler = Sampler({**servers, "generator": sender.pid, "reader": reader.pid})
        sender.tell("go")
        sent = sender.expect(DONE, beside=reader)
        reader.tell(json.dumps({p: end for p, end in sent["ends"].items() if end > sent["bases"][p]}))
        reader.expect(DONE)
    finally:
        sampled = sampler.close() if sampler is not None else []
        sender.close()
        reader.close()
    return sent, sampled
