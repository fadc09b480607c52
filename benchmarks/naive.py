"""What most people write first: one tick, one blocking call, one decision, one flush, one commit.

The same features, model, rules and broker as the gateway's; only the way is different.
"""

from __future__ import annotations

import time

import numpy as np
import tritonclient.grpc as triton
from confluent_kafka import Consumer, Producer, TopicPartition

from gateway.domain.codec import decode_tick, encode
from gateway.domain.decision import DecisionPolicy, Market, decide
from gateway.domain.schemas import Tick, TickBatch, TradingState
from gateway.state import PartitionState


def decisions_per_s(
    bootstrap: str, address: str, model: str, partition: int, since: int, count: int, to: str
) -> float:
    """Decide `count` ticks of a partition from offset `since`, one after another; returns how many a second."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "naive", "enable.auto.commit": False})
    consumer.assign([TopicPartition("market.ticks", partition, since)])
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    server = triton.InferenceServerClient(address)
    state, policy, done, began = PartitionState(), DecisionPolicy(), 0, 0.0
    while done < count:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        began = began or time.perf_counter()
        tick = decode_tick(message.value())
        if isinstance(tick, Tick):
            producer.produce(to, decided(tick, state, policy, server, model), message.key(), partition=partition)
            producer.flush()
        consumer.commit(message=message, asynchronous=False)
        done += 1
    consumer.close()
    server.close()
    return done / (time.perf_counter() - began)


def decided(
    tick: Tick, state: PartitionState, policy: DecisionPolicy, server: triton.InferenceServerClient, model: str
) -> bytes:
    row = state.observe(TickBatch.from_ticks([tick]))
    asked = triton.InferInput("features", row.values.shape, "FP32")
    asked.set_data_from_numpy(row.values)
    target = float(server.infer(model, [asked]).as_numpy("target_position")[0, 0])
    market = Market(*row.market[0].tolist())
    if not np.isnan(market.mid):
        state.book.mark(tick.symbol, market.mid)
    judged = decide(tick.symbol, target, bool(row.warm[0]), market, 0, state.book, TradingState.ACTIVE, policy)
    if judged.quantity:
        state.book.set_quantity(tick.symbol, round(state.book.quantity(tick.symbol) + judged.quantity, 10))
    return encode([tick.symbol, judged, row.values[0].tolist()])
