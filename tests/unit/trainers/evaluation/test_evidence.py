"""Whole trainings: what was planted is found, what is not there is not, and the models are what was evaluated."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from tests.unit.trainers.conftest import dataset
from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trading.models.signature import REGIMES, STRATEGIES
from trainers.costs import Costs
from trainers.data.splits import Split
from trainers.evaluation.evaluate import coefficients
from trainers.evaluation.significance import probabilistic_sharpe
from trainers.training.fold import FoldSettings
from trainers.training.loop import LoopSettings
from trainers.walk_forward import TrainSettings, train_all

pytestmark = pytest.mark.slow
QUICK = FoldSettings(teacher="hmm", loop=LoopSettings(epochs=2), costs=Costs(0.0, 0.0, 1.0))
SEEDS = 20
#: Of how many trainings on a pure random walk an edge may be claimed, at a level of 5 %: 5 or more of 20 would come
#: by chance in 0.3 % of all cases.
MOST_CLAIMS = 4


@pytest.fixture(scope="module")
def trained(small):
    return train_all(small, TrainSettings(fold=QUICK, groups=4, tested=1))


def test_a_planted_signal_is_recovered_and_pays(tmp_path):
    data = dataset(tmp_path / "signal", "simulate:signal?seed=4&ticks=60000&symbols=2", horizon_ns=500_000_000)
    settings = TrainSettings(fold=FoldSettings(teacher="hmm", costs=Costs(0.0, 0.0, 1.0)), folds=1)
    found = train_all(data, settings)
    assert found.evaluation.edge
    assert found.evaluation.figures["meta_controller"].t_statistic > 3.0
    # The truth: pressure shows in the sizes, and foretells the label about as well as that.
    rows = found.folds[-1].split.test
    truth = np.corrcoef(data.features[rows, FEATURES.index("size_imbalance")], data.labels.realised[rows])[0, 1]
    learned = coefficients(data, found.folds[-1])
    assert learned["sideways_expert"] > 0.6 * truth > 0.1


def test_a_random_walk_has_no_significant_edge(tmp_path):
    claims, before_costs = 0, 0
    for seed in range(SEEDS):
        data = dataset(tmp_path / str(seed), f"simulate:calm?seed={seed}&ticks=6500&symbols=1")
        found = train_all(data, TrainSettings(fold=QUICK, folds=1)).evaluation
        claims += found.edge
        # Costs alone must not be what hides an edge that is none: gross returns are judged too.
        before_costs += probabilistic_sharpe(found.series["meta_controller"].gross, 0.0) >= 0.95
        assert found.verdict.startswith("no edge survives costs on simulate:calm") or found.edge
    assert claims <= 1
    assert before_costs <= MOST_CLAIMS


def test_what_is_packaged_is_what_was_evaluated(small, trained):
    """TorchScript answers as the networks did on the test rows, to the last bits that tracing may move."""
    fold = trained.folds[-1]
    features = torch.from_numpy(small.features[fold.split.test[:500]])
    regime, signals, meta = (m.module for m in trained.models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p, s = regime(features), signals(features)
        w, target = meta(features, p, s)
    np.testing.assert_allclose(p.numpy(), fold.answers.probabilities[:500], atol=1e-5)
    np.testing.assert_allclose(s.numpy(), fold.answers.signals[:500], atol=1e-5)
    np.testing.assert_allclose(w.numpy(), fold.answers.weights[:500], atol=1e-5)
    np.testing.assert_allclose(target.numpy()[:, 0], fold.answers.target[:500], atol=1e-5)
    assert p.shape[1] == len(REGIMES)
    assert (s.abs() <= 1.0).all()
    assert torch.allclose(w.sum(dim=1), torch.ones(500))
    assert s.shape[1] == w.shape[1] == len(STRATEGIES)


def test_a_training_comes_with_its_evidence(trained):
    evaluation = trained.evaluation
    assert set(evaluation.figures) == {
        "meta_controller",
        "equal_weights",
        "best_single",
        "buy_and_hold",
        "hysteresis",
        *STRATEGIES,
    }
    assert evaluation.trials == len(evaluation.figures)
    assert len(trained.path_t) == 1  # four groups, one tested: one path through all of the time
    first = trained.sheet.split('<p class="verdict">')[1].split("</p>")[0]
    assert first.lower().startswith(evaluation.verdict.lower()[:40])
    for model in trained.models:
        assert "Intended use" in model.texts["model_card.md"]
        assert evaluation.verdict[1:] in model.texts["model_card.md"]
        assert model.pictures
        assert all(np.isfinite(v) for v in model.metrics.values())
    regime = trained.models[0].metrics
    assert {"agreement", "calibration_error", "stability", "dwell_bull", "stay_bear", "disruption_p95"} <= set(
        regime
    )


def test_the_same_seed_gives_the_same_models(small, trained):
    again = train_all(small, TrainSettings(fold=QUICK))
    for a, b in zip(trained.models, again.models, strict=True):
        for x, y in zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True):
            assert torch.equal(x, y)
    other = train_all(small, TrainSettings(fold=FoldSettings(seed=8, teacher="hmm", loop=LoopSettings(epochs=2))))
    assert not torch.equal(*(next(iter(t.models[0].module.parameters())) for t in (again, other)))


def test_the_test_rows_do_not_teach(small, trained):
    """Features and labels of the last test segment changed: the models that are tested on it stay the same."""
    last = trained.folds[-1].split
    features = small.features.copy()
    features[small.time_ns >= last.test_start_ns] += 1.0
    from msgspec.structs import replace

    changed = train_all(replace(small, features=features), TrainSettings(fold=QUICK))
    for a, b in zip(trained.models, changed.models, strict=True):
        for x, y in zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True):
            assert torch.equal(x, y)


def test_too_few_rows_for_the_folds_are_refused(small):
    with pytest.raises(ConfigurationError, match="at least 1,000 and 100 are needed"):
        train_all(small, TrainSettings(fold=QUICK, folds=200))
    assert Split(np.arange(1), np.arange(1), 0).groups == ()


def test_an_answer_does_not_depend_on_its_place_in_a_batch(small, trained):
    """Else a replay, which cuts the stream in other batches, would decide otherwise. As Triton's CPU backend runs them."""
    rows = torch.from_numpy(small.features[:512].copy())
    regime, signals, meta = (m.module for m in trained.models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = regime(rows), signals(rows)
        for module, inputs in ((regime, (rows,)), (meta, (rows, *told))):
            names = [f"input{k}" for k in range(len(inputs))]
            buffer = io.BytesIO()
            torch.onnx.export(
                module, tuple(values[:3] for values in inputs), buffer, input_names=names, dynamo=False,
                dynamic_axes={name: {0: "n"} for name in names}, opset_version=18,
            )  # fmt: skip
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
            whole = session.run(None, {n: v.numpy() for n, v in zip(names, inputs, strict=True)})
            random = np.random.default_rng(0)
            for _ in range(100):
                size = int(random.integers(1, 65))
                at = int(random.integers(0, 512 - size))
                part = session.run(
                    None, {n: v.numpy()[at : at + size].copy() for n, v in zip(names, inputs, strict=True)}
                )
                assert all(np.array_equal(a, b[at : at + size]) for a, b in zip(part, whole, strict=True))
