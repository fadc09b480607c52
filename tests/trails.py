"""Trails for tests: records of every kind, stored and signed as forensics does."""

from __future__ import annotations

import json
import random
from itertools import count

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.kinds import BY_NAME, KINDS
from services.forensics.ports import LogName
from services.forensics.records import Record, encode_headers
from services.forensics.signing import SECOND_NS, Signer
from services.forensics.store.writer import TrailWriter
from tests.unit.gateway.test_pipeline import Bench, quotes
from tests.unit.services.forensics.fakes import FakeLines
from trading.encoding import encode
from trading.keys import key_id

#: Two days before a month's end: what is filed by months lies in two.
START_MS = 1_764_417_600_000
STEP_MS = 40_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
TOPICS = {kind.name: LogName(f"id-of-{kind.name}", 0, f"topic.{kind.name}") for kind in KINDS}


def decisions():
    """Payloads of real decisions, one after another, with ids of their own."""
    samples = [encode(decision) for decision in Bench([quotes(60)]).run()]
    for number in count():
        payload = json.loads(samples[number % len(samples)])
        payload |= {
            "decision_id": f"market.ticks-0-{number}",
            "event_time_ns": (START_MS + number * STEP_MS) * 1_000_000,
        }
        yield encode(payload)


def values(kind):
    """Payloads of a kind, without end."""
    if kind == "decisions":
        yield from decisions()
    for n in count():
        at_ns = (START_MS + n * STEP_MS) * 1_000_000
        made = {
            "orders": {"order_id": f"market.ticks-0-{n}", "number": n, "symbol": "MRK", "quantity": 1.5, "price": 8.25, "event_time_ns": at_ns, "sent_ns": at_ns, "account": "main", "strategy": "s"},
            "fills": {"order_id": f"market.ticks-0-{n}", "number": n, "sequence": 0, "symbol": "MRK", "kind": "fill", "quantity": 1.5, "price": 8.25, "fee": 0.01, "left": 0.0, "at_ns": at_ns},
            "dead_letters": {"topic": "market.ticks", "partition": 0, "offset": n, "reason": "malformed", "key": None, "payload": "x", "payload_bytes": 1},
            "commands": {"kind": "trading_state", "value": "active", "reason": f"morning {n}", "by": "ann", "at_ns": at_ns},
            "releases": {"id": f"r{n}", "step": "done", "action": "release", "model": "trading_decision", "version": n, "time": f"2026-11-27T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}+00:00", "user": "ann"},
            "starts": {"event": "start", "instance": f"gateway-{n}", "group": "gateway", "at_ns": at_ns, "model_name": "trading_decision", "model_version": "1", "serving": {"server": "triton 2.60.0", "devices": {"trading_decision": "cpu"}, "rows_multiple": 8, "probe_sha256": "00"}, "account": "desk", "strategy": "", "rebalance_band": 0.05, "execution": "assumed", "ticks_topic": "market.ticks", "ticks_topic_id": "a", "decisions_topic": "trading.decisions", "decisions_topic_id": "b", "partitions": 4, "build": {}},
            "experiments": {"experiment": "e", "event": "started", "at_ns": at_ns},
        }  # fmt: skip
        yield json.dumps(made[kind]).encode()


def records(kind, number, seed=0):
    """So many records: gaps of offsets, headers, absent keys, and now and then what cannot be read."""
    random_ = random.Random(f"{kind}{seed}")
    offset, made = 0, values(kind)
    for n in range(number):
        offset += random_.choice((1, 1, 1, 2, 3))
        value = next(made)
        if random_.random() < 0.01:
            value = random_.choice((None, b"", b"\xff\x00rubbish", value[:-2]))
        headers = encode_headers([("traceparent", b"00-1"), ("empty", None)]) if random_.random() < 0.3 else None
        key = random_.choice((b"MRK", b"", None))
        yield Record(offset, random_.choice((1, 2)), START_MS + n * STEP_MS, key, value, headers)


def build(settings, folder, sizes, *, batch=200, clock_ns=START_MS * 1_000_000, step_ns=SECOND_NS, then_ns=None):
    """A trail with so many records a kind, in batches, a checkpoint every few; returns its checkpoint files."""
    writer = TrailWriter(settings.postgres_url("forensics", "ultrathink"))
    files, topic = CheckpointFiles(folder), FakeLines()
    signer = Signer(KEY, KEYS, files, topic, writer)
    signer.begin()
    random_ = random.Random(1)
    heads = {name: writer.open(TOPICS[name], name) for name in BY_NAME}
    left = {name: list(records(name, size)) for name, size in sizes.items()}
    while any(left.values()):
        now = {}
        for name, mine in left.items():
            take = min(len(mine), random_.randint(1, batch))
            if take:
                now[TOPICS[name]], left[name] = mine[:take], mine[take:]
        writer.store(now)
        if random_.random() < 0.5 or not any(left.values()):
            clock_ns += step_ns
            assert signer.sign(heads.values(), clock_ns) is not None
    for later_ns in () if then_ns is None else (then_ns - 86_400 * SECOND_NS, then_ns):
        assert signer.sign(heads.values(), later_ns) is not None
    writer.close()
    return files
