"""A loaded version, asked with its golden rows."""

from __future__ import annotations

from exporters.errors import ParityError
from exporters.parity import comparison
from exporters.parity.tolerance import usual
from exporters.probes import least_golden
from exporters.release.triton_client import TritonServer
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from trading.models.signature import ModelSignature


def probed(
    repository: ModelRepository,
    triton: TritonServer,
    lineage: Lineage,
    signature: ModelSignature,
    version: int,
    device: str,
) -> comparison.ParityComparison:
    """Golden rows, all at once and one alone, against the source's answers of the day of publication."""
    asked, wanted = repository.golden(lineage.contract, version)
    run = triton.run(signature, version)
    found = comparison.ParityComparison([], [])
    usually = usual([a[: least_golden(lineage.contract.max_batch_size)] for a in wanted])
    for rows in (len(asked[0]), 1):
        got = run([a[:rows] for a in asked])
        found += comparison.compare(
            lineage.contract,
            [a[:rows] for a in wanted],
            got,
            where="served",
            rows="golden",
            precision=lineage.precision,
            device=device,
            usually=usually,
        )
    try:
        comparison.require(lineage.contract, found)
    except ParityError as error:
        raise ParityError(f"probe mismatch, version {version}: {error}") from error
    return found
