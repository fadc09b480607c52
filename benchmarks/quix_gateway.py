"""A gateway as Quix Streams' manual leads one to write it: each tick is decided as it comes, the library commits.

Runs in an environment of its own (benchmarks/quix.lock), started by benchmarks/quix.py. The features, the model and
the rules are ours; the way from tick to decision is Quix Streams'. Its books are in memory, and begin anew.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

from quixstreams import Application, message_context

from benchmarks.naive import decided
from connectors.triton import grpc as triton
from trading.decision import wire
from trading.decision.policy import DecisionPolicy
from trading.intake import decode_tick
from trading.market import Tick
from trading.risk.limits import LimitSet
from trading.state.partition import PartitionState


def main(spec: dict[str, Any]) -> None:
    """Serve until it is ended."""
    server, policy = triton.InferenceServerClient(spec["triton"]), DecisionPolicy(LimitSet())
    states: defaultdict[int, PartitionState] = defaultdict(PartitionState)
    app = Application(
        broker_address=spec["bootstrap"],
        consumer_group=spec["group"],
        processing_guarantee=spec["guarantee"],
        commit_interval=spec["commit_interval_s"],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="ERROR",
    )
    ticks = app.topic(spec["ticks"], key_deserializer="bytes", value_deserializer="bytes")
    decisions = app.topic(spec["decisions"], key_serializer="bytes", value_serializer="bytes")

    def decide(payload: bytes) -> bytes:
        at = message_context()
        tick = decode_tick(payload)
        answer = (
            decided(tick, states[at.partition], policy, server, spec["model"]) if isinstance(tick, Tick) else b"0"
        )
        name = wire.make_id(spec["ticks"], at.partition, at.offset).encode()
        return wire.HEAD + name + b'","action":"hold","reason":"target","decided":' + answer + b"}"

    app.run(app.dataframe(ticks).apply(decide).to_topic(decisions))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
