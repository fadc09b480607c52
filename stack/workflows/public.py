"""What callers may rely on: names that keep their parameters, or a release says otherwise.

`python -m stack.workflows.public` prints them as they stand in docs/python.md.
"""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from importlib import import_module
from typing import Any

#: Module -> its public names.
PUBLIC: dict[str, tuple[str, ...]] = {
    "trading.history": ("open_source", "Source", "Record"),
    "trading.market": ("Tick", "TickBatch"),
    "trading.features.definitions": ("FEATURES", "FEATURE_VERSION"),
    "trading.features.engine": ("FeatureEngine",),
    "trading.models.signature": ("TensorSpec", "ModelSignature", "contract"),
    "connectors.triton.asking": ("ModelClient", "ServedModel", "ServedTensor"),
    "trading.decision.schema": ("Decision", "Action", "Reason"),
    "trading.decision.wire": ("decode_decision",),
    "trading.portfolio.judging": ("judge_order",),
    "trading.risk.limits": ("LimitSet",),
    "trading.risk.verdict": ("Verdict", "RuleResult", "Outcome"),
    "trading.errors": ("UltraThinkError", "ConfigurationError", "ServiceUnavailable", "SourceError"),
}


def listed() -> str:
    """A row a name: where it is, how it is called, and what it is."""
    lines = ["| from | name | what it is |", "| --- | --- | --- |"]
    for module, names in PUBLIC.items():
        for name in names:
            thing = getattr(import_module(module), name)
            lines.append(f"| `{module}` | `{name}{called(thing)}` | {told(name, thing)} |")
    return "\n".join(lines)


def called(thing: Any) -> str:
    """Its parameters by name; "" of a constant, and of what nobody makes himself."""
    if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, Exception | Enum)):
        return ""
    try:
        names = [name for name in inspect.signature(thing).parameters if name not in {"self", "args", "kwargs"}]
    except ValueError:
        return ""
    return f"({', '.join(names)})"


def told(name: str, thing: Any) -> str:
    """The first sentence of its docstring; of a constant what it holds."""
    if not callable(thing):
        return f"{len(thing)} names, in their order" if isinstance(thing, tuple) else f"{thing}"
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return f"{inspect.cleandoc(thing.__doc__ or '')} One of {', '.join(one.value for one in thing)}."
    lines = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]
    return " ".join(lines.split()) or name


if __name__ == "__main__":
    sys.stdout.write(listed() + "\n")
