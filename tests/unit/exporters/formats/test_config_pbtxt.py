"""config.pbtxt: what is served is said there, and nowhere else."""

from __future__ import annotations

import json

import pytest

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving, parse, render, render_json, warm_up_batches
from exporters.repository.repository import ModelRepository
from tests.paths import ROOT
from trading.models.signature import MODELS, REGIME_DETECTION, STRATEGY_SIGNALS, TRADING_DECISION, contract

NAMES = (*MODELS, "trading_decision_fused")


def test_committed_configurations_are_what_the_signatures_generate():
    assert ModelRepository(ROOT / "model_repository").stale_configs(NAMES) == []


@pytest.mark.parametrize("name", [n for n in NAMES if n != "trading_decision"])
def test_production_says_gpu_and_a_cpu_file_stands_beside_it(name):
    gpu, cpu = ((ROOT / "model_repository" / name / f).read_text() for f in ("config.pbtxt", "configs/cpu.pbtxt"))
    assert "KIND_GPU" in gpu
    assert "gpus: 0" in gpu
    assert "KIND_CPU" in cpu
    assert "KIND_AUTO" not in gpu + cpu


def test_onnx_on_the_gpu_has_tf32_off_and_an_arena_that_cannot_take_the_card():
    text = render(REGIME_DETECTION, "gpu", Serving(arena_limit_mib=512))
    assert 'key: "use_tf32"\n        value: "0"' in text
    assert str(512 * 2**20) in text
    assert "use_tf32" not in render(REGIME_DETECTION, "cpu", Serving())
    assert "response_cache" in text
    assert "dynamic_batching" not in text


def test_every_batch_bucket_is_warmed_up_with_a_real_row():
    assert warm_up_batches(1024) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert warm_up_batches(1) == [1]
    assert warm_up_batches(100) == [1, 2, 4, 8, 16, 32, 64, 100]
    text = render(REGIME_DETECTION, "gpu", Serving())
    assert text.count('input_data_file: "features"') == 11
    row = (ROOT / "model_repository" / "regime_detection" / "warmup" / "features").read_bytes()
    assert len(row) == 4 * 32
    assert row != bytes(len(row))


@pytest.mark.parametrize(
    "serving",
    [
        Serving(),
        Serving(versions=(3, 7), instances=2, queue_delay_us=0, gpus=(0, 1), arena_limit_mib=256),
        Serving(versions=(1,), queue_delay_us=200),
        Serving(versions=(1,), yields=True),
    ],
)
@pytest.mark.parametrize("signature", [REGIME_DETECTION, STRATEGY_SIGNALS])
def test_what_is_written_is_read_again(signature, serving):
    wanted = serving
    if signature is STRATEGY_SIGNALS:
        wanted = Serving(
            serving.versions,
            {},
            serving.instances,
            serving.queue_delay_us,
            serving.gpus,
            real_rows=serving.real_rows,
            yields=serving.yields,
        )
    assert parse(render(signature, "gpu", serving), "here") == wanted


def test_the_ensemble_pins_its_steps():
    pins = {"regime_detection": 3, "strategy_signals": 1, "meta_controller": 12}
    found = parse(render(TRADING_DECISION, "gpu", Serving((4,), pins)), "here")
    assert found.pins == pins
    assert found.released == 4


def test_nothing_is_released_by_a_new_configuration():
    assert parse(render(REGIME_DETECTION, "gpu", Serving()), "here").released is None


def test_the_load_request_says_the_same():
    found = json.loads(render_json(REGIME_DETECTION, "cpu", Serving((2,))))
    assert found["version_policy"] == {"specific": {"versions": ["2"]}}
    assert found["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]


def test_rubbish_is_named():
    with pytest.raises(ExportError, match=r"m/config.pbtxt is no Triton configuration"):
        parse("rubbish {", "m/config.pbtxt")


def test_a_variant_has_its_contracts_tensors():
    fused = contract("trading_decision_fused")
    assert fused.backend == "onnxruntime"
    assert (fused.inputs, fused.outputs) == (TRADING_DECISION.inputs, TRADING_DECISION.outputs)
    with pytest.raises(KeyError):
        contract("fraud")
