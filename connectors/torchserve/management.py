"""TorchServe's management over HTTP: register, scale, choose the default, unregister, look."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from msgspec import Struct

from connectors.torchserve.tokens import Token
from trading.errors import ServiceUnavailable, UltraThinkError

CONTROL_TIMEOUT_S = 10.0
PAGE = 100
#: A file that is no archive is refused as a bad request.
NOT_FOUND, CONFLICT, BAD_ARCHIVE, OK = 404, 409, 400, 200


class ManagementRefused(UltraThinkError):
    """TorchServe answered, and does not do it; `status` is HTTP's."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class RegisteredVersion(Struct, frozen=True):
    """A version that the server knows.

    Attributes:
        name, version: of the model.
        url: its archive, within the store.
        is_default: whether it answers who names none.
        workers: how each of its workers stands, as READY.
        pids: their process numbers.
    """

    name: str
    version: str
    url: str
    is_default: bool
    workers: tuple[str, ...]
    pids: tuple[int, ...]

    @property
    def ready(self) -> bool:
        """Whether a worker answers."""
        return "READY" in self.workers


class TorchServeManagement:
    """Asks one server; may be used by several threads."""

    def __init__(self, address: str, token: Token, patience_s: float = 0.0) -> None:
        """Connects when it is first asked.

        Args:
            address: http://host:port of its management.
            token: for management; read again when the server refuses it.
            patience_s: how long one that is not there, or restarts, is waited for.
        """
        self.address, self._token, self._patience_s = address, token, patience_s
        # A connection a call: one that is kept outlives a server's restart, and whoever forgets to hang up.
        alone = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=address, timeout=CONTROL_TIMEOUT_S, limits=alone, trust_env=False)

    def close(self) -> None:
        """Disconnect."""
        self._http.close()

    def version(self) -> str:
        """The server's own. Raises ServiceUnavailable."""
        told = self._ask("OPTIONS", "/").json()
        return str(told.get("info", {}).get("version", "?"))

    def models(self) -> list[RegisteredVersion]:
        """Every version of every model. Raises ServiceUnavailable."""
        return [one for name in self._names() for one in self.versions(name)]

    def versions(self, name: str) -> list[RegisteredVersion]:
        """Of one model; none where it is not registered. Raises ServiceUnavailable."""
        try:
            told = self._ask("GET", f"/models/{name}/all").json()
            default = self._ask("GET", f"/models/{name}").json()[0]["modelVersion"]
        except ManagementRefused as error:
            if error.status == NOT_FOUND:
                return []
            raise
        return [
            RegisteredVersion(
                name, one["modelVersion"], one["modelUrl"], one["modelVersion"] == default,
                tuple(worker["status"] for worker in one["workers"]),
                tuple(int(worker["pid"]) for worker in one["workers"]),
            )
            for one in told
        ]  # fmt: skip

    def register(self, archive: str, *, workers: int, timeout_s: float) -> None:
        """Load an archive of the model store, and wait until its workers answer.

        Raises:
            ManagementRefused: it is not there, or no worker could load it.
            ServiceUnavailable: nobody answers.
        """
        self._ask(
            "POST", "/models", timeout_s=timeout_s,
            params={"url": archive, "initial_workers": workers, "synchronous": "true", "batch_size": 1,
                    "response_timeout": max(1, int(timeout_s))},
        )  # fmt: skip

    def choose(self, name: str, version: str) -> None:
        """Have a version answer who names none. Raises ManagementRefused, ServiceUnavailable."""
        self._ask("PUT", f"/models/{name}/{version}/set-default")

    def unregister(self, name: str, version: str) -> None:
        """End a version; nothing where it is not there. Raises ManagementRefused, ServiceUnavailable."""
        try:
            self._ask("DELETE", f"/models/{name}/{version}")
        except ManagementRefused as error:
            if error.status != NOT_FOUND:
                raise

    def rotate(self, purpose: str, api_token: str) -> None:
        """Have the server make a new token, and write it to its file; the old one is none from then on.

        Args:
            purpose: "inference" or "management".
            api_token: the one that may do this.

        Raises:
            ManagementRefused, ServiceUnavailable.
        """
        self._ask("GET", "/token", params={"type": purpose}, token=api_token)

    def _names(self) -> Iterator[str]:
        place = "0"
        while True:
            told = self._ask("GET", "/models", params={"limit": PAGE, "next_page_token": place}).json()
            yield from (one["modelName"] for one in told["models"])
            place = str(told.get("nextPageToken") or "")
            if not place:
                return

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = CONTROL_TIMEOUT_S,
        token: str = "",
    ) -> httpx.Response:
        """Ask; once more with the token as it is then where it was refused, and while the server restarts."""
        for last in (False, True):
            answered = self._send(method, path, params, timeout_s, token or self._token())
            if answered.status_code == OK:
                return answered
            kind, said = sentence(answered)
            if kind != "InvalidKeyException" or last:
                break
        raise ManagementRefused(answered.status_code, said)

    def _send(
        self, method: str, path: str, params: Mapping[str, Any] | None, timeout_s: float, token: str
    ) -> httpx.Response:
        """Send it, again while nobody listens there and somebody soon may. Raises ServiceUnavailable."""
        ends_s = time.monotonic() + self._patience_s
        headers = {"Authorization": f"Bearer {token}"}
        while True:
            try:
                return self._http.request(method, path, params=params, headers=headers, timeout=timeout_s)
            except httpx.HTTPError as error:
                if not isinstance(error, httpx.ConnectError) or time.monotonic() > ends_s:
                    raise ServiceUnavailable(
                        f"TorchServe at {self.address} does not answer: start it with `ultrathink stack up --with "
                        f"torchserve`, or name another with --torchserve-url ({str(error) or type(error).__name__})"
                    ) from error
            time.sleep(0.2)


def sentence(answered: httpx.Response) -> tuple[str, str]:
    """The kind and the words of a refusal."""
    try:
        told = answered.json()
        return str(told["type"]), " ".join(str(told["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return "", f"HTTP {answered.status_code}: {' '.join(answered.text.split())[:200]}"
