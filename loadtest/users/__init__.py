"""Locust's users of the model server, the data service and the desk; safe under gevent, with real feature rows."""

from connectors.triton.gevent import init_gevent

#: gRPC's C core would block gevent's loop otherwise; before the first channel.
init_gevent()

from loadtest.users.data_service import DataServiceUser  # noqa: E402
from loadtest.users.end_to_end import EndToEndUser  # noqa: E402
from loadtest.users.torchserve import TorchServeUser  # noqa: E402
from loadtest.users.triton_grpc import TritonGrpcUser, TritonStreamUser  # noqa: E402
from loadtest.users.triton_http import TritonHttpBinaryUser, TritonHttpJsonUser  # noqa: E402

__all__ = [
    "DataServiceUser",
    "EndToEndUser",
    "TorchServeUser",
    "TritonGrpcUser",
    "TritonHttpBinaryUser",
    "TritonHttpJsonUser",
    "TritonStreamUser",
]
