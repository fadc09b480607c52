"""What comes back over the wire is believed only as far as it fits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from connectors.torchserve.framing import LENGTH, AnswerRefused, answer, description, question
from trading.errors import BadRecord
from trading.models.signature import TensorSpec


def framed(header, content=b""):
    told = json.dumps(header).encode()
    return LENGTH.pack(len(told)) + told + content


def described(**changes):
    return {"model_name": "m", "model_version": "1", "outputs": [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], **changes},
    ]}  # fmt: skip


def test_a_question_carries_rows_as_they_are_whatever_their_layout():
    columns = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))
    asked = question([TensorSpec("x", (3,))], [columns])
    assert json.loads(asked["header"]) == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3]}]}
    assert asked["data"] == np.arange(6, dtype="<f4").tobytes()


def test_an_answer_is_read_without_a_copy_of_its_numbers():
    content = framed(described(), np.array([1.5, -2.0], "<f4").tobytes())
    assert answer(content).outputs["y"].tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x01", LENGTH.pack(2**31) + b"{}", LENGTH.pack(2) + b"{", framed([]), framed({}), framed(described()),
        framed(described(), b"\0" * 7), framed(described(), b"\0" * 9), framed(described(datatype="FP8"), b"\0" * 8),
        framed(described(shape=[-1, 2]), b"\0" * 8), framed(described(shape="12"), b"\0" * 8),
        framed(described(shape=[None]), b"\0" * 8),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_our_handler_is_a_bad_record(content):
    with pytest.raises(BadRecord):
        answer(content)


def test_a_refusal_is_told_in_the_handlers_words():
    with pytest.raises(AnswerRefused, match="9 rows"):
        answer(framed({"error": "9 rows: expected 1 to 8"}))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": 1}', b"\xff"])
def test_what_describes_nothing_is_a_bad_record(content):
    with pytest.raises(BadRecord, match="no handler of ours"):
        description(content)
