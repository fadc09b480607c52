"""A loaded version, asked with its golden rows wherever it is loaded."""

from __future__ import annotations

from exporters.errors import ParityError
from exporters.parity import comparison
from exporters.parity.golden import compare_golden
from exporters.release.triton_servers import Tritons
from exporters.repository.lineage import Lineage
from exporters.repository.repository import ModelRepository
from trading.models.signature import ModelSignature


def probed(
    repository: ModelRepository, triton: Tritons, lineage: Lineage, signature: ModelSignature, version: int
) -> comparison.ParityComparison:
    """Golden rows, all at once and one alone, against the source's answers of the day of publication.

    Returns:
        Of several servers the comparison that is furthest off.

    Raises:
        ParityError: one of them does not answer as the source did.
    """
    golden, found = repository.golden(lineage.contract, version), []
    for one in triton.each():
        device = one.device(signature.name, version)
        compared = compare_golden(lineage, golden, one.run(signature, version), where="served", device=device)
        try:
            comparison.require(lineage.contract, compared)
        except ParityError as error:
            raise ParityError(f"probe mismatch, version {version} on {one.address}: {error}") from error
        found.append(compared)
    return max(found, key=lambda one: one.max_abs)
