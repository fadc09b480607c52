"""`make bench`: what a fetch, a call and a commit cost bare on the desk's own servers: the least there is.

One tick after another, a hundred a second, from one thread: sent, fetched, asked of the model, published in a
transaction with its offset, and read by a reader of what is committed. No features, no rules, no batches.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct

from benchmarks.figures import BenchmarkFigures, say
from connectors.kafka.client import Consumer, KafkaException, Producer, TopicPartition
from connectors.kafka.reading import connect, reader
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import UNCOMMITTED, bounds
from connectors.triton import grpc as triton
from gateway.adapters.kafka_sink import SHARED
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox
from trading.features.kernel import N_FEATURES
from trading.models.signature import FEATURES_TENSOR

#: As many bytes as the gateway's usually are, and its producers' settings; it is fetched as readers do.
TICK, DECISION = bytes(200), bytes(1200)
GROUP = "bounds"
EVERY_S = 0.01
WARM_UP, COUNT = 2_000, 3_000
PATIENCE_S = 10.0
PERCENTILES = (50.0, 99.0)


class Steps(Struct, frozen=True):
    """Of one tick: milliseconds."""

    fetch: float
    call: float
    commit: float
    visible: float
    whole: float


class Bare:
    """Clients that do nothing but what must be done; `partitions` are written to by each transaction."""

    def __init__(self, settings: StackSettings, partitions: int) -> None:
        bootstrap = settings.kafka_bootstrap
        self._partitions = partitions
        self._sender = Producer({**SHARED, "bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
        self._ticks, self._seen = reader(bootstrap, GROUP), reader(bootstrap)
        for client, topic in ((self._ticks, TOPICS.ticks), (self._seen, TOPICS.decisions)):
            end = bounds(bootstrap, topic, 0, UNCOMMITTED)[1]
            client.assign([TopicPartition(topic, 0, end)])
        self._metadata = self._ticks.consumer_group_metadata()
        self._server = triton.InferenceServerClient(settings.triton_grpc)
        row = np.zeros((1, N_FEATURES), np.float32)
        self._asked = triton.InferInput(FEATURES_TENSOR.name, row.shape, "FP32")
        self._asked.set_data_from_numpy(row)
        # Two take turns, as in the gateway: a broker refuses one's next transaction for some milliseconds.
        self._producers = [
            Producer({**SHARED, "bootstrap.servers": bootstrap, "transactional.id": f"{GROUP}.{k}", "linger.ms": 0})
            for k in range(2)
        ]
        for producer in self._producers:
            connect(producer, TOPICS.decisions, PATIENCE_S)
            producer.init_transactions(PATIENCE_S)

    def one(self, turn: int) -> Steps:
        """A tick, from sent to visible."""
        times = [time.perf_counter()]

        def step(work: Callable[[], object]) -> None:
            work()
            times.append(time.perf_counter())

        step(lambda: self._fetch(turn))
        step(lambda: self._server.infer(MODELS[1], [self._asked]))
        step(lambda: self._commit(self._producers[turn % 2], turn))
        step(lambda: taken(self._seen))
        fetch, call, commit, visible = (1e3 * np.diff(times)).tolist()
        return Steps(fetch, call, commit, visible, 1e3 * (times[-1] - times[0]))

    def close(self) -> None:
        for client in (self._ticks, self._seen):
            client.close()
        self._server.close()

    def _fetch(self, turn: int) -> None:
        self._sender.produce(TOPICS.ticks, TICK, str(turn).encode(), 0)
        self._sender.poll(0)
        taken(self._ticks)

    def _commit(self, producer: Producer, turn: int) -> None:
        producer.begin_transaction()
        for partition in range(self._partitions):
            producer.produce(TOPICS.decisions, DECISION, str(turn).encode(), partition)
        offsets = [TopicPartition(TOPICS.ticks, p, turn) for p in range(self._partitions)]
        producer.send_offsets_to_transaction(offsets, self._metadata, PATIENCE_S)
        producer.commit_transaction(PATIENCE_S)


def taken(consumer: Consumer) -> None:
    """Until a message has come; what else the client tells is no message."""
    deadline = time.monotonic() + PATIENCE_S
    while (message := consumer.poll(0.05)) is None or message.error() is not None:
        if time.monotonic() > deadline:
            raise SystemExit("nothing came within ten seconds: no figure counts")


def measured(settings: StackSettings, partitions: int) -> list[Steps]:
    """A hundred a second, after a warm-up."""
    bare = Bare(settings, partitions)
    found, next_s = [], time.monotonic()
    try:
        for turn in range(WARM_UP + COUNT):
            time.sleep(max(0.0, next_s - time.monotonic()))
            next_s = max(next_s + EVERY_S, time.monotonic())
            found.append(bare.one(turn))
    finally:
        bare.close()
    return found[WARM_UP:]


def main() -> None:
    """For transactions over one partition and over all."""
    figures = BenchmarkFigures("bounds", "bounds: one fetch, one call, one commit, bare")
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder, sandbox(Path(folder)) as settings:
        taken_ms = {}
        for partitions in (1, settings.partitions):
            say(f"  transactions over {partitions} partitions: {(WARM_UP + COUNT) * EVERY_S:.0f} s")
            try:
                taken_ms[partitions] = measured(settings, partitions)
            except KafkaException as error:
                raise SystemExit(f"no figure counts: {error.args[0].str()}") from error
    for partitions, steps in taken_ms.items():
        for name, what in (
            ("one fetch: sent to read", "fetch"),
            ("one call of the model, one row", "call"),
            ("one commit", "commit"),
            ("committed to read", "visible"),
            ("sent to visible", "whole"),
        ):
            middle, high = np.percentile([getattr(one, what) for one in steps], PERCENTILES)
            figures.tell(
                f"{name}, transactions over {partitions}, p50", float(middle), "ms", beside=f"p99 {high:.2f} ms"
            )
    figures.save({str(partitions): steps for partitions, steps in taken_ms.items()})


if __name__ == "__main__":
    main()
