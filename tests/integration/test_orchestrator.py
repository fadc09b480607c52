"""Orchestrators as processes, with steps as processes, on a real PostgreSQL: hurt, and found again."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from datetime import timedelta

import httpx
import psutil
import pytest

from stack.watching.alerts import ALERTS
from stack.watching.boards import BOARDS
from tests.databases import empty_orchestrator, running_postgres
from tests.orchestrated import TOKEN, Orchestrator, opened, orchestrator
from tests.waiting import eventually
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.cycle import KINDS, StepEnd
from trainers.orchestrator.executors import local
from trainers.orchestrator.executors.local import LocalExecutor, place_of, stat_of
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.ports import StepTask
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.schedules import Schedule

#: Metrics that panels and alerts of training read.
ASKED = {
    name
    for text in (
        *(query.expr for board in BOARDS for panel in board.panels for query in panel.queries),
        *(one.expr for one in ALERTS),
    )
    for name in re.findall(r"\borchestrator_\w+", text)
}
CYCLE = list(KINDS["cycle"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as settings:
        yield settings


@pytest.fixture
def url(server):
    return empty_orchestrator(server)


@pytest.fixture
def store(url):
    prepare(url)
    with opened(url) as found:
        yield found


@pytest.fixture
def submit(store, tmp_path):
    def work(kind="cycle", **spec):
        request = RunRequest(kind=kind, spec={"folder": str(tmp_path), **spec}, reason="a test", by="tester")
        return store.runs.submit(request)[0].id

    return work


def ended(store, run, seconds=90):
    return eventually(lambda: (one := store.runs.get(run)).ended_s and one, seconds)


def done_once(store, run, steps):
    """Every step is done by one attempt, in order, whatever else was tried."""
    done = [one.step for one in store.runs.attempts(run) if one.end is StepEnd.DONE]
    assert done == list(steps)


def running(store, run, step=None):
    """The attempt that runs now, once its process does."""

    def found():
        one = store.runs.get(run)
        attempts = store.runs.attempts(run)
        if one.state != "running" or (step and one.step != step) or not attempts[-1].reference:
            return None
        return attempts[-1] if one.progress else None

    return eventually(found, 40)


def test_a_cycle_is_run_to_its_end_by_processes(store, url, submit, tmp_path):
    run = submit()
    with orchestrator(url, tmp_path):
        assert ended(store, run).verdict == "succeeded"
        eventually(lambda: all(one.peak_mb and one.exit_code == 0 for one in store.runs.attempts(run)), 10)
    done_once(store, run, CYCLE)
    assert sorted(path.name for path in tmp_path.glob(f"{run}.*")) == sorted(f"{run}.{step}" for step in CYCLE)


@pytest.mark.parametrize(
    ("ends", "verdict", "words"),
    [
        ({"train": "memory"}, "succeeded", ""),
        ({"train": "away"}, "succeeded", ""),
        ({"train": "wrong"}, "failed", "the data are none"),
        ({"gates": "rejected"}, "rejected", "no edge"),
    ],
)
def test_how_a_step_ends_decides_what_follows(store, url, submit, tmp_path, ends, verdict, words):
    run = submit("training", ends=ends)
    with orchestrator(url, tmp_path):
        one = ended(store, run)
    assert one.verdict == verdict
    assert words in one.why
    if ends == {"train": "memory"}:
        assert one.divisor == 2
        assert one.outputs["train"]["divisor"] == 2
    if verdict == "rejected":
        assert [a.step for a in store.runs.attempts(run)][-1] == "reject"


def test_batches_of_half_the_size_that_do_not_fit_either_end_it(store, url, submit, tmp_path):
    run = submit("training", ends={"train": "memory"}, fits_at=8)
    with orchestrator(url, tmp_path):
        one = ended(store, run)
    assert one.verdict == "failed"
    assert "memory ran out: a batch does not fit; batches of half the size did not fit either" in one.why


@pytest.mark.slow
def test_a_killed_step_is_begun_anew_at_once_and_not_taken_for_want_of_memory(store, url, submit, tmp_path):
    run = submit("training", work_s=2.0)
    with orchestrator(url, tmp_path):
        attempt = running(store, run, "build")
        os.kill(place_of(attempt.reference).pid, signal.SIGKILL)
        began = time.monotonic()
        again = eventually(lambda: (a := store.runs.attempts(run)[-1]).fence > attempt.fence and a, 30)
        assert time.monotonic() - began < 15
        assert again.step == "build"
        assert ended(store, run).verdict == "succeeded"
    lost = store.runs.attempts(run)[attempt.fence - 1]
    assert (lost.end, lost.exit_code) == (StepEnd.LOST, 137)
    assert "somebody ended it" in lost.why
    done_once(store, run, KINDS["training"])


@pytest.mark.slow
def test_steps_outlive_an_orchestrator_and_the_next_finds_them(store, url, submit, tmp_path):
    run = submit("training", work_s=4.0)
    first = Orchestrator(url, tmp_path).start()
    attempt = running(store, run, "collect")
    first.kill()
    with orchestrator(url, tmp_path):
        assert ended(store, run).verdict == "succeeded"
    # The same attempt ended: nothing was begun twice.
    assert [one.end for one in store.runs.attempts(run)] == [StepEnd.DONE] * 4
    assert store.runs.attempts(run)[0].fence == attempt.fence


@pytest.mark.slow
def test_when_both_are_killed_the_step_is_found_again(store, url, submit, tmp_path):
    run = submit("training", work_s=2.0)
    first = Orchestrator(url, tmp_path).start()
    attempt = running(store, run, "train")
    first.kill()
    os.kill(place_of(attempt.reference).pid, signal.SIGKILL)
    began = time.monotonic()
    with orchestrator(url, tmp_path):
        eventually(lambda: store.runs.attempts(run)[-1].fence > attempt.fence, 60)
        assert time.monotonic() - began < 60
        assert ended(store, run).verdict == "succeeded"
    done_once(store, run, KINDS["training"])


@pytest.mark.slow
def test_a_step_whose_beginner_was_killed_before_he_wrote_down_where_it_runs_is_found(store, url, submit, tmp_path):
    run = submit("training", work_s=4.0)
    command = [sys.executable, "-m", "tests.orchestrated", "step", url]
    executor = LocalExecutor(Pool(local.space_id(), 6_000, 0, 4), command, tmp_path / "logs")
    one, attempt = store.runs.claim(run, executor.pool, 20.0, ("killed", f"local:{local.space_id()}:1:1"), None)
    reference = executor.start(StepTask(run, attempt.fence, one.step, Need(600)))
    with orchestrator(url, tmp_path):
        assert running(store, run).reference == reference
        eventually(lambda: "a step was found again" in (tmp_path / "orchestrator.log").read_text(), 20)
        eventually(lambda: not executor.look(reference).lives, 40)
        assert ended(store, run).verdict == "succeeded"
    done_once(store, run, KINDS["training"])
    assert len(store.runs.attempts(run)) == len(KINDS["training"])


@pytest.mark.slow
def test_what_hangs_is_ended_and_begun_anew(store, url, submit, tmp_path):
    run = submit("training", work_s=3.0)
    with orchestrator(url, tmp_path):
        attempt = running(store, run, "build")
        pid = place_of(attempt.reference).pid
        os.kill(pid, signal.SIGSTOP)
        assert ended(store, run, 120).verdict == "succeeded"
    assert stat_of(pid)[0] in {"X", "Z"}
    assert "it said nothing for 20 s" in store.runs.attempts(run)[attempt.fence - 1].why
    done_once(store, run, KINDS["training"])


@pytest.mark.slow
def test_what_a_killed_orchestrator_had_stand_still_goes_on(store, url, submit, tmp_path):
    run = submit("training", work_s=3.0)
    first = Orchestrator(url, tmp_path).start()
    attempt = running(store, run, "build")
    os.kill(place_of(attempt.reference).pid, signal.SIGSTOP)
    first.kill()
    with orchestrator(url, tmp_path):
        assert ended(store, run, 120).verdict == "succeeded"
    # By the next it goes on: nothing of it is begun anew.
    assert [one.end for one in store.runs.attempts(run)] == [StepEnd.DONE] * 4


@pytest.mark.slow
def test_a_step_ends_itself_where_postgresql_hangs_and_is_begun_anew(store, url, submit, tmp_path, server):
    run = submit("training", work_s=40.0)
    with orchestrator(url, tmp_path) as one:
        base = f"http://127.0.0.1:{one.port}"
        attempt = running(store, run)
        place = place_of(attempt.reference)
        pids = hung_by(server)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: stat_of(place.pid)[0] in {"X", "Z"}, 40)
            eventually(lambda: httpx.get(f"{base}/v1/health", timeout=5).status_code == 503, 60)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: store.runs.attempts(run)[-1].fence > attempt.fence, 60)
        store.runs.cancel(run, "seen", "tester")
        assert ended(store, run).verdict == "cancelled"


def hung_by(server):
    """PostgreSQL and all its backends, by the port that it was told."""
    leader = next(
        p for p in psutil.process_iter(["cmdline"]) if str(server.ports.postgres) in (p.info["cmdline"] or [])
        and str(server.absolute_home) in " ".join(p.info["cmdline"])
    )  # fmt: skip
    return [leader.pid, *(child.pid for child in leader.children(recursive=True))]


@pytest.mark.slow
def test_of_two_orchestrators_each_step_is_done_once(store, url, submit, tmp_path):
    runs = [submit("training", work_s=0.2) for _ in range(6)]
    with orchestrator(url, tmp_path), orchestrator(url, tmp_path):
        for run in runs:
            assert ended(store, run, 180).verdict == "succeeded"
    for run in runs:
        done_once(store, run, KINDS["training"])
        assert len(store.runs.attempts(run)) == 4


@pytest.mark.slow
def test_20_trials_begin_in_their_order_and_never_take_more_than_there_is(store, url, submit, tmp_path):
    needs = {"trial": {"memory_mb": 2_500, "yields": True}}
    runs = [submit("trial", work_s=0.3, needs=needs) for _ in range(20)]
    with orchestrator(url, tmp_path, 6_000, 8):
        for run in runs:
            assert ended(store, run, 240).verdict == "succeeded"
        eventually(lambda: not store.runs.living(), 20)
    attempts = [store.runs.attempts(run) for run in runs]
    assert all(len(one) == 1 for one in attempts)
    spans = [(one.started_s, one.ended_s) for (one,) in attempts]
    assert [begin for begin, _ in spans] == sorted(begin for begin, _ in spans)
    # Two of them fit at once, and at no time three.
    at_once = [sum(begin <= now < end for begin, end in spans) for now, _ in spans]
    assert max(at_once) == 2


def test_a_run_is_cancelled_while_it_works(store, url, submit, tmp_path):
    run = submit("training", work_s=60.0)
    with orchestrator(url, tmp_path):
        attempt = running(store, run)
        store.runs.cancel(run, "wrong data", "anna")
        one = ended(store, run, 40)
    assert (one.verdict, one.why) == ("cancelled", "wrong data (anna)")
    assert stat_of(place_of(attempt.reference).pid)[0] in {"X", "Z"}
    assert store.runs.taken(attempt.pool).memory_mb == 0


def test_a_schedule_begins_runs(store, url, tmp_path):
    spec = {"folder": str(tmp_path)}
    store.schedules.put(
        Schedule(name="often", cron="* * * * *", kind="training", spec=spec), "tester",
        store.database.now() - timedelta(minutes=1),
    )  # fmt: skip
    with orchestrator(url, tmp_path):
        (slot, *_) = eventually(lambda: store.history.slots("often"), 30)
        assert ended(store, slot["run"]).verdict == "succeeded"


def test_it_answers_over_http_and_only_who_has_the_token(store, url, tmp_path):
    with orchestrator(url, tmp_path) as one:
        base = f"http://127.0.0.1:{one.port}"
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20) as asked:
            eventually(lambda: asked.get("/v1/health").status_code == 200, 30)
            assert httpx.get(f"{base}/v1/runs").status_code == 401
            assert httpx.get(f"{base}/v1/runs", headers={"Authorization": "Bearer é".encode()}).status_code == 401
            wanted = {"kind": "training", "spec": {"folder": str(tmp_path)}, "reason": "by HTTP", "key": "one"}
            made = asked.post("/v1/runs", json=wanted)
            assert made.status_code == 201
            run = made.json()["id"]
            assert asked.post("/v1/runs", json=wanted).status_code == 200
            assert made.json()["request"]["by"] == "over HTTP"
            assert ended(store, run).verdict == "succeeded"
            told = asked.get(f"/v1/runs/{run}").json()
            assert told["run"]["verdict"] == "succeeded"
            assert [a["step"] for a in told["attempts"]] == list(KINDS["training"])
            assert told["explanation"][-1].endswith("it succeeded.")
            assert "toy" not in asked.get(f"/v1/runs/{run}/logs/1").text
            assert asked.get(f"/v1/runs/{run}/logs/99").status_code == 404
            assert asked.get(f"/v1/runs/{run}/history").json()[0]["what"] == "done"
            page = asked.get("/v1/runs", params={"limit": 1}).json()
            assert page["next"].endswith(f"before={run}")
            assert asked.get(page["next"]).json()["runs"] == []
            refusals(asked, run)
            schedules_over_http(asked)
            line = 'orchestrator_runs_ended_1d{verdict="succeeded"} 1.0'
            eventually(lambda: line in asked.get("/metrics").text, 10)
            eventually(lambda: asked.get("/v1/status").json()["pool"]["taken_memory_mb"] == 0, 10)
            told = {sample.split("{")[0].split(" ")[0] for sample in asked.get("/metrics").text.splitlines()}
            assert told >= ASKED


def refusals(asked, run):
    """Each with its status, and words in one form."""
    for answer, status, words in (
        (asked.get("/v1/runs/nobody"), 404, "there is no run 'nobody'"),
        (asked.get("/v1/runs/NOBODY"), 422, "run"),
        (asked.post("/v1/runs", json={"kind": "circle", "reason": "x"}), 422, "is no kind of run"),
        (asked.post("/v1/runs", json={"reason": "x", "more": 1}), 422, "more"),
        (asked.post("/v1/runs", json={"reason": "a\nb"}), 422, "reason"),
        (asked.post(f"/v1/runs/{run}/cancel", json={"reason": "x"}), 409, "has ended"),
        (asked.post(f"/v1/runs/{run}/retry", json={"reason": "x"}), 409, "can be tried again"),
        (asked.get("/v1/nothing"), 404, "/openapi.json"),
        (asked.delete("/v1/runs"), 405, "/openapi.json"),
        (asked.delete("/v1/schedules/nobody"), 404, "there is no schedule"),
        (asked.get(f"/v1/runs/{run}/logs/{'9' * 300}"), 422, "fence"),
        (asked.get(f"/v1/runs/{run}/logs/0"), 422, "fence"),
        (
            asked.put("/v1/schedules/one", json={"cron": f"1-{'9' * 5000} * * * *", "reason": "x"}),
            422,
            "no schedule",
        ),
        (asked.put("/v1/schedules/one", json={"cron": "1 * * * *", "reason": "x", "spec": {"a": "\x00"}}), 422, ""),
        (asked.post("/v1/runs", json={"reason": "x", "spec": {"a": "\x00"}}), 422, ""),
        (asked.put("/v1/schedules/one", json={"cron": "99 * * * *", "reason": "x"}), 422, "bad minute"),
    ):
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"]


def schedules_over_http(asked):
    """Made known, paused, taken away."""
    body = {"cron": "30 2 * * 1-5", "tz": "Europe/Berlin", "kind": "training", "reason": "nightly"}
    made = asked.put("/v1/schedules/nightly", json=body).json()
    assert len(made["next_s"]) == 3
    assert asked.post("/v1/schedules/nightly/pause", json={"reason": "holidays"}).status_code == 204
    (one,) = asked.get("/v1/schedules").json()
    assert (one["paused"], one["next_s"]) == (True, [])
    assert asked.post("/v1/schedules/nightly/resume", json={"reason": "back"}).status_code == 204
    assert asked.delete("/v1/schedules/nightly").status_code == 204
    assert asked.get("/v1/schedules").json() == []
