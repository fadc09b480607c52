"""The audit trail as a process, and its keys in the embedded stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.forensics.settings import ForensicsSettings
from stack.processes.own import OwnProcess, running
from stack.processes.settings import forensics_settings
from stack.servers.settings import StackSettings, is_started, load
from trading.keys import make_keys


def settings_with_key(**given: Any) -> ForensicsSettings:
    """Of the audit trail; the embedded stack's signing key is made where there is none yet."""
    settings, stack = forensics_settings(**given), load()
    home = stack.absolute_home
    if is_started(home) and not settings.signing_key.exists() and settings.signing_key.is_relative_to(home):
        make_keys(settings.signing_key)
    return settings


@contextmanager
def running_forensics(settings: StackSettings, **given: Any) -> Iterator[OwnProcess]:
    """The audit trail; ended at the end, and its exit code checked. `given` are its settings by their names."""
    environment = {f"ULTRATHINK_FORENSICS_{name.upper()}": str(value) for name, value in given.items()}
    with running(OwnProcess(settings, ("forensics", "run"), "forensics", environment)) as process:
        yield process
