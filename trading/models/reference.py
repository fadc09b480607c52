"""What callers of the served models need to know, as tables: tensors, meanings, and each feature's formula.

`python -m trading.models.reference` prints them as they stand in docs/inference.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from trading.features import definitions
from trading.features.definitions import FEATURE_VERSION, FEATURES
from trading.models.signature import (
    FEATURES_TENSOR,
    MODELS,
    REGIME_TENSOR,
    REGIMES,
    SIGNALS_TENSOR,
    STRATEGIES,
    TARGET_TENSOR,
    WEIGHTS_TENSOR,
    TensorSpec,
    contract,
    variant_name,
)

#: What each tensor holds.
MEANINGS: dict[str, str] = {
    FEATURES_TENSOR.name: f"the feature kernel's row, version {FEATURE_VERSION}, in the order below",
    REGIME_TENSOR.name: f"probability of each regime, in [0, 1], together 1: {', '.join(REGIMES)}",
    SIGNALS_TENSOR.name: f"what each strategy would hold, in [-1, 1]: {', '.join(STRATEGIES)}",
    WEIGHTS_TENSOR.name: "weight of each strategy, in the signals' order, in [0, 1], together 1",
    TARGET_TENSOR.name: "what to hold, as a share of the most that the limits allow, in [-1, 1]; below 0 is short",
}


def models() -> str:
    """A row a model: what it takes, and what it answers with."""
    rows = [
        (f"`{m.name}`", shown(m.inputs), shown(m.outputs), f"{m.max_batch_size:,}")
        for m in (*MODELS.values(), contract(variant_name("trading_decision", "fused")))
    ]
    return table(("model", "takes", "answers with", "rows in one request"), rows)


def tensors() -> str:
    """A row a tensor: what its numbers mean."""
    known = (FEATURES_TENSOR, REGIME_TENSOR, SIGNALS_TENSOR, WEIGHTS_TENSOR, TARGET_TENSOR)
    return table(
        ("tensor", "dtype", "shape", "holds"),
        [(f"`{t.name}`", t.dtype, f"[rows, {t.dims[0]}]", MEANINGS[t.name]) for t in known],
    )


def features() -> str:
    """A row a feature, in the order in which they are sent."""
    told = {name: words for names, words in formulas() for name in names}
    return table(
        ("at", "feature", "unit", "formula"), [(str(k), f"`{n}`", *told[n]) for k, n in enumerate(FEATURES)]
    )


def formulas() -> Iterator[tuple[list[str], tuple[str, str]]]:
    """Names, and their unit and formula, as the definitions' own table tells them."""
    lines = (definitions.__doc__ or "").splitlines()
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) >= len(("features", "unit", "formula")) and cells[0] != "features":
            if set(cells[0]) <= {"-"}:
                continue
            yield named(cells[0]), (cells[1], cells[2])


def named(cell: str) -> list[str]:
    """The features that a cell names: one, several, or "first ... last" of their order."""
    first, _, last = cell.partition(" ... ")
    if last:
        return list(FEATURES[FEATURES.index(first) : FEATURES.index(last) + 1])
    names = cell.split(", ")
    # "drawdown_10m, drawdown_20d"
    return [name for name in FEATURES if name in names]


def shown(specs: Sequence[TensorSpec]) -> str:
    """Names and widths."""
    return ", ".join(f"`{t.name}` [{t.dims[0]}]" for t in specs)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pages() -> dict[str, str]:
    """Each table by its name."""
    return {"models": models(), "tensors": tensors(), "features": features()}


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(pages().values()) + "\n")
