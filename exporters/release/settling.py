"""What a release leaves in the end, and the way back from one that did not come to it."""

from __future__ import annotations

from collections.abc import Iterable

from exporters.formats.config_pbtxt import Serving
from exporters.release.configurations import contract_for
from exporters.release.journal import ReleaseChange
from exporters.release.servers import ModelServer
from exporters.release.triton_servers import Tritons
from exporters.repository.repository import ModelRepository
from trading.errors import ServiceUnavailable, UltraThinkError

Lost = UltraThinkError | OSError | None


def put(repository: ModelRepository, triton: Tritons, wanted: Iterable[tuple[ReleaseChange, Serving]]) -> Lost:
    """Write and load what is to be served, model by model in this order, in every server that answers.

    The first server is the first: gateways follow it, and of a version that goes it has it no more when the others
    lose it. (Each load also takes what was written of an ensemble's steps, so that these are written after it.)

    Returns:
        What first kept anything from being as it should. A server that is gone keeps nothing from any other, is not
        asked again for each, and reads the configurations as it starts.
    """
    lost: Lost = None
    gone = set[str]()
    for change, serving in wanted:
        try:
            repository.configure(contract_for(repository, change, serving), serving)
        except (UltraThinkError, OSError) as error:
            lost = lost or error
            continue
        for one in triton.each():
            if one.address in gone:
                continue
            found = _serve(one, change.name, serving)
            lost = lost or found
            if isinstance(found, ServiceUnavailable):
                gone.add(one.address)
    return lost


def _serve(server: ModelServer, name: str, serving: Serving) -> Lost:
    try:
        if serving.versions:
            server.load(name)
        else:
            server.unload(name)
    except (UltraThinkError, OSError) as error:
        return error
    return None
