"""TorchServe by gRPC, for models whose archives are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import tag, task

from connectors.torchserve.framing import answer
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.tokens import of_file
from loadtest.measuring import preflight
from loadtest.measuring.answers import finite
from loadtest.open_loop.transports import asked
from loadtest.users.base import TIMEOUT_S, RowsUser


class TorchServeUser(RowsUser):
    """One call of a batch every 10 ms; he takes part only where his tag is asked for."""

    target, protocol = "torchserve-grpc", "gRPC"
    #: No option has this name: only his tag brings him.
    needs = ("torchserve",)

    @staticmethod
    def infer_of(options: Any) -> TorchServeInfer:
        """A channel, with the token that lies where the options say."""
        return TorchServeInfer(options.torchserve_grpc, of_file(Path(options.torchserve_token_file)))

    def connect(self) -> None:
        """Open the channel."""
        self.client = self.infer_of(self.options)
        self.take(preflight.check_torchserve(self.client, self.model, batch=self.batch))

    def on_stop(self) -> None:
        """Close the channel: an open one keeps the process from ending under gevent."""
        if hasattr(self, "client"):
            self.client.close()

    @tag("torchserve")
    @task
    def infer(self) -> None:
        """A batch of real rows."""
        self.timed(self._infer)

    def _infer(self) -> int:
        content = self.client(self.model, "", asked(self.some_rows()), TIMEOUT_S)
        for name, values in answer(content).outputs.items():
            finite(name, values)
        return len(content)
