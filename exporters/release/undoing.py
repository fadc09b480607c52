"""The way back from a release that did not come to its end."""

from __future__ import annotations

from collections.abc import Sequence

from exporters.release.configurations import contract_for
from exporters.release.journal import ReleaseChange
from exporters.release.triton_client import TritonServer
from exporters.release.triton_servers import Tritons
from exporters.repository.repository import ModelRepository
from trading.errors import ServiceUnavailable, UltraThinkError


def put_back(
    repository: ModelRepository, triton: Tritons, changes: Sequence[ReleaseChange]
) -> UltraThinkError | OSError | None:
    """Put every configuration back, and what each server has loaded, the pipeline before its steps.

    Returns:
        What first kept one from it. Where a Triton is gone the configurations are right nevertheless.
    """
    lost: UltraThinkError | OSError | None = None
    gone = set[str]()
    for change in reversed(changes):
        try:
            repository.configure(contract_for(repository, change, change.before), change.before)
        except (UltraThinkError, OSError) as error:
            lost = lost or error
            continue
        # A server that is gone is not asked again for each.
        for one in [one for one in triton.each() if one.address not in gone]:
            try:
                serve_before(one, change)
            except (UltraThinkError, OSError) as error:
                lost = lost or error
                if isinstance(error, ServiceUnavailable):
                    gone.add(one.address)
    return lost


def serve_before(server: TritonServer, change: ReleaseChange) -> None:
    """Have a server load what it had, or nothing."""
    if change.before.versions:
        server.load(change.name)
    else:
        server.unload(change.name)
