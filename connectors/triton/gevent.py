"""gRPC under gevent: its C core would block gevent's loop otherwise."""

from __future__ import annotations

from grpc.experimental.gevent import init_gevent

__all__ = ["init_gevent"]
