"""A loaded version, asked with its golden rows."""

from __future__ import annotations

from exporters.errors import ParityError
from exporters.parity import comparison
from exporters.parity.golden import compare_golden
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
    golden = repository.golden(lineage.contract, version)
    found = compare_golden(lineage, golden, triton.run(signature, version), where="served", device=device)
    try:
        comparison.require(lineage.contract, found)
    except ParityError as error:
        raise ParityError(f"probe mismatch, version {version}: {error}") from error
    return found
