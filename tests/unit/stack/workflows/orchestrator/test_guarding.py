"""What serves, and what was put back, by the order of the repository's journal: clocks jump."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from exporters.formats.config_pbtxt import Serving
from exporters.release.journal import Entry, Journal, ReleaseChange
from stack.workflows.experiments.promoting import refuse_served, served
from stack.workflows.orchestrator.asked_lived import GuardSpec
from stack.workflows.orchestrator.going_back import passed, rolled_back, was_released
from trading.errors import ConfigurationError
from trading.experiments.definition import Challenger, ServedModel

SPEC = GuardSpec(promoted=ServedModel("m", 5), last_good=ServedModel("m", 3), of="run", sha256={})


@pytest.fixture
def place(tmp_path):
    repository = SimpleNamespace(journal=tmp_path / "journal.jsonl", serving=lambda _: Serving(versions=(5, 6)))
    return SimpleNamespace(repository=repository)


def told(place, *transactions):
    """(action, version, last step) each, dated backwards."""
    journal = Journal(place.repository.journal)
    for k, (action, version, last) in enumerate(transactions):
        change = ReleaseChange("m", Serving(versions=(5,)), Serving(versions=(5, version)))
        at = f"2026-11-30T12:{59 - k:02d}:00+00:00"
        for step in dict.fromkeys(("begun", last)):
            journal.append(
                Entry(f"t{k}", step, action, "m", version, at, "anna", (change,) if step == "begun" else ())
            )


def test_a_rollback_counts_where_it_came_after_the_release_whatever_it_is_dated(place):
    told(place, ("release", 3, "done"), ("rollback", 3, "done"), ("release", 5, "done"))
    assert not rolled_back(place, SPEC)
    assert was_released(place, SPEC.promoted)
    told(place, ("rollback", 3, "undone"))
    assert not rolled_back(place, SPEC)


def test_what_was_put_back_once_is_not_put_back_over_a_persons_later_choice(place):
    told(place, ("release", 5, "done"), ("rollback", 3, "done"), ("release", 5, "done"))
    assert rolled_back(place, SPEC)
    assert passed(place, "m") == [("release", 5), ("rollback", 3), ("release", 5)]
    assert not was_released(place, ServedModel("m", 6))


def test_what_was_taken_back_meanwhile_is_not_released_by_another_attempt(place):
    told(place, ("release", 5, "done"), ("release", 6, "done"), ("rollback", 5, "done"))
    place.repository.serving = lambda _: Serving(versions=(5,))
    definition = SimpleNamespace(champion=ServedModel("m", 5))
    challenger = Challenger("challenger", "m", 6)
    refuse_served(definition, challenger, place)
    with pytest.raises(ConfigurationError, match="m/6 was released, and version 5 serves by now, which stays"):
        refuse_served(definition, challenger, place, may_release=False)


def test_a_release_that_has_not_passed_serves_nothing(place):
    assert served(place, "m") == 6
    told(place, ("release", 5, "done"), ("release", 6, "begun"))
    assert served(place, "m") == 5
    assert not was_released(place, ServedModel("m", 6))
    told(place, ("release", 6, "flipped"))
    assert was_released(place, ServedModel("m", 6))
