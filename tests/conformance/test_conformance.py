"""Each row of the table is exported, and answers as its own library does; or is refused with the sentence it names."""

from __future__ import annotations

import logging

import pytest

from exporters.sources.sandbox import IsolatedModel
from tests.conformance import judge, node_tests, page
from tests.conformance.cases import Refused
from tests.conformance.table import CASES
from tests.paths import ROOT


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One worker a library, which opens one model after another."""
    started: dict[str, IsolatedModel] = {}

    def of(library):
        if library not in started:
            started[library] = IsolatedModel(tmp_path_factory.mktemp(library.replace(" ", "")))
        return started[library]

    logging.disable(logging.WARNING)
    yield of
    logging.disable(logging.NOTSET)
    for process in started.values():
        process.close()


# What the libraries say of their own options is not the matter here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_ends_as_the_table_says(case, processes, tmp_path):
    model = case.make()
    if isinstance(case.ends, Refused):
        with pytest.raises(judge.Refusal) as told:
            judge.exported(case, model, tmp_path, processes(case.library))
        assert case.ends.words in str(told.value)
        assert "Traceback" not in str(told.value)
        return
    path, contract = judge.exported(case, model, tmp_path, processes(case.library))
    judge.check(case, model, path, contract)
    judge.check_pyfunc(model, tmp_path / "logged")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_some_tests_of_onnxs_operators_are_served_or_refused():
    found = node_tests.run(every=10)
    assert not found.wrong
    assert min(len(found.served), sum(found.refused.values())) > 20, str(found)
    assert set(found.refused) <= set(node_tests.REASONS)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_all_tests_of_onnxs_operators_are_served_or_refused():
    found = node_tests.run()
    assert not found.wrong
    counted = (found.read, found.batches, len(found.served), len(found.runtime))
    assert counted == page.NODE_TESTS, str(found)


def test_the_table_is_the_page():
    assert len(CASES) >= 150
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert (ROOT / "docs/support.md").read_text() == page.text(), (
        "python -m tests.conformance writes docs/support.md"
    )
