"""Stacks that tests bring up."""

from __future__ import annotations

import os
from contextlib import contextmanager

from connectors.kafka.identity import SECRETS
from stack.supervision.lifecycle import down, up


@contextmanager
def running_stack(settings):
    """All servers up, and every command told of them; taken down at the end, and the environment as it was."""
    before = {name: os.environ.get(name) for name in ("ULTRATHINK_HOME", SECRETS)}
    os.environ["ULTRATHINK_HOME"] = str(settings.home)
    up(settings, lambda _: None)
    try:
        yield settings
    finally:
        down(settings.home)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
