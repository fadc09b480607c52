"""What is checked before any load: that the target is ours, answers, and takes what will be sent."""

from __future__ import annotations

import ipaddress
import json
import socket
import urllib.error
import urllib.request
from typing import Any

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.framing import DESCRIBE, description
from connectors.torchserve.inferring import TorchServeInfer
from connectors.triton import grpc as triton
from connectors.triton.asking import ServedModel, ServedTensor, served_model
from connectors.triton.errors import InferenceServerException
from loadtest.errors import InvalidRun
from trading.errors import BadRecord, ServiceUnavailable

ANSWER_S = 5.0


def only_loopback(addresses: str, *, allow_remote: bool) -> None:
    """Refuse to load somebody else's server by mistake.

    Args:
        addresses: comma-separated host:port, a scheme before it allowed.
        allow_remote: whether any host will do.

    Raises:
        InvalidRun: an address is malformed, or leads off this machine and that was not asked for.
    """
    for address in addresses.split(","):
        bare = address.strip().rpartition("//")[2].partition("/")[0]
        host, _, port = bare.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidRun(f"address {address!r}: expected HOST:PORT, as 127.0.0.1:8001")
        if not allow_remote and not is_loopback(host.strip("[]")):
            raise InvalidRun(
                f"{address.strip()} is not on this machine: a load test can take a server down; "
                "if it is yours, say --allow-remote"
            )


def is_loopback(host: str) -> bool:
    """Whether every address of a name leads back to this machine. A name that is unknown does not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(a.partition("%")[0]).is_loopback for a in found)


def check_grpc(address: str, model: str, version: str = "", batch: int = 1) -> ServedModel:
    """What is served there. Raises InvalidRun where gRPC is not answered, or the batch is too large."""
    client = triton.InferenceServerClient(address)
    try:
        client.is_server_live(client_timeout=ANSWER_S)
        if not client.is_model_ready(model, version, client_timeout=ANSWER_S):
            raise InvalidRun(_not_ready(address, model, version))
        metadata = client.get_model_metadata(model, version, as_json=True, client_timeout=ANSWER_S)
        config = client.get_model_config(model, version, as_json=True, client_timeout=ANSWER_S)["config"]
    except InferenceServerException as error:
        raise InvalidRun(_no_answer(address, "gRPC", str(error.message()), str(error.status() or ""))) from None
    finally:
        client.close()
    return checked(served_model(model, metadata, config), batch)


def check_http(address: str, model: str, version: str = "", batch: int = 1) -> ServedModel:
    """What is served there. Raises InvalidRun where HTTP is not answered, or the batch is too large."""
    base = address if "//" in address else f"http://{address}"
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
    try:
        _get(base, "/v2")
    except urllib.error.HTTPError as error:
        raise InvalidRun(_no_answer(address, "HTTP", error.reason, str(error.code))) from None
    except (OSError, ValueError) as error:
        raise InvalidRun(_no_answer(address, "HTTP", str(getattr(error, "reason", error)), "")) from None
    try:
        metadata, config = _get(base, path), _get(base, f"{path}/config")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise InvalidRun(_no_answer(address, "HTTP", error.reason, str(error.code))) from None
        raise InvalidRun(_not_ready(address, model, version)) from None
    except (OSError, ValueError) as error:
        raise InvalidRun(_no_answer(address, "HTTP", str(error), "")) from None
    return checked(served_model(model, metadata, config), batch)


def check_torchserve(infer: TorchServeInfer, model: str, version: str = "", batch: int = 1) -> ServedModel:
    """What TorchServe serves. Raises InvalidRun where it does not answer, or the batch is too large."""
    try:
        told = description(infer(model, version, DESCRIBE, ANSWER_S))
    except RpcError as error:
        if meaning(error) is Meaning.ABSENT:
            which = f"{model} version {version}" if version else model
            raise InvalidRun(
                f"TorchServe at {infer.address} serves no model {which}: see `ultrathink export list --server "
                "torchserve`, and release it"
            ) from None
        raise InvalidRun(
            f"TorchServe at {infer.address} does not answer: start it with `ultrathink stack up --with torchserve` "
            f"({meaning(error).value})"
        ) from None
    except (BadRecord, ServiceUnavailable) as error:
        raise InvalidRun(f"TorchServe at {infer.address}: {error}") from None
    inputs, outputs = (
        tuple(ServedTensor(one.name, one.dtype, one.dims) for one in side) for side in (told.inputs, told.outputs)
    )
    return checked(ServedModel(told.name, told.version, inputs, outputs, told.max_batch_size), batch)


def checked(served: ServedModel, batch: int) -> ServedModel:
    """Raises InvalidRun where a model does not take so many rows at once, or takes nothing."""
    if not served.inputs:
        raise InvalidRun(f"model {served.name} takes nothing: there is nothing to send")
    most = served.rows_at_once
    if most is not None and (batch > most if served.max_batch else batch != most):
        raise InvalidRun(
            f"batch {batch}: model {served.name} takes {'at most ' if served.max_batch else ''}{most} rows"
        )
    return served


def _get(base: str, path: str) -> dict[str, Any]:
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"{base} is no HTTP address")
    with urllib.request.urlopen(base + path, timeout=ANSWER_S) as answer:  # noqa: S310 (the scheme is checked)
        return dict(json.load(answer))


def _not_ready(address: str, model: str, version: str) -> str:
    which = f"{model} version {version}" if version else model
    return f"Triton at {address} serves no model {which}: see `ultrathink export list`, and release it"


def _no_answer(address: str, protocol: str, reason: str, status: str) -> str:
    if "PERMISSION_DENIED" in status or "UNAUTHENTICATED" in status or status in {"401", "403"}:
        return f"{protocol} at {address} gives no permission: {reason}"
    return f"Triton at {address} does not answer by {protocol}: start it with `ultrathink stack up` ({reason})"
