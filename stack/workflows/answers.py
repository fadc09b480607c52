"""The data service asked for what a desk decided by, and compared bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from services.data.client import DataClient, FeatureVector
from trading.decision.schema import Decision
from trading.decision.wire import place
from trading.errors import ServiceUnavailable
from trading.files import replace_file

#: Decisions that are asked about, spread over the run.
ASKED = 1000
CAUGHT_UP_S = 60.0
ANSWER = "answer.json"


class AnswersReport(Struct, frozen=True):
    """What the data service said.

    Attributes:
        asked: decisions whose features were asked for, as of their ticks.
        same: of them answered with the bits that the decision holds, or as not warm where it was not.
        ticks: that it has read.
        p50_ms, p99_ms: of one question after another, of features as they are now.
        answer: file of the answer about one decision: its evidence and its proof.
    """

    asked: int
    same: int
    ticks: int
    p50_ms: float
    p99_ms: float
    answer: str


def compare(
    client: DataClient, decisions: Sequence[Decision], shown: Decision, folder: Path, show: Callable[[str], None]
) -> AnswersReport:
    """Ask about decisions spread over a run, and about one of them in full.

    Raises:
        ServiceUnavailable: it does not answer, or does not catch up.
    """
    show("the data service catches up")
    wait_for(client, decisions)
    show("features are asked for as of each decision's tick")
    some = [decisions[k] for k in np.unique(np.linspace(0, len(decisions) - 1, ASKED).astype(int)).tolist()]
    questions = []
    for one in some:
        partition, offset = place(one.decision_id)
        questions.append({"symbol": one.symbol, "offset": offset, "partition": partition})
    found = client.feature_batch(questions)
    same = sum(is_same(one, answer) for one, answer in zip(some, found, strict=True))
    times = []
    for one in some[:300]:
        began = time.perf_counter()
        client.features(one.symbol)
        times.append((time.perf_counter() - began) * 1e3)
    folder.mkdir(parents=True, exist_ok=True)
    told = client.decision(shown.decision_id)
    replace_file(folder / ANSWER, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    p50, p99 = np.percentile(times, [50, 99]).round(1).tolist()
    ticks = sum(one["ticks"] for one in client.symbols())
    return AnswersReport(len(some), same, ticks, p50, p99, ANSWER)


def is_same(decision: Decision, answer: FeatureVector | Exception) -> bool:
    """Whether an answer is what a decision was made by."""
    if isinstance(answer, Exception) or answer.offset != place(decision.decision_id)[1]:
        return False
    if answer.values is None:
        return not decision.warm
    return decision.warm and answer.values.tobytes() == np.array(decision.features, np.float32).tobytes()


def wait_for(client: DataClient, decisions: Sequence[Decision]) -> None:
    """Until it has read the ticks of all of them. Raises ServiceUnavailable where it has not in time."""
    wanted: dict[int, int] = {}
    for one in decisions:
        partition, offset = place(one.decision_id)
        wanted[partition] = max(wanted.get(partition, 0), offset)
    deadline = time.monotonic() + CAUGHT_UP_S
    while True:
        read = {int(partition): offset for partition, offset in client.health()["positions"].items()}
        if all(read.get(partition, 0) > offset for partition, offset in wanted.items()):
            return
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"the data service has read {read} of {wanted} after {CAUGHT_UP_S:.0f} s")
        time.sleep(0.1)
