"""A champion of a simulated market, and what it lived."""

from __future__ import annotations

import pytest

from tests.unit.trainers.conftest import dataset
from trainers.online.networks import Networks
from trainers.walk_forward import TrainSettings, train_all

HORIZON_NS = 1_000_000_000


@pytest.fixture(scope="session")
def champion(tmp_path_factory):
    """Trained on ticks whose quotes foretell prices."""
    data = dataset(
        tmp_path_factory.mktemp("data") / "taught", "simulate:signal?seed=2&ticks=24000&symbols=4",
        horizon_ns=HORIZON_NS,
    )  # fmt: skip
    fold = train_all(data, TrainSettings(folds=1)).folds[-1]
    return Networks(fold.regime, fold.signals, fold.meta, fold.teacher)


@pytest.fixture(scope="session")
def lived(tmp_path_factory):
    """What came after, from the same market."""
    folder = tmp_path_factory.mktemp("data") / "lived"
    return dataset(folder, "simulate:signal?seed=77&ticks=16000&symbols=4", horizon_ns=HORIZON_NS)
