"""A model's card: what it is, what it learned from, how good it is, and what it must not be used for."""

from __future__ import annotations

import math

from trading.models.signature import ModelSignature
from trainers.costs import Costs
from trainers.data.manifest import Manifest
from trainers.evaluation.tear_sheet import facts, when

PURPOSE = {
    "regime_detection": "gives the probabilities of bull, bear and sideways that the filter of a hidden Markov (or "
    "mixture) teacher would give, from one row of features",
    "strategy_signals": "gives seven specialists' signals in [-1, 1], each trained on its own objective",
    "meta_controller": "weighs the specialists by features and regimes, and blends them to a target in [-1, 1]",
}
PIPELINE = (
    "Part of the pipeline regime_detection, strategy_signals, meta_controller, served by Triton for the "
    "gateway of UltraThink Pilot."
)
LIMITS = (
    "Learned from the span below only; other markets, sessions and speeds are unknown to it.",
    "Its probabilities are calibrated against the teacher, not against anything that will happen.",
    "A target is no order: the gateway's risk rules decide. Not for use without them.",
    "Features of another version than the one below are refused by exporter and gateway.",
)


def card(
    signature: ModelSignature,
    manifest: Manifest,
    costs: Costs,
    metrics: dict[str, float],
    parameters: dict[str, str | int | float],
    verdict: str,
    trained_until_ns: int,
) -> str:
    """Markdown.

    Args:
        signature: of the model.
        manifest, costs: what it learned from and with.
        metrics: out of sample; those of single folds are left out.
        parameters: of the training.
        verdict: of the pipeline's evaluation.
        trained_until_ns: nothing at or after it was learned from.
    """
    shown = {k: v for k, v in metrics.items() if not k.startswith("fold") and math.isfinite(v)}
    data = [*facts(manifest, costs), ("span", f"{when(manifest.first_ns)} to {when(manifest.last_ns)} UTC"),
            ("trained until", f"{when(trained_until_ns)} UTC, purged and with an embargo")]  # fmt: skip
    lines = [
        f"# {signature.name}", "", f"{verdict[0].upper()}{verdict[1:]}.", "",
        f"**Intended use.** It {PURPOSE[signature.name]}. {PIPELINE}", "",
        "**Limits.**", "", *(f"- {limit}" for limit in LIMITS), "",
        "**Tensors.** in: " + ", ".join(f"{t.name} {list(t.dims)}" for t in signature.inputs)
        + "; out: " + ", ".join(f"{t.name} {list(t.dims)}" for t in signature.outputs) + ", all FP32.", "",
        "**Data.**", "", *(f"- {name}: {value}" for name, value in data), "",
        "**Out of sample.**", "", *(f"- {name}: {value:.4g}" for name, value in shown.items()), "",
        "**Training.**", "", *(f"- {name}: {value}" for name, value in parameters.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)
