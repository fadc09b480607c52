"""The contract of every served model fits together."""

from __future__ import annotations

import pytest

from trading.features.definitions import FEATURES
from trading.models.signature import (
    META_CONTROLLER,
    MODELS,
    REGIMES,
    STRATEGIES,
    TRADING_DECISION,
    contract,
    variant_name,
)


def test_an_ensembles_steps_come_before_it_and_make_all_that_it_answers():
    names = list(MODELS)
    steps = [MODELS[s] for s in TRADING_DECISION.steps]
    assert all(names.index(s) < names.index(TRADING_DECISION.name) for s in TRADING_DECISION.steps)
    known = set(TRADING_DECISION.inputs)
    for step in steps:
        assert set(step.inputs) <= known, step.name
        known |= set(step.outputs)
    assert set(TRADING_DECISION.outputs) <= known
    assert [t.dims for t in TRADING_DECISION.inputs] == [(len(FEATURES),)]
    assert [t.dims for t in META_CONTROLLER.inputs][1:] == [(len(REGIMES),), (len(STRATEGIES),)]


@pytest.mark.parametrize("name", MODELS)
def test_a_variant_has_the_contract_of_its_model_and_a_backend_that_runs_one_file(name):
    found = contract(variant_name(name, "fp16"))
    assert (found.name, found.inputs, found.outputs) == (f"{name}_fp16", MODELS[name].inputs, MODELS[name].outputs)
    assert found.steps == ()
    assert found.file_name in {"model.onnx", "model.pt"}
    assert contract(variant_name(name, "")) is MODELS[name]


@pytest.mark.parametrize("name", ["", "fraud", "trading_decisionX", "decision"])
def test_a_name_of_nobodys_is_no_contract(name):
    with pytest.raises(KeyError):
        contract(name)
