"""A user of the data service: features as they are now, of one symbol after another."""

from __future__ import annotations

from itertools import cycle
from typing import Any
from urllib.parse import quote

import msgspec
from geventhttpclient import HTTPClient
from locust import tag, task

from loadtest.users.base import TIMEOUT_S, PacedUser


class DataServiceUser(PacedUser):
    """Asks as a page would that shows the desk, every 10 ms; it may not have what it is not given a token for."""

    target = "data-service"
    needs = ("data_token",)
    protocol = "HTTP"

    def connect(self) -> None:
        """Open a connection, and learn the symbols. Raises ValueError with the service's words."""
        address, token = self.options.data_service, self.options.data_token
        self.client = HTTPClient.from_url(address, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S)
        self.headers = {"Authorization": f"Bearer {token}"}
        found = msgspec.json.decode(self.get("/v1/symbols"))["items"]
        if not found:
            raise ValueError(f"the data service at {address} has read no tick yet: send some first")
        self.paths = cycle(
            [f"/v1/features/{quote(one['symbol'], safe='')}?partition={one['partition']}" for one in found]
        )

    def on_stop(self) -> None:
        """Hang up."""
        if hasattr(self, "client"):
            self.client.close()

    def get(self, path: str) -> bytes:
        """The answer's body. Raises ValueError with the service's words."""
        response: Any = self.client.get(path, headers=self.headers)
        answer = bytes(response.read())
        if response.status_code != 200:
            raise ValueError(f"HTTP {response.status_code}: {answer[:200].decode(errors='replace')}")
        return answer

    @tag("data")
    @task
    def features(self) -> None:
        """Of one symbol."""
        self.timed(self._features)

    def _features(self) -> int:
        answer = self.get(next(self.paths))
        told = msgspec.json.decode(answer)
        # What is not known must be said to be so: a row without values and without a reason is a wrong answer.
        if (told["features"] is None) == (told["reason"] is None):
            raise ValueError(f"{told['symbol']} has neither features nor a reason, or both")
        return len(answer)
