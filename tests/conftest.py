"""The real servers, started once a session on free ports in a private folder."""

from __future__ import annotations

import os

import pytest

from stack.servers.settings import ServerPorts, StackSettings
from stack.workflows.export_workflow import export
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from tests.own_folder import own_folder
from tests.stacks import running_stack

SOURCE = "simulate:regimes?seed=3&ticks=9000&symbols=3"


#: They start servers of their own: one after another, with those that share the session's.
OWN_SERVERS = ("tests/e2e/", "tests/integration/")
EVENS = "tests/unit/exporters/"


def pytest_configure():
    # Whoever has told another one wants that.
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = os.fspath(own_folder())


# Before marks are asked for.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()) or item.nodeid.startswith(OWN_SERVERS):
            item.add_marker(pytest.mark.integration)
        if item.nodeid.startswith(EVENS):
            item.add_marker(pytest.mark.evens)
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """All servers up, models trained on a simulated market, exported, loaded."""
    home = tmp_path_factory.mktemp("stack")
    settings = StackSettings(
        profile="servers", home=home, ports=ServerPorts.automatic(), model_repository=home / "models"
    )
    with running_stack(settings):
        yield settings


@pytest.fixture(scope="session")
def trained(stack):
    """The training's report."""
    return train(TrainRequest((SOURCE,)), lambda *_: None)


@pytest.fixture(scope="session")
def exported(stack, trained):
    """The published versions."""
    return export(lambda _: None)
