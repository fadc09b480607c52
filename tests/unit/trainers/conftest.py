"""Datasets of simulated markets, built once."""

from __future__ import annotations

import pytest

from trading.history import open_source
from trainers.data.build import BuildSettings, build
from trainers.data.dataset import open_dataset


def quiet(*_: object) -> None:
    """Nobody looks."""


def dataset(folder, spec, **settings):
    """Build and open."""
    build([open_source(spec)], BuildSettings(**settings), folder, quiet)
    return open_dataset(folder)


@pytest.fixture(scope="session")
def regimes(tmp_path_factory):
    """Three regimes that take turns, two symbols."""
    return dataset(tmp_path_factory.mktemp("data") / "regimes", "simulate:regimes?seed=2&ticks=40000&symbols=2")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """As little as can be trained on."""
    return dataset(tmp_path_factory.mktemp("data") / "small", "simulate:regimes?seed=5&ticks=9000&symbols=3")
