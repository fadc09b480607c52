"""Trainings as a real MLflow tells of them, logged by our own trainers."""

from __future__ import annotations

import time
from contextlib import closing

from services.metrics.trainings import TrainingsSource


def test_a_training_that_ended_is_told_with_its_time(stack, trained):
    with closing(TrainingsSource(stack.mlflow_uri)) as source:
        number, ended, took = source.look()
    assert {s.labels["status"]: s.value for s in number.samples}["finished"] >= 1
    (end_s,) = [s.value for s in ended.samples if s.labels["status"] == "finished"]
    assert time.time() - 3600 < end_s <= time.time()
    (lasted_s,) = [s.value for s in took.samples if s.labels["status"] == "finished"]
    assert 0 < lasted_s < 600
