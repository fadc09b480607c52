"""A model in eight bits: calibrated on rows like its own, and judged by what would be decided differently.

Only calibrated scales are written. ONNX Runtime's dynamic ones span a whole batch, so that one row that is out of
the ordinary would change the answers to those that the server happens to put beside it.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from exporters.errors import ExportError, brief
from exporters.formats import onnx
from exporters.formats.tensors import Array, Arrays, Run
from exporters.parity.decisions import actions, spearman
from trading.models.signature import ModelSignature

#: Of rows like its own so many may be decided otherwise, and so far may their order be another.
FLIPS, RANK = 0.01, 0.99
#: What is quantized: products with weights. Everything else stays in float32, and so do the answers.
OPERATORS = ("MatMul", "Gemm", "Conv")
CALIBRATED_AT_ONCE, TURNS = 64, 30
CHANNELS_SINCE = 13


class Int8(Struct, frozen=True):
    """What eight bits cost, and what they save.

    Attributes:
        flip_rate: share of rows that would be decided otherwise.
        rank_correlation: Spearman's, of each output's answers with the source's; the lowest.
        weights_share: bytes of weights, as a share of float32's.
        latency_share_1, latency_share_64: median time of a batch of 1 and of 64, as a share of float32's, measured
            in turns on this machine's CPU.
        rows: that it was judged on.
    """

    flip_rate: float
    rank_correlation: float
    weights_share: float
    latency_share_1: float
    latency_share_64: float
    rows: int


def quantize(signature: ModelSignature, path: Path, rows: Arrays) -> None:
    """Replace an ONNX file with one whose products are of int8 weights and int8 factors.

    Args:
        signature: of the model.
        path: the file.
        rows: like those that it will be asked, an array an input.

    Raises:
        ExportError: it has no product with weights, or ONNX Runtime cannot quantize it.
    """
    # They take longer to import than most files take to quantize.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    if not any(node.op_type in OPERATORS for node in onnx.load(path).graph.node):
        raise ExportError(
            f"{signature.name} has no matrix product, so int8 would change nothing: use --precision fp32"
        )

    opset = next((one.version for one in onnx.load(path).opset_import if not one.domain), 0)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        try:
            with quietly():
                quantize_static(
                    path,
                    made,
                    calibration(batches(signature, rows)),
                    quant_format=QuantFormat.QDQ,
                    # A scale a channel came with opset 13.
                    per_channel=opset >= CHANNELS_SINCE,
                    op_types_to_quantize=list(OPERATORS),
                    activation_type=QuantType.QInt8,
                    weight_type=QuantType.QInt8,
                    # Seven bits a weight: without VNNI two products are added in 16 bits, which eight overflow.
                    reduce_range=True,
                    extra_options={"OpTypesToExcludeOutputQuantization": list(OPERATORS)},
                )
        except Exception as error:
            raise ExportError(f"{signature.name} cannot be quantized by ONNX Runtime: {brief(error)}") from error
        quantized = onnx.load(made)
    if not any(node.op_type == "DequantizeLinear" for node in quantized.graph.node):
        raise ExportError(
            f"{signature.name} has no product of float32 weights, so int8 would change nothing: "
            "use --precision fp32"
        )
    onnx.save(quantized, path)


def calibration(rows: Iterator[dict[str, Array]]) -> Any:
    """The rows as ONNX Runtime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Array] | None:
            return next(rows, None)

    return Reader()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """ONNX Runtime logs to the root that it would rather have been given another file."""
    loud = logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger().setLevel(loud)


def batches(signature: ModelSignature, rows: Arrays) -> Iterator[dict[str, Array]]:
    """The rows as ONNX Runtime's calibration reads them."""
    names = [t.name for t in signature.inputs]
    for start in range(0, len(rows[0]), CALIBRATED_AT_ONCE):
        yield dict(zip(names, (a[start : start + CALIBRATED_AT_ONCE] for a in rows), strict=True))


def judged(
    signature: ModelSignature, source: Run, full: Run, reduced: Run, rows: Arrays, weights_share: float
) -> Int8:
    """What eight bits cost on some rows, and what they save.

    Args:
        signature: of the model.
        source: what is answered by right.
        full, reduced: the files in float32 and in int8.
        rows: that it was not calibrated on.
        weights_share: bytes of int8's weights over float32's.
    """
    wanted, got = source(rows), in_batches(reduced, rows, signature.max_batch_size)
    few = [a[: min(64, signature.max_batch_size)] for a in rows]
    return Int8(
        flip_rate=float(np.mean(actions(signature, wanted) != actions(signature, got))),
        rank_correlation=min(
            (spearman(a, b) for a, b in zip(wanted, got, strict=True) if a.dtype.kind == "f"), default=1.0
        ),
        weights_share=weights_share,
        latency_share_1=latency_share(full, reduced, [a[:1] for a in rows]),
        latency_share_64=latency_share(full, reduced, few),
        rows=len(rows[0]),
    )


def require(signature: ModelSignature, found: Int8) -> None:
    """Raise ExportError unless what eight bits cost is within the bounds."""
    if found.flip_rate > FLIPS or not found.rank_correlation >= RANK:
        raise ExportError(
            f"{signature.name} in int8 decides {found.flip_rate:.2%} of {found.rows} rows otherwise (at most "
            f"{FLIPS:.0%}), with a rank correlation of {found.rank_correlation:.4f} (at least {RANK}): calibrate "
            "it on more rows like its own (--calibrate), or use --precision fp16"
        )


def in_batches(run: Run, rows: Arrays, largest: int) -> Arrays:
    """All answers, asked for in batches that can be served."""
    parts = [run([a[k : k + largest] for a in rows]) for k in range(0, len(rows[0]), largest)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def latency_share(full: Run, reduced: Run, rows: Arrays) -> float:
    """Median time of the second over that of the first, asked in turns."""
    took: dict[str, list[float]] = {"full": [], "reduced": []}
    for _ in range(TURNS):
        for name, run in (("full", full), ("reduced", reduced)):
            began = time.perf_counter()
            run(rows)
            took[name].append(time.perf_counter() - began)
    return statistics.median(took["reduced"]) / statistics.median(took["full"])
