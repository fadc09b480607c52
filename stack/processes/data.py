"""The data service as a process, and its token in the embedded stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from services.data.api.tokens import SCOPES, give_out, known_tokens
from services.data.settings import DataSettings
from stack.processes.own import OwnProcess, running
from stack.processes.settings import data_settings
from stack.servers.identity import describe_exit
from stack.servers.loopback import client
from stack.servers.secrets import ensure_secret
from stack.servers.settings import LOOPBACK, StackSettings, is_started, load

#: Whose token the embedded stack makes, and the file in its folder of secrets that holds it.
HOLDER = "desk"
TOKEN_FILE = "data-token"  # noqa: S105 - a file's name
START_S = 60.0


def settings_with_token(**given: Any) -> DataSettings:
    """Of the data service; the embedded stack's token is given out where there is none yet."""
    settings, stack = data_settings(**given), load()
    home = stack.absolute_home
    if is_started(home) and settings.tokens.is_relative_to(home):
        token = ensure_secret(home, TOKEN_FILE)
        if HOLDER not in {one.name for one in known_tokens(settings.tokens)}:
            give_out(settings.tokens, HOLDER, list(SCOPES), token)
    return settings


class DataProcess(OwnProcess):
    """The data service, which can be asked."""

    def __init__(self, settings: StackSettings, environment: dict[str, str]) -> None:
        """Prepare."""
        self.address = f"http://{LOOPBACK}:{settings.ports.data}"
        super().__init__(settings, ("data", "serve"), "data", environment)

    def wait(self, timeout_s: float = START_S) -> None:
        """Until it follows the ticks. Raises ServiceUnavailable with the end of its log."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            if (code := self.ended()) is not None:
                raise self.failure(describe_exit(code))
            try:
                if client().get(f"{self.address}/v1/health", timeout=2.0).is_success:
                    return
            except httpx.HTTPError:
                # It does not listen yet.
                pass
            time.sleep(0.05)
        raise self.failure(f"it does not follow the ticks after {timeout_s:.0f} s")


@contextmanager
def running_data(settings: StackSettings, **given: Any) -> Iterator[DataProcess]:
    """The data service; ended at the end, and its exit code checked. `given` are its settings by their names."""
    environment = {f"ULTRATHINK_DATA_{name.upper()}": str(value) for name, value in given.items()}
    with running(DataProcess(settings, environment)) as process:
        process.wait()
        yield process
