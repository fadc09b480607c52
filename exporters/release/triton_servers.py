"""Several Tritons that serve one repository, to which a release goes as to one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from exporters.formats.config_pbtxt import Device
from exporters.release.servers import ModelServer
from exporters.release.triton_client import Loaded, TritonServer
from trading.errors import ServiceUnavailable


class Tritons(Protocol):
    """What a release is loaded in: one server, or several Tritons. See ModelServer."""

    @property
    def address(self) -> str:
        """Host:port, with commas between several."""

    def each(self) -> Sequence[ModelServer]:
        """The servers one by one."""

    def index(self) -> list[Loaded]:
        """Models and versions that all of them know."""

    def ready(self, name: str) -> set[int]:
        """Versions that all of them answer with."""

    def is_loaded(self, name: str) -> bool:
        """Whether one of them answers with it."""

    def load(self, name: str) -> None:
        """Load it in all of them; ends at the first that does not."""

    def unload(self, name: str) -> None:
        """Unload it in all of them."""

    def device(self, name: str, version: int) -> Device:
        """Where the first of them runs it."""

    def close(self) -> None:
        """End the connections."""


class TritonServers:
    """Implements Tritons for several.

    A gateway follows the first of its Tritons. So that is the last in which a version is loaded: when it is
    followed all of them have it, and until then the first answers as before.
    """

    def __init__(self, servers: Sequence[TritonServer]) -> None:
        """In the order in which gateways name them; at least one."""
        self._servers = tuple(servers)

    @property
    def address(self) -> str:
        """See Tritons."""
        return ",".join(one.address for one in self._servers)

    def each(self) -> Sequence[TritonServer]:
        """See Tritons."""
        return self._servers

    def index(self) -> list[Loaded]:
        """See Tritons; of a version that is not in the same state everywhere, the state that is not READY."""
        found = [{(one.name, one.version): one for one in server.index()} for server in self._servers]
        known = [key for key in found[0] if all(key in one for one in found)]
        return [min((one[key] for one in found), key=lambda loaded: loaded.state == "READY") for key in known]

    def ready(self, name: str) -> set[int]:
        """See Tritons."""
        return set.intersection(*(one.ready(name) for one in self._servers))

    def is_loaded(self, name: str) -> bool:
        """See Tritons."""
        return any(one.is_loaded(name) for one in self._servers)

    def load(self, name: str) -> None:
        """See Tritons."""
        for one in reversed(self._servers):
            one.load(name)

    def unload(self, name: str) -> None:
        """See Tritons."""
        with ExitStack() as each:
            # What one of them refuses keeps it in no other.
            for one in self._servers:
                each.callback(one.unload, name)

    def device(self, name: str, version: int) -> Device:
        """See Tritons."""
        return self._servers[0].device(name, version)

    def close(self) -> None:
        """See Tritons."""
        for one in self._servers:
            one.close()


def connect(addresses: Sequence[str]) -> Tritons:
    """Connect to one server, or to all of them.

    Args:
        addresses: host:port of each; the first is the one that gateways follow.

    Raises:
        ServiceUnavailable: one does not answer. Whether the others may do without it only a person knows: one that
            starts in this moment may have read already what is about to be changed.
    """
    with ExitStack() as opened:
        found = []
        for address in addresses:
            try:
                found.append(TritonServer(address))
            except ServiceUnavailable as error:
                if len(addresses) == 1:
                    raise
                others = ",".join(one for one in addresses if one != address)
                raise ServiceUnavailable(
                    f"{error}. To go on without it end it, so that it comes back with what is released then, and "
                    f"name the others: --triton-url {others}"
                ) from error
            opened.callback(found[-1].close)
        opened.pop_all()
    return found[0] if len(found) == 1 else TritonServers(found)
