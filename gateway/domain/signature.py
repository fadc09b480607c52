"""The contract of every served model: tensor names, dtypes, dims and the feature version.

config.pbtxt is generated from it, exported files are checked against it, and the gateway
compares it with the live server before the first tick.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.domain.features import FEATURE_VERSION, FEATURES

REGIMES = ("bull", "bear", "sideways")
STRATEGIES = ("momentum", "mean_reversion", "breakout", "volatility_carry")
MAX_BATCH_SIZE = 1024


class TensorSpec(Struct, frozen=True):
    """A tensor without its batch axis; `dtype` is Triton's name."""

    name: str
    dims: tuple[int, ...]
    dtype: Literal["FP32"] = "FP32"


class ModelSignature(Struct, frozen=True):
    """A model's contract. `backend` is Triton's backend, or "ensemble" with its `steps`."""

    name: str
    backend: Literal["onnxruntime", "pytorch", "ensemble"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[str, ...] = ()
    feature_version: int = FEATURE_VERSION
    max_batch_size: int = MAX_BATCH_SIZE

    @property
    def file_name(self) -> str:
        """The file that the backend expects in a version's folder."""
        return {"onnxruntime": "model.onnx", "pytorch": "model.pt"}[self.backend]


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
