"""What must hold before a stack starts."""

from __future__ import annotations

from collections.abc import Collection

from stack.servers.ports import holder, is_free
from stack.servers.settings import StackSettings, differences, free_disk_mb
from trading.errors import ConfigurationError


def check_disk(settings: StackSettings) -> None:
    """Raise ConfigurationError where less is free than what reduces the desk at once."""
    if free_disk_mb(settings.absolute_home) < settings.least_disk_mb:
        raise ConfigurationError(
            f"less than {settings.least_disk_mb} MB is free for {settings.absolute_home}: free some or move --home"
        )


def check_brokers(settings: StackSettings) -> None:
    """Raise ConfigurationError when the data of another number of brokers lies in the folder."""
    folders = {p.name for p in (settings.absolute_home / "kafka").glob("[1-9]")}
    if folders and len(folders) != settings.brokers:
        raise ConfigurationError(
            f"{settings.absolute_home} holds the data of {len(folders)} broker(s), --brokers says "
            f"{settings.brokers}: use that number, another --home, or `ultrathink stack down --purge`"
        )


def check_same(wanted: StackSettings, running: StackSettings) -> None:
    """Raise ConfigurationError where something else is asked for than what runs; the profile may change."""
    if found := differences(running.model_copy(update={"profile": wanted.profile}), wanted):
        raise ConfigurationError(
            "a stack runs here that was started otherwise: " + "; ".join(found) + ". End it first, "
            "`ultrathink stack down`, or ask for what runs"
        )


def check_ports(settings: StackSettings, *, besides: Collection[str] = ()) -> None:
    """Raise ConfigurationError for the first port that something else listens on.

    `besides` are services that run already.
    """
    # Only what starts needs the servers' libraries: ending must work without them.
    from stack.supervision.catalogue import services

    for service in [one for one in services(settings) if one.name not in besides]:
        for port in service.ports:
            if not is_free(port):
                raise ConfigurationError(
                    f"port {port}, which {service.name} needs, is held by {holder(port)}: end that, set "
                    f"{port_variable(settings, port)}, or use `--ports auto`"
                )


def port_variable(settings: StackSettings, port: int) -> str:
    """The environment variable that moves a port; a list where a setting holds several."""
    for name, value in settings.ports.model_dump().items():
        if value == port:
            return f"ULTRATHINK_PORTS__{name.upper()}"
        if isinstance(value, tuple) and port in value:
            return f"ULTRATHINK_PORTS__{name.upper()}='[{', '.join(str(p + 100) for p in value)}]'"
    return "another port"
