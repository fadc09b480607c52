"""A gateway keeps its name over a restart, and no two share one."""

from __future__ import annotations

import pytest

from gateway.instance import Instance
from trading.errors import ConfigurationError


@pytest.fixture(autouse=True)
def private_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_lowest_free_number_is_taken_and_taken_again():
    first, second = Instance("k:1", "g"), Instance("k:1", "g")
    assert first.name.endswith("-0")
    assert second.name.endswith("-1")
    first.close()
    again = Instance("k:1", "g")
    assert again.name == first.name
    for each in (second, again):
        each.close()


def test_other_groups_and_clusters_count_for_themselves():
    names = [Instance("k:1", "g"), Instance("k:1", "h"), Instance("k:2", "g")]
    assert len({each.name for each in names}) == 1
    for each in names:
        each.close()


def test_a_chosen_name_that_is_held_is_refused():
    first = Instance("k:1", "g", "blue")
    with pytest.raises(ConfigurationError, match="'blue' already runs"):
        Instance("k:1", "g", "blue")
    first.close()
    Instance("k:1", "g", "blue").close()
