"""What most people write first: one tick, one blocking call, one decision, one flush, one commit.

The same features, model, rules and broker as the gateway's; only the way is different.
"""

from __future__ import annotations

import math
import time

from connectors.kafka.client import Consumer, Producer, TopicPartition
from connectors.kafka.topics import TOPICS
from connectors.triton import grpc as triton
from trading.decision.policy import DecisionPolicy
from trading.decision.sizing import target_quantity
from trading.encoding import encode
from trading.intake import decode_tick
from trading.market import Tick, TickBatch
from trading.risk.limits import LimitSet
from trading.risk.model import Order
from trading.state.partition import PartitionState


def decisions_per_s(
    bootstrap: str, address: str, model: str, partition: int, since: int, count: int, to: str
) -> float:
    """Decide `count` ticks of a partition from offset `since`, one after another; returns how many a second."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "naive", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPICS.ticks, partition, since)])
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    server = triton.InferenceServerClient(address)
    state, policy, done, began = PartitionState(), DecisionPolicy(LimitSet()), 0, 0.0
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
    bid, ask, _, mid = row.market[0].tolist()
    book, limits = state.book, policy.limits.of(tick.symbol)
    age_ns = book.observe(tick.symbol, tick.event_time_ns, mid)
    quantity, verdict = 0.0, None
    if row.warm[0] and mid > 0.0:
        quantity = target_quantity(target, mid, limits.max_position_notional, limits.lot) - book.quantity(
            tick.symbol
        )
    if quantity and abs(quantity) * mid >= policy.rebalance_band * limits.max_position_notional:
        price = ask if quantity > 0.0 else bid
        order = Order(
            quantity, price, math.nan, bid, ask, mid, tick.event_time_ns, book.now_ns, age_ns, 0, True, math.nan
        )
        verdict = book.judge(tick.symbol, order)
        if verdict.quantity:
            book.accept(tick.symbol, verdict.quantity, price, tick.event_time_ns, assumed=True)
    return encode([tick.symbol, verdict, row.values[0].tolist()])
