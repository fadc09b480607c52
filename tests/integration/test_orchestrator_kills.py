"""200 kills of orchestrators and of steps: no run lost, none doubled, each found again within a minute."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from stack.servers import postgres
from tests.databases import running_postgres
from tests.orchestrated import Orchestrator, opened
from tests.paths import ROOT
from tests.waiting import eventually
from trainers.orchestrator.cycle import KINDS, StepEnd
from trainers.orchestrator.executors.local import place_of
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.schedules import Schedule

KILLS, RUNS = 200, 12
#: What a killed step or orchestrator may cost until somebody works on the run again.
FOUND_S = 60.0
SLOTS = 10_000


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as settings:
        with postgres.connect(settings) as connection:
            assert connection.execute("SELECT 1 FROM pg_database WHERE datname = 'orchestrator'").fetchone()
        found = settings.postgres_url("orchestrator")
        prepare(found)
        yield found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_200_kills_lose_nothing_and_double_nothing(url, tmp_path):
    rng = random.Random(20261130)
    with opened(url) as store:
        runs = [
            store.runs.submit(
                RunRequest(kind="cycle", spec={"folder": str(tmp_path), "work_s": 1.0}, reason="hurt", by="tester")
            )[0].id
            for _ in range(RUNS)
        ]
        pair = [Orchestrator(url, tmp_path, 20_000, 6).start() for _ in range(2)]
        kills, found_s = dict.fromkeys(("step", "orchestrator", "both"), 0), []
        try:
            while sum(kills.values()) < KILLS:
                open_runs = [run for run in runs if store.runs.get(run).ended_s is None]
                if not open_runs:
                    # All are done: more work for the rest of the kills.
                    request = RunRequest(
                        kind="cycle", spec={"folder": str(tmp_path), "work_s": 1.0}, reason="hurt", by="tester"
                    )
                    runs += [store.runs.submit(request)[0].id for _ in range(RUNS)]
                    continue
                what = rng.choice(["step", "step", "step", "orchestrator", "both"])
                time.sleep(rng.uniform(0.0, 0.4))
                hurt = [a for a, holds in store.runs.living() if holds and a.reference]
                if what in {"step", "both"}:
                    if not hurt:
                        continue
                    kill_step(rng.choice(hurt))
                if what in {"orchestrator", "both"}:
                    one = rng.choice(pair)
                    one.kill()
                    one.start()
                kills[what] += 1
            for run in runs:
                eventually(lambda run=run: store.runs.get(run).ended_s, 400)
            # What a killed one had left is put in order by the next.
            eventually(lambda: not store.runs.living(), 90)
        finally:
            for one in pair:
                one.kill()
        check(store, runs, tmp_path, found_s)
    print(kills, f"{len(runs)} runs; a killed step was begun anew after {max(found_s):.1f} s at most")
    assert min(kills.values()) > 0
    assert max(found_s) < FOUND_S


def kill_step(attempt):
    try:
        os.kill(place_of(attempt.reference).pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def check(store, runs, folder, found_s):
    """Each run succeeded, each of its steps was done once, and what it did others saw once."""
    for run in runs:
        one, attempts = store.runs.get(run), store.runs.attempts(run)
        assert one.verdict == "succeeded", one
        assert [a.step for a in attempts if a.end is StepEnd.DONE] == list(KINDS["cycle"])
        assert {a.end for a in attempts} <= {StepEnd.DONE, StepEnd.LOST, StepEnd.AGAIN}
        assert all(a.ended_s is not None for a in attempts)
        for before, after in zip(attempts, attempts[1:], strict=False):
            # What it took was free before another took it.
            assert before.ended_s <= after.started_s + 0.001 or before.end is StepEnd.DONE
            if before.end is StepEnd.LOST:
                found_s.append(after.started_s - before.ended_s)
        assert len(list(folder.glob(f"{run}.*"))) == len(KINDS["cycle"])


SCHEDULER = """
import sys
from contextlib import closing
from datetime import datetime, timedelta
from trainers.orchestrator.store import Store
from trainers.orchestrator.triggers import TriggerPolicy
url, begin, end = sys.argv[1], datetime.fromisoformat(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
policy = TriggerPolicy(cool_down="1ms", most_cool_down="1ms", most_a_day=10_000, most_false=1000)
decided, now = 0, begin
with closing(Store(url)) as store:
    while now < end:
        now = min(end, now + timedelta(hours=11, minutes=7))
        for name in ("quarter", "nightly"):
            while found := store.schedules.decide(name, now, policy):
                decided += found
print(decided)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_10_000_slots_are_run_once_each_by_two_across_both_clock_changes(url, tmp_path):
    # 15 weeks of quarters of an hour around each clock change of 2027 in Berlin, and what is due at 02:30.
    begin, end = datetime(2027, 2, 15, tzinfo=UTC), datetime(2027, 2, 15, tzinfo=UTC) + timedelta(days=53)
    autumn = datetime(2027, 9, 15, tzinfo=UTC), datetime(2027, 9, 15, tzinfo=UTC) + timedelta(days=53)
    quarter = Schedule(name="quarter", cron="*/15 * * * *", tz="Europe/Berlin", kind="trial", missed="all")
    nightly = Schedule(name="nightly", cron="30 2 * * *", tz="Europe/Berlin", kind="trial", missed="all")
    script = tmp_path / "scheduler.py"
    script.write_text(SCHEDULER)
    with opened(url) as store:
        expected = set()
        for since, until in ((begin, end), autumn):
            for one in (quarter, nightly):
                store.schedules.put(one, "tester", since)
                expected |= {(one.name, at.timestamp()) for at in one.slots(since, until)}
            pair = [
                subprocess.Popen(
                    [sys.executable, str(script), url, since.isoformat(), until.isoformat()], stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
                )
                for _ in range(2)
            ]  # fmt: skip
            decided = [int(one.communicate(timeout=600)[0]) for one in pair]
            assert min(decided) > 0
        slots = store.history.slots(limit=100_000)
        found = [(slot["schedule"], slot["at_s"]) for slot in slots]
        runs = [slot["run"] for slot in slots]
        assert len(expected) > SLOTS
        assert sorted(found) == sorted(expected)
        assert all(runs)
        assert len(set(runs)) == len(runs)
        assert len(store.runs.listed(100_000)) >= len(runs)
    print(f"{len(found):,} slots, each run once")
