"""What tells Python about a tensor's values while a module is traced, and raises no tracer warning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

#: Seen with torch 2.9: each answers in C++, where nothing warns.
SILENT = frozenset({"equal", "allclose", "is_nonzero", "__dlpack__"})


class SilentChoices(TorchFunctionMode):
    """Notes them; `told` holds a sentence for each."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Note it, and do it."""
        if (name := getattr(func, "__name__", "")) in SILENT:
            self.told.append(f"{name} tells Python about a tensor's values")
        return func(*args, **(kwargs or {}))
