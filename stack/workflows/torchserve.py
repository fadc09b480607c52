"""Which TorchServe is meant, and with which tokens: the stack's, or one that somebody names."""

from __future__ import annotations

import os
import re

from msgspec import Struct

from connectors.torchserve.tokens import Token, fixed, of_file
from connectors.triton.addresses import ADDRESS
from exporters.release.torchserve_server import TorchServeServer, connect_torchserve
from exporters.repository.repository import ModelRepository
from stack.servers.settings import load
from stack.servers.torchserve import FILES, inference_address, management_address
from trading.errors import ConfigurationError

#: Where the tokens of another one are given.
MANAGEMENT, INFERENCE = "ULTRATHINK_TORCHSERVE_MANAGEMENT_TOKEN", "ULTRATHINK_TORCHSERVE_INFERENCE_TOKEN"
DEFAULT_GRPC = 7070


class TorchServePlace(Struct, frozen=True):
    """A TorchServe.

    Attributes:
        management: http://host:port.
        grpc: host:port of its inference.
        tokens: for management, and for inference.
        workers: of a released version.
    """

    management: str
    grpc: str
    tokens: tuple[Token, Token]
    workers: int

    def connect(self, repository: ModelRepository) -> TorchServeServer:
        """A connection, to serve this repository's versions. Raises ServiceUnavailable."""
        return connect_torchserve(self.management, self.grpc, repository, self.tokens, self.workers)


def place(told: str | None = None) -> TorchServePlace:
    """The stack's, or the one that is named. Raises ConfigurationError.

    A stack's tokens are for its own server, and are told to no other.

    Args:
        told: http://host:port of its management; a comma and host:port of its gRPC where that is not 7070 there.
    """
    stack = load()
    if not told:
        secrets = stack.absolute_home / "secrets"
        tokens = of_file(secrets / FILES["management"]), of_file(secrets / FILES["inference"])
        return TorchServePlace(
            management_address(stack), inference_address(stack), tokens, stack.torchserve_workers
        )
    management, _, grpc = (part.strip() for part in told.partition(","))
    address = re.fullmatch(r"http://(\[[0-9A-Fa-f:.]+\]|[^\s,/:@\[\]]+):[0-9]{1,5}/?", management)
    if address is None or (grpc and ADDRESS.fullmatch(grpc) is None):
        raise ConfigurationError(
            f"--torchserve-url {told!r}: expected http://host:port of its management, and with a comma host:port "
            "of its gRPC"
        )
    missing = [name for name in (MANAGEMENT, INFERENCE) if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(f"{' and '.join(missing)} must hold the tokens of {management}")
    tokens = fixed(os.environ[MANAGEMENT]), fixed(os.environ[INFERENCE])
    return TorchServePlace(management, grpc or f"{address[1]}:{DEFAULT_GRPC}", tokens, stack.torchserve_workers)
