"""A version's golden rows, asked of whatever runs its file."""

from __future__ import annotations

from exporters.formats.tensors import Arrays, Run
from exporters.parity import comparison
from exporters.parity.tolerance import usual
from exporters.probes import least_golden
from exporters.repository.lineage import Lineage


def compare_golden(
    lineage: Lineage, golden: tuple[Arrays, Arrays], run: Run, *, where: str, device: str
) -> comparison.ParityComparison:
    """All at once and one alone, against the source's answers of the day of publication.

    Args:
        lineage: of the version.
        golden: its golden rows, and what its source answered.
        run: asks the version.
        where: "file" or "served".
        device: "cpu" or "gpu".

    Raises:
        ParityError: an answer has another shape or dtype than the contract says; and whatever `run` raises.
    """
    asked, wanted = golden
    usually = usual([a[: least_golden(lineage.contract.max_batch_size)] for a in wanted])
    found = comparison.ParityComparison([], [])
    for rows in (len(asked[0]), 1):
        found += comparison.compare(
            lineage.contract,
            [a[:rows] for a in wanted],
            run([a[:rows] for a in asked]),
            where=where,
            rows="golden",
            precision=lineage.precision,
            device=device,
            usually=usually,
        )
    return found
