"""What a release leaves in the end, and the way back from one that did not come to it."""

from __future__ import annotations

from collections.abc import Iterable

from exporters.formats.config_pbtxt import Serving
from exporters.release.configurations import contract_for
from exporters.release.journal import ReleaseChange
from exporters.release.triton_client import TritonServer
from exporters.release.triton_servers import Tritons
from exporters.repository.repository import ModelRepository
from trading.errors import ServiceUnavailable, UltraThinkError

Lost = UltraThinkError | OSError | None


def put_forward(repository: ModelRepository, triton: Tritons, changes: Iterable[ReleaseChange]) -> Lost:
    """Serve what was released and nothing else; see `put`."""
    return put(repository, triton, [(change, change.after) for change in reversed(list(changes))])


def put_back(repository: ModelRepository, triton: Tritons, changes: Iterable[ReleaseChange]) -> Lost:
    """Serve what was served before, and nothing else; see `put`."""
    return put(repository, triton, [(change, change.before) for change in reversed(list(changes))])


def put(repository: ModelRepository, triton: Tritons, wanted: list[tuple[ReleaseChange, Serving]]) -> Lost:
    """Write every configuration, then have each server load them, the pipeline before its steps.

    Gateways follow the first server: of a version that goes it is the first that has it no more. One that is gone
    keeps it from no other, and reads the configurations as it starts.

    Returns:
        What first kept anything from being as it should.
    """
    lost: Lost = None
    written = []
    for change, serving in wanted:
        try:
            repository.configure(contract_for(repository, change, serving), serving)
        except (UltraThinkError, OSError) as error:
            lost = lost or error
        else:
            written.append((change.name, serving))
    for one in triton.each():
        lost = _serve(one, written) or lost
    return lost


def _serve(server: TritonServer, wanted: Iterable[tuple[str, Serving]]) -> Lost:
    lost: Lost = None
    for name, serving in wanted:
        try:
            if serving.versions:
                server.load(name)
            else:
                server.unload(name)
        except ServiceUnavailable as error:
            # It is not asked again for each.
            return error
        except (UltraThinkError, OSError) as error:
            lost = lost or error
    return lost
