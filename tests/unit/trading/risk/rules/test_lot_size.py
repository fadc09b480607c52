"""`lot_size`: what it denies, clips and lets pass."""

from __future__ import annotations

from tests.rules import ACCEPT, CLIP, traded


def test_lot_size_clips_down():
    verdict = traded(lot=0.5).judge(1.75)
    assert (verdict.outcome, verdict.quantity, verdict.broken) == (CLIP, 1.5, ("lot_size",))
    assert traded(lot=0.1).judge(0.1 * 3).outcome is ACCEPT  # 0.30000000000000004
