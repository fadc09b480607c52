"""An update is small, bounded, and a function of what it is made from; kills cost it nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from tests.unit.trainers.conftest import dataset, quiet
from tests.unit.trainers.online.conftest import HORIZON_NS
from trading.errors import ConfigurationError
from trading.history import open_source
from trainers.data.build import BuildSettings, build
from trainers.online.bounds import UpdateSettings
from trainers.online.networks import Networks, distance, from_states
from trainers.online.update import Refused, divide, update
from trainers.walk_forward import as_plain

QUICK = UpdateSettings(steps=12, batch_rows=256)


def test_an_update_is_a_small_step_and_the_champion_stays_as_it_is(champion, lived):
    before = champion.sha256()
    found = update(champion, lived, replace(QUICK, learning_rate=1e-2, steps=40, most_distance=0.03))
    assert champion.sha256() == before == found.champion != found.sha256
    for name, module in found.networks.modules.items():
        origin = dict(champion.modules[name].named_parameters())
        assert 0.0 < distance(module, origin) <= 0.03
        assert found.distances[name] == pytest.approx(distance(module, origin))
        # What standardises is the champion's still.
        for key, value in champion.modules[name].named_buffers():
            assert torch.equal(dict(module.named_buffers())[key], value)
    assert len(found.before) == len(found.after) == len(found.parts.held)


def test_it_learns_what_changed(champion, tmp_path):
    data = dataset(tmp_path / "new", "simulate:regimes?seed=5&ticks=24000&symbols=4", horizon_ns=HORIZON_NS)
    found = update(champion, data, UpdateSettings(steps=60))
    assert found.gain > 0.0
    assert "before" in found.sentence
    for name, (first, last) in found.losses.items():
        assert last < first, name


def test_the_same_rows_and_seed_give_the_same_bytes_and_another_seed_others(champion, lived):
    one, two = (update(champion, lived, QUICK) for _ in range(2))
    assert one.sha256 == two.sha256 == one.networks.sha256()
    assert update(champion, lived, replace(QUICK, seed=8)).sha256 != one.sha256


def test_no_label_reaches_from_one_part_into_the_next(lived):
    parts = divide(lived, QUICK)
    ends, times = lived.labels.end_ns, lived.time_ns
    assert ends[parts.replayed].max() < times[parts.fresh].min()
    assert ends[parts.fresh].max() < times[parts.held].min()
    assert not set(parts.replayed) & set(parts.fresh)
    assert lived.labels.valid[np.concatenate([parts.replayed, parts.fresh, parts.held])].all()


def test_poisoned_rows_change_nothing_and_are_named(champion, lived):
    parts = divide(lived, QUICK)
    labels = lived.labels
    for rows in (parts.replayed, parts.fresh, parts.held):
        turned = labels.realised.copy()
        turned[rows] *= -1.0
        side = labels.side.copy()
        side[rows] *= -1
        broken = replace(lived, labels=replace(labels, realised=turned, side=side))
        with pytest.raises(Refused, match="contradicted labels") as caught:
            update(champion, broken, QUICK)
        assert [fault.name for fault in caught.value.faults] == ["contradicted labels"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("steps", 10**6), ("learning_rate", 1.0), ("learning_rate", float("nan")), ("replayed", 0.0),
     ("most_distance", 3.0), ("held", 0.0), ("fresh", float("inf"))],
)  # fmt: skip
def test_what_is_no_small_step_is_refused_by_name(champion, lived, name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}"):
        update(champion, lived, replace(QUICK, **{name: value}))
    with pytest.raises(ConfigurationError, match="leave less than a tenth"):
        update(champion, lived, replace(QUICK, fresh=0.6, held=0.4))


def test_too_few_ripe_rows_are_refused(champion, lived):
    few = lived.labels.valid.copy()
    few[1_500:] = False
    with pytest.raises(ConfigurationError, match="are the fewest"):
        update(champion, replace(lived, labels=replace(lived.labels, valid=few)), QUICK)
    with pytest.raises(ConfigurationError, match="no label is ripe"):
        update(champion, replace(lived, labels=replace(lived.labels, valid=few & False)), QUICK)


def test_symbols_without_a_window_of_rows_are_told(champion, lived):
    scattered = replace(lived, symbols=np.arange(len(lived)) // 20)
    with pytest.raises(ConfigurationError, match="no symbol has 32 rows that are replayed"):
        update(champion, scattered, QUICK)


def test_weights_that_are_another_networks_or_no_numbers_are_refused(champion):
    states = {name: module.state_dict() for name, module in champion.modules.items()}
    assert from_states(states, champion.teacher).sha256() == champion.sha256()
    with pytest.raises(ConfigurationError, match="meta_controller is missing"):
        from_states({k: v for k, v in states.items() if k != "meta_controller"}, champion.teacher)
    with pytest.raises(ConfigurationError, match="of another network"):
        from_states({**states, "meta_controller": states["regime_detection"]}, champion.teacher)
    broken = {k: v.clone() for k, v in states["regime_detection"].items()}
    broken["layers.0.weight"][0, 0] = float("nan")
    with pytest.raises(ConfigurationError, match="not finite"):
        from_states({**states, "regime_detection": broken}, champion.teacher)


def saved(champion, lived, folder):
    """What another process needs of them."""
    torch.save({name: module.state_dict() for name, module in champion.modules.items()}, folder / "champion.pt")
    torch.save(as_plain(champion.teacher), folder / "teacher.pt")


#: Everything is loaded once; each line that it reads begins an update in a process of its own, whose id it tells.
PROGRAM = """
import os, sys, torch
from pathlib import Path
from trading.files import replace_file
from trainers.data.dataset import open_dataset
from trainers.online.networks import from_states
from trainers.online.bounds import UpdateSettings
from trainers.online.update import update
from trainers.walk_forward import from_plain
folder = Path(sys.argv[1])
states = torch.load(folder / "champion.pt", weights_only=True)
champion = from_states(states, from_plain(torch.load(folder / "teacher.pt", weights_only=True)))
data = open_dataset(folder / "lived")
for line in sys.stdin:
    if child := os.fork():
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    found = update(champion, data, UpdateSettings(steps=20, batch_rows=256))
    replace_file(folder / "found", found.sha256.encode())
    os._exit(0)
"""


@pytest.mark.timeout(300)
def test_50_kills_and_the_same_bytes(champion, lived, tmp_path):
    saved(champion, lived, tmp_path)
    build(
        [open_source("simulate:signal?seed=77&ticks=16000&symbols=4")], BuildSettings(horizon_ns=HORIZON_NS),
        tmp_path / "lived", quiet,
    )  # fmt: skip
    began = time.monotonic()
    wanted = update(champion, lived, UpdateSettings(steps=20, batch_rows=256)).sha256
    took_s = time.monotonic() - began
    rng, kills, path = random.Random(5), 0, tmp_path / "found"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip

    def begun():
        program.stdin.write("update\n")
        program.stdin.flush()
        return int(program.stdout.readline())

    try:
        while kills < 50:
            child = begun()
            time.sleep(rng.uniform(0.0, took_s))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            kills += int(program.stdout.readline()) == -signal.SIGKILL
            assert not path.exists() or path.read_text() == wanted
        path.unlink(missing_ok=True)
        begun()
        assert int(program.stdout.readline()) == 0
        assert path.read_text() == wanted
    finally:
        program.kill()
        program.communicate()


def test_networks_are_what_they_were_asked_for(champion):
    assert isinstance(champion, Networks)
    assert list(champion.modules) == ["regime_detection", "strategy_signals", "meta_controller"]
