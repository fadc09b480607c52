"""The contract of every served model: tensor names, dtypes, dims and the feature version.

config.pbtxt is generated from it, exported files are checked against it, and the gateway
compares it with the live server before the first tick.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from trading.features.definitions import FEATURE_VERSION, FEATURES

REGIMES = ("bull", "bear", "sideways")
STRATEGIES = (
    "momentum",
    "mean_reversion",
    "breakout",
    "volatility_carry",
    "bull_expert",
    "bear_expert",
    "sideways_expert",
)
MAX_BATCH_SIZE = 1024


#: Triton's names; the models of the live path use FP32 only.
Dtype = Literal["BOOL", "INT8", "UINT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


class TensorSpec(Struct, frozen=True):
    """A tensor without its batch axis; `dtype` is Triton's name."""

    name: str
    dims: tuple[int, ...]
    dtype: Dtype = "FP32"


class ModelSignature(Struct, frozen=True):
    """A model's contract. `backend` is Triton's backend, or "ensemble" with its `steps`.

    `feature_version` is None for a model that does not read the feature kernel's rows.
    """

    name: str
    backend: Literal["onnxruntime", "pytorch", "ensemble"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[str, ...] = ()
    feature_version: int | None = FEATURE_VERSION
    max_batch_size: int = MAX_BATCH_SIZE

    @property
    def file_name(self) -> str:
        """The file that the backend expects in a version's folder; an ensemble has none."""
        return {"onnxruntime": "model.onnx", "pytorch": "model.pt", "ensemble": ""}[self.backend]


FEATURES_TENSOR = TensorSpec("features", (len(FEATURES),))
REGIME_TENSOR = TensorSpec("regime_probabilities", (len(REGIMES),))
SIGNALS_TENSOR = TensorSpec("strategy_signals", (len(STRATEGIES),))
WEIGHTS_TENSOR = TensorSpec("strategy_weights", (len(STRATEGIES),))
TARGET_TENSOR = TensorSpec("target_position", (1,))

REGIME_DETECTION = ModelSignature("regime_detection", "onnxruntime", (FEATURES_TENSOR,), (REGIME_TENSOR,))
STRATEGY_SIGNALS = ModelSignature("strategy_signals", "pytorch", (FEATURES_TENSOR,), (SIGNALS_TENSOR,))
META_CONTROLLER = ModelSignature(
    "meta_controller",
    "onnxruntime",
    (FEATURES_TENSOR, REGIME_TENSOR, SIGNALS_TENSOR),
    (WEIGHTS_TENSOR, TARGET_TENSOR),
)
TRADING_DECISION = ModelSignature(
    "trading_decision",
    "ensemble",
    (FEATURES_TENSOR,),
    (REGIME_TENSOR, SIGNALS_TENSOR, WEIGHTS_TENSOR, TARGET_TENSOR),
    steps=("regime_detection", "strategy_signals", "meta_controller"),
)

#: Every model, in the order in which Triton must load them.
MODELS: dict[str, ModelSignature] = {
    m.name: m for m in (REGIME_DETECTION, STRATEGY_SIGNALS, META_CONTROLLER, TRADING_DECISION)
}

#: The pipeline composed into one graph: the same contract in one session, without hops.
FUSED = "fused"


def variant_name(name: str, variant: str) -> str:
    """The served name of a variant: one config.pbtxt governs all versions, so each has its own."""
    return f"{name}_{variant}" if variant else name


def contract(name: str) -> ModelSignature:
    """The signature of a model of ours, or of a variant of one.

    Raises:
        KeyError: it is neither.
    """
    if name in MODELS:
        return MODELS[name]
    for base, signature in MODELS.items():
        if name.startswith(f"{base}_"):
            backend = "onnxruntime" if signature.backend == "ensemble" else signature.backend
            return replace(signature, name=name, backend=backend, steps=())
    raise KeyError(name)
