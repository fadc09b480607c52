"""Variables of our own processes, kept with the stack: after a reboot the desk decides as it did before."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from services.data.settings import DataSettings
from services.experiments.settings import ExperimentsSettings
from services.forensics.settings import ForensicsSettings
from services.metrics.settings import MetricsSettings
from services.paper_broker.settings import BrokerSettings
from stack.processes import settings as processes
from trainers.orchestrator.settings import OrchestratorSettings

#: Of those that a stack starts.
KINDS: tuple[type[BaseSettings], ...] = (
    GatewaySettings, BrokerSettings, ForensicsSettings, DataSettings, MetricsSettings, ExperimentsSettings,
    OrchestratorSettings,
)  # fmt: skip

#: Of those who ask them.
OTHERS = frozenset({"ULTRATHINK_DATA_SERVICE"})
PATHS = (Path, Path | None)


def variables(kind: type[BaseSettings]) -> dict[str, str]:
    """Variable -> setting, of one process."""
    prefix = kind.model_config.get("env_prefix", "")
    return {prefix + name.upper(): name for name in kind.model_fields}


def told(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a person has set of our processes' variables, but for secrets, which are written nowhere.

    A file that is named is named from wherever the stack is started next.
    """
    given = os.environ if environment is None else environment
    found = {}
    for kind in KINDS:
        for variable, name in variables(kind).items():
            if variable not in given or processes.is_secret(kind, name):
                continue
            value = given[variable]
            is_path = kind.model_fields[name].annotation in PATHS
            found[variable] = os.fspath(Path(value).expanduser().resolve()) if is_path and value else value
    return found


def misspelt(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that begin as ours do, and that no process knows, in order: each with what may be meant, or ""."""
    given = os.environ if environment is None else environment
    prefixes = tuple(str(kind.model_config.get("env_prefix", "")) for kind in KINDS)
    known = {variable for kind in KINDS for variable in variables(kind)} | OTHERS
    # Capitals make no difference to settings.
    wrong = [v for v in sorted(given) if v.upper().startswith(prefixes) and v.upper() not in known]
    return {v: next(iter(difflib.get_close_matches(v.upper(), known, 1)), "") for v in wrong}


def check(desk: Mapping[str, str]) -> None:
    """Raise ConfigurationError where a process would refuse what these variables say."""
    before = dict(os.environ)
    os.environ.update(desk)
    try:
        for kind in KINDS:
            processes.made(kind, {})
    finally:
        os.environ.clear()
        os.environ.update(before)


def secrets_told(environment: Mapping[str, str] | None = None) -> list[str]:
    """Variables with secrets that are set; they are not kept."""
    given = os.environ if environment is None else environment
    return [
        v for kind in KINDS for v, name in variables(kind).items() if v in given and processes.is_secret(kind, name)
    ]


def forget_told(environment: MutableMapping[str, str] | None = None) -> None:
    """Take out what `told` has found: those that a process is started with come from the stack's settings."""
    given = os.environ if environment is None else environment
    for name in told(given):
        del given[name]
