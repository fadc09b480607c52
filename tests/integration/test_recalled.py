"""A version that is not served is asked beside what is, and nobody notices."""

from __future__ import annotations

from contextlib import closing

import httpx
import numpy as np
import pytest

from exporters.errors import ExportError
from exporters.export import export_pipeline
from exporters.formats.config_pbtxt import Serving
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.candidate import candidate
from exporters.release.recalled import recalled
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from stack.workflows.asking import ModelPlace, ask
from trading.errors import ConfigurationError
from trading.models.copies import RECALLED, recalled_suffix


@pytest.fixture
def place(stack, exported):
    return ModelPlace(stack.triton_grpc, ModelRepository(stack.model_repository), find_gpu("rtx5070"))


@pytest.fixture
def triton(stack):
    with closing(TritonServer(stack.triton_grpc)) as server:
        yield server


@pytest.fixture
def published(stack, place):
    """The ensemble and the fused pipeline, published and not served."""
    options = Options(stack.mlflow_uri, find("25.03-py3"), find_gpu("rtx5070"), alias="challenger")
    return export_pipeline("trading_decision", options, place.repository, lambda _: None, fuse=True)[-2:]


def ready(triton):
    return {(m.name, m.version) for m in triton.index() if m.state == "READY"}


@pytest.mark.slow
def test_what_is_not_served_answers_and_is_gone_again(stack, place, triton, published):
    repository = place.repository
    before, journal = ready(triton), repository.journal.read_bytes()
    serving = {name: repository.serving(name) for name in repository.names()}
    served = repository.serving("trading_decision").released
    rows = repository.golden(repository.lineage("trading_decision", served).contract, served)[0][0][:300]
    as_served = ask(place, "trading_decision", str(served), rows)
    assert as_served.recalled is False
    for one in published:
        assert (one.name, one.version) not in before
        answered = ask(place, one.name, str(one.version), rows)
        assert answered.recalled is True
        assert answered.prediction.valid.all()
        # Of the same trained models: the ensemble's copy does the same arithmetic on the same server.
        np.testing.assert_allclose(
            answered.prediction.target_position, as_served.prediction.target_position, atol=1e-6
        )
        if one.name == "trading_decision":
            assert answered.serving == as_served.serving
            assert answered.prediction.target_position.tobytes() == as_served.prediction.target_position.tobytes()
    assert ready(triton) == before
    # One model that did not load would make the whole server "not ready".
    assert httpx.get(f"http://127.0.0.1:{stack.ports.triton_http}/v2/health/ready").status_code == 200
    assert repository.journal.read_bytes() == journal
    assert {name: repository.serving(name) for name in repository.names()} == serving


@pytest.mark.slow
def test_who_asks_an_old_version_keeps_it_and_who_was_killed_leaves_it_to_the_next(place, triton, published):
    repository, (ensemble, _) = place.repository, published
    releases = Releases(repository, triton, find_gpu("rtx5070"), lambda _: None)
    before = ready(triton)
    with recalled(repository, triton, place.gpu, ensemble.name, ensemble.version) as found:
        releases.recover()
        assert set(found.devices) == {"regime_detection", "strategy_signals", "meta_controller"}
        copies = [copy.name for copy, _ in found._steps]
        assert all(map(triton.is_loaded, copies))
    assert not any(map(triton.is_loaded, copies))
    assert ready(triton) == before
    # As one that was killed leaves it: loaded, and held by nobody.
    lineage = repository.lineage("regime_detection", 1)
    left = candidate(repository, triton, lineage.contract, 1, Serving(), recalled_suffix(1))
    with repository.lock("regime_detection" + recalled_suffix(1)):
        left.__enter__()
    assert triton.is_loaded(f"regime_detection{RECALLED}-1")
    releases.recover()
    assert not triton.is_loaded(f"regime_detection{RECALLED}-1")


def test_what_cannot_be_asked_is_named_with_the_reason(place, triton, published):
    before = ready(triton)
    rows = np.zeros((1, 32), np.float32)
    for model, version, why in (
        ("trading_decision", "99", "is not served, and cannot be loaded beside what is"),
        ("trading_decision", "one", "no version"),
        ("regimes", "1", "no model of the gateway"),
        ("regime_detection", "1", "no model of the gateway"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            ask(place, model, version, rows)
    ensemble, fused = published
    path = place.repository.folder(fused.name, fused.version) / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    try:
        with pytest.raises(ConfigurationError, match="cannot be loaded"):
            ask(place, fused.name, str(fused.version), rows)
    finally:
        path.write_bytes(whole)
    with (
        pytest.raises(ExportError, match="no version 99"),
        recalled(place.repository, triton, place.gpu, ensemble.name, 99),
    ):
        pass
    assert ready(triton) == before
