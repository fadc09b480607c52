"""The same ticks give the same bytes as before: see `tests/golden_log.py`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.golden_log import CASES, DECISIONS, Digest, digest, located
from tests.paths import SHARED


@pytest.mark.parametrize("name", CASES)
def test_the_same_ticks_give_the_same_bytes(name: str) -> None:
    source, limit, assumed = CASES[name]
    spec = located(source, SHARED)
    path = Path(spec.partition(":")[2])
    if spec.startswith("binance:") and not path.is_file():
        pytest.skip(f"no recorded market data: {path} is absent")
    wanted = msgspec.json.decode(DECISIONS.read_bytes(), type=dict[str, Digest])[name]
    found = digest(spec, limit, assumed=assumed)
    assert found.counts == wanted.counts
    assert found.samples == wanted.samples
    assert found.blocks == wanted.blocks
    assert found.snapshots == wanted.snapshots
