"""Locust's users of Triton, TorchServe, the data service and the desk, judged by loadtest/judging/targets.yaml.

The page: locust -f loadtest/locustfile.py
Without it: locust -f loadtest/locustfile.py --headless -u 4 -t 30s --tags grpc
More processes: add --processes 2, or --master here and --worker elsewhere.
A shape: locust -f loadtest/locustfile.py,loadtest/shapes/spike.py --peak-users 40
"""

from __future__ import annotations

from loadtest.closed_loop import locust_plugin
from loadtest.users import (
    DataServiceUser,
    EndToEndUser,
    TorchServeUser,
    TritonGrpcUser,
    TritonHttpBinaryUser,
    TritonHttpJsonUser,
    TritonStreamUser,
)

__all__ = [
    "DataServiceUser",
    "EndToEndUser",
    "TorchServeUser",
    "TritonGrpcUser",
    "TritonHttpBinaryUser",
    "TritonHttpJsonUser",
    "TritonStreamUser",
    "locust_plugin",
]
