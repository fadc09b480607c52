"""Triton by gRPC: its client library."""

from __future__ import annotations

from grpc import RpcError
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    model_config_pb2,
    service_pb2,
)

__all__ = [
    "RECONNECT",
    "UNLIMITED",
    "InferInput",
    "InferRequestedOutput",
    "InferenceServerClient",
    "RpcError",
    "model_config_pb2",
    "service_pb2",
]
#: gRPC backs off for up to two minutes by default; a restarted server must be found at once.
RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
#: Whole models travel with a request.
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
