"""Where the stack of this folder listens, as every other command finds it: by what it keeps in its home."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

HOME, KEPT = ".ultrathink", "stack.json"


class Ports(Struct, frozen=True):
    """Of a stack that nobody has moved; Kafka has one a broker."""

    triton_grpc: int = 8001
    triton_http: int = 8000
    torchserve_grpc: int = 7070
    data: int = 8010
    kafka: tuple[int, ...] = (9092,)


class Kept(Struct, frozen=True):
    """What of a stack's settings says where it listens."""

    ports: Ports = Ports()
    brokers: int = 1


def home_folder() -> Path:
    """ULTRATHINK_HOME, else ./.ultrathink."""
    return Path(os.environ.get("ULTRATHINK_HOME") or HOME).expanduser()


def stack_here() -> Kept:
    """Of the stack in ULTRATHINK_HOME, else in ./.ultrathink; the usual where there is none, or none to read."""
    try:
        return msgspec.json.decode((home_folder() / KEPT).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError, ValueError):
        return Kept()


def addresses(kept: Kept) -> dict[str, str]:
    """Of its servers, by what Locust's options call them."""
    return {
        "triton_grpc": f"127.0.0.1:{kept.ports.triton_grpc}",
        "triton_http": f"http://127.0.0.1:{kept.ports.triton_http}",
        "torchserve_grpc": f"127.0.0.1:{kept.ports.torchserve_grpc}",
        "torchserve_token": os.fspath(home_folder() / "secrets" / "torchserve-inference"),
        "data_service": f"http://127.0.0.1:{kept.ports.data}",
        "kafka": ",".join(f"127.0.0.1:{port}" for port in kept.ports.kafka[: kept.brokers]),
    }
