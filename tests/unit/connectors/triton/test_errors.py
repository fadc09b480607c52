"""Every status of gRPC has one meaning."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from connectors.triton.errors import MEANINGS, InferenceServerException, Meaning, did_not_answer, meaning


def test_the_table_is_complete():
    assert MEANINGS.keys() == set(StatusCode)
    assert set(MEANINGS.values()) == set(Meaning)


@pytest.mark.parametrize("status", StatusCode)
def test_a_status_is_read_from_what_the_client_raises(status):
    error = InferenceServerException("said", status=str(status))
    assert meaning(error) is MEANINGS[status]
    assert did_not_answer(error) is (
        status in {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED}
    )


@pytest.mark.parametrize("status", [None, "400", "nonsense"])
def test_what_has_no_status_was_refused(status):
    assert meaning(InferenceServerException("said", status=status)) is Meaning.REFUSED
