"""The short form of `python -m tests.fuzz.api`."""

from __future__ import annotations

from tests.fuzz.api import run


def test_whatever_is_asked_is_answered_as_the_document_says(tmp_path):
    counts = run(760, tmp_path)
    assert sum(counts.values()) > 500
    assert {200, 404, 422} <= counts.keys()
    assert all(status < 500 for status in counts)
