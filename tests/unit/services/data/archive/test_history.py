"""A question to the archive that takes too long is given up, and the next one is answered."""

from __future__ import annotations

import pytest

from services.data.archive.history import History
from trading.errors import ServiceUnavailable


def test_a_question_without_end_is_given_up_and_the_next_one_answered(tmp_path):
    history = History(tmp_path, limit_s=0.2)
    with pytest.raises(ServiceUnavailable, match="within 0.2 s: ask for a shorter span"):
        history._run(
            "SELECT count(*) FROM range(10000000000) AS a (x), range(1000) AS b (y) WHERE x * y % 7 = 3", []
        )
    assert history._run("SELECT 42 AS n", []).column("n").to_pylist() == [42]
