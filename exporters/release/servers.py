"""What a release needs of a server of models, be it Triton or TorchServe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from exporters.formats.config_pbtxt import Device
from exporters.formats.tensors import Run
from exporters.release.triton_client import Loaded
from trading.models.signature import ModelSignature


class ModelServer(Protocol):
    """One server; what it says of itself raises ServiceUnavailable, what it is told ExportError too.

    Attributes:
        kind: how people call it.
        address: where it is asked.
    """

    kind: str
    address: str

    def each(self) -> Sequence[ModelServer]:
        """Itself: see Tritons."""

    def about(self) -> str:
        """Its own name and version."""

    def sees(self, nonce: str) -> bool:
        """Whether it reads the folder that has just got an entry of this name."""

    def index(self) -> list[Loaded]:
        """Every model and version that it knows."""

    def ready(self, name: str) -> set[int]:
        """Versions of a model that answer."""

    def is_loaded(self, name: str) -> bool:
        """Whether a model answers, a copy too."""

    def load(self, name: str) -> None:
        """Serve a model as its configuration says."""

    def load_copy(self, signature: ModelSignature, config_json: str, version: int, content: bytes) -> None:
        """Load a version under another name."""

    def forget(self, name: str) -> None:
        """Clear a copy that did not load; raises nothing."""

    def unload(self, name: str) -> None:
        """Stop serving a model; nothing where it is not loaded."""

    def devices(self) -> tuple[Device, ...]:
        """Where it can run models, to be tried in this order."""

    def device(self, name: str, version: int) -> Device:
        """Where a loaded version runs."""

    def run(self, signature: ModelSignature, version: int, timeout_s: float | None = None) -> Run:
        """What asks a version."""

    def close(self) -> None:
        """End the connection."""
