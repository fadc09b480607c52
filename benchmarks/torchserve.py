"""`make bench`: the pipeline as one model, asked of Triton and of TorchServe in turns on one machine.

Both run on CPUs here, one thread a call: Triton the ONNX graph in one process, TorchServe the TorchScript in two
workers behind Java. Ratios are TorchServe's over Triton's.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.figures import BenchmarkFigures, say
from connectors.torchserve.framing import answer, question
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.tokens import of_file
from connectors.triton.grpc import service_pb2
from connectors.triton.inferring import Infer
from loadtest.judging.compare import compare
from loadtest.measuring.result import RunResult
from loadtest.open_loop.calls import ModelLoad, drive_model
from loadtest.open_loop.rows import feature_rows
from stack.servers.settings import INFERENCE_TOKEN, StackSettings
from stack.servers.torchserve import inference_address
from stack.workflows.sandbox import MODELS, sandbox
from trading.arrays import Float32Array
from trading.models.signature import FEATURES_TENSOR

MODEL = MODELS[1]
SIDES = ("Triton", "TorchServe")
TURNS, RATE, BATCHES = 4, "50/s", (1, 8, 64)
DURATION_S, WARM_UP_S, WINDOW_S, CALLERS = 12.0, 2.0, 4.0, 2


def loads(settings: StackSettings, batch: int) -> tuple[ModelLoad, ModelLoad]:
    """The same calls, of each."""
    given = {"batch": batch, "speed": RATE, "duration_s": DURATION_S, "warm_up_s": WARM_UP_S}
    token = settings.absolute_home / "secrets" / INFERENCE_TOKEN
    return (
        ModelLoad(settings.triton_grpc, MODEL, **given),  # type: ignore[arg-type]
        ModelLoad(inference_address(settings), MODEL, token_file=token, **given),  # type: ignore[arg-type]
    )


def rows_a_second(ask: Callable[[], object], batch: int) -> float:
    """Of so many callers that never pause."""
    ends_s, counted = time.monotonic() + WINDOW_S, [0] * CALLERS

    failed: list[Exception] = []

    def caller(k: int) -> None:
        try:
            while time.monotonic() < ends_s:
                ask()
                counted[k] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the figure would be of fewer callers
            failed.append(error)

    threads = [threading.Thread(target=caller, args=(k,)) for k in range(CALLERS)]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"a caller was not answered: {failed[0]}")
    return sum(counted) * batch / (time.monotonic() - began_s)


def latencies(settings: StackSettings, figures: BenchmarkFigures) -> None:
    """Calls at their times, batch by batch, the servers in turns."""
    for batch in BATCHES:
        runs: tuple[list[RunResult], list[RunResult]] = ([], [])
        for turn in range(TURNS):
            for side in (turn % 2, 1 - turn % 2):
                found = drive_model(loads(settings, batch)[side])
                runs[side].append(found)
                took = found.latency
                say(f"  batch {batch}, turn {turn + 1} of {TURNS}, {SIDES[side]}: p50 {took.p50:.2f} ms")
        for one in compare(*runs):
            if one.figure in {"p50, ms", "p99, ms"}:
                figures.tell(
                    f"batch {batch}: {one.figure.removesuffix(', ms')}, TorchServe over Triton", one.ratio, "times",
                    beside=f"95 % {one.low:.2f} to {one.high:.2f}; {one.a:.3g} ms and {one.b:.3g} ms",
                )  # fmt: skip


def throughputs(settings: StackSettings, figures: BenchmarkFigures) -> None:
    """Rows a second of two callers that never pause."""
    token = of_file(settings.absolute_home / "secrets" / INFERENCE_TOKEN)
    rows = feature_rows()
    with (
        closing(Infer(settings.triton_grpc)) as triton,
        closing(TorchServeInfer(inference_address(settings), token)) as torchserve,
    ):
        for batch in BATCHES:
            some = rows[:batch]
            request, asked = triton_request(some), question([FEATURES_TENSOR], [some])
            best = [0.0, 0.0]
            for _ in range(TURNS):
                best[0] = max(best[0], rows_a_second(lambda r=request: triton(r, 5.0), batch))
                # Which also raises where it is a refusal.
                answer(torchserve(MODEL, "", asked, 5.0))
                best[1] = max(best[1], rows_a_second(lambda a=asked: torchserve(MODEL, "", a, 5.0), batch))
            figures.tell(
                f"batch {batch}, {CALLERS} callers: rows/s, TorchServe over Triton", best[1] / best[0], "times",
                beside=f"{best[0]:,.0f} and {best[1]:,.0f} rows/s",
            )  # fmt: skip


def triton_request(rows: Float32Array) -> object:
    """A call of Triton."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=rows.shape)
    return service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[rows.tobytes()])


def main() -> None:
    """All of it, and benchmarks/results/torchserve.json."""
    figures = BenchmarkFigures("torchserve", "TorchServe beside Triton: the pipeline as one model, in turns")
    with (
        tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder,
        sandbox(Path(folder) / "home", beside=("torchserve",), show=say) as settings,
    ):
        latencies(settings, figures)
        throughputs(settings, figures)
    figures.save()


if __name__ == "__main__":
    main()
