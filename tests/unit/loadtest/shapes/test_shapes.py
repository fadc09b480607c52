"""How many users each shape asks for; in a process of its own, for Locust patches what it is imported into."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json
from argparse import Namespace
from loadtest.shapes.constant import Constant
from loadtest.shapes.recorded import Recorded
from loadtest.shapes.soak import Soak
from loadtest.shapes.spike import Spike
from loadtest.shapes.step import Step
options = Namespace(data="simulate:regimes?ticks=3000&symbols=2", shape_time=100.0)
shapes = (Constant, Step, Spike, Soak, Recorded)
print(json.dumps({s.__name__: [s().share(k / 100, options) for k in range(100)] for s in shapes}))
"""


@pytest.fixture(scope="module")
def shares():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_shape_stays_within_its_peak_and_reaches_it(shares):
    for name, found in shares.items():
        assert all(0.0 <= share <= 1.0 for share in found), name
        assert max(found) == 1.0, name


def test_shapes_are_what_they_are_called(shares):
    assert set(shares["Constant"]) == {1.0}
    assert sorted(set(shares["Step"])) == shares["Step"][::20] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert shares["Spike"].count(1.0) == 10
    assert shares["Spike"][0] == shares["Spike"][-1] == 0.2
    assert shares["Soak"][0] == 0.0
    assert shares["Soak"][10:90] == [1.0] * 80
    assert len(set(shares["Recorded"])) > 5
