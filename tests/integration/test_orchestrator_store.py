"""What the orchestrator knows, in a real PostgreSQL: who may begin what, and whose word counts."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from connectors.job_queue import JobQueue, lay_out
from connectors.postgres import Jsonb, connect_url
from tests.databases import empty_orchestrator, running_postgres
from tests.waiting import eventually
from trading.errors import ConfigurationError
from trainers.orchestrator.admission import Need, Pool
from trainers.orchestrator.cycle import KINDS, REJECT, RunState, StepEnd, Verdict
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.runs import RunRequest
from trainers.orchestrator.schedules import Schedule
from trainers.orchestrator.store import Store
from trainers.orchestrator.store.runs import Refused
from trainers.orchestrator.store.transitions import MOST_FAILURES, Ended, need_of
from trainers.orchestrator.triggers import TriggerPolicy

POOL = Pool("here", 6_000, 0, 2)
FREE = TriggerPolicy(cool_down="1ms", most_cool_down="1ms", most_a_day=10_000, most_false=1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as settings:
        yield settings


@pytest.fixture
def url(server):
    found = empty_orchestrator(server)
    prepare(found)
    return found


@pytest.fixture
def store(url):
    with closing(Store(url)) as found:
        yield found


def wanted(kind="training", **given):
    return RunRequest(**{"kind": kind, "reason": "a test", "by": "tester", **given})


def submit(store, **given):
    return store.runs.submit(wanted(**given))[0]


def begin(store, run, pool=POOL):
    return store.runs.claim(run.id, pool, 20.0, ("tester", "here"), None)


def finish(store, run, attempt, end, **given):
    assert store.runs.finish(run.id, attempt.fence, Ended(end=end, **given), "tester")
    store.runs.gone(run.id, attempt.fence)
    return store.runs.get(run.id)


def test_a_run_goes_from_step_to_step_and_keeps_what_each_gave(store):
    run = submit(store)
    for step in ("collect", "build", "train", "gates"):
        now, attempt = begin(store, run)
        assert (now.state, now.step, attempt.step) == (RunState.RUNNING, step, step)
        now = finish(store, run, attempt, StepEnd.DONE, output={"of": step})
    assert (now.state, now.verdict) == (RunState.ENDED, Verdict.SUCCEEDED)
    assert now.outputs == {step: {"of": step} for step in ("collect", "build", "train", "gates")}
    assert [line.what for line in store.history.lines(run.id)][::-1] == ["submitted", *["began", "done"] * 4]


def test_the_word_of_an_older_attempt_changes_nothing(store):
    run = submit(store)
    _, first = begin(store, run)
    finish(store, run, first, StepEnd.LOST)
    _, second = begin(store, run)
    before = store.runs.get(run.id)
    assert not store.runs.finish(run.id, first.fence, Ended(end=StepEnd.DONE, output={}), "zombie")
    assert not store.runs.renew(run.id, first.fence, 20.0, {"stage": "zombie"})
    assert store.runs.get(run.id) == before
    assert store.runs.renew(run.id, second.fence, 20.0, {"stage": "mine"})
    assert store.runs.get(run.id).progress == {"stage": "mine"}


def test_of_many_who_begin_the_same_step_one_does(store):
    runs = [submit(store) for _ in range(3)]
    begun, lock = [], threading.Lock()

    def claim(run):
        found = begin(store, run, Pool("here", 60_000, 0, 60))
        if not isinstance(found, Refused):
            with lock:
                begun.append(found[1])

    for _ in range(6):
        threads = [threading.Thread(target=claim, args=(run,)) for run in runs for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted((one.run, one.fence) for one in begun) == sorted((run.id, 1) for run in runs)


def test_memory_is_never_promised_twice_and_order_holds(store):
    runs = [submit(store, kind="trial", spec={"needs": {"trial": {"memory_mb": 2_500}}}) for _ in range(4)]
    high = submit(store, kind="trial", priority=5)
    assert begin(store, runs[0]) == Refused(f"run {high.id} comes before it")
    _, first = begin(store, high)
    # 3,000 of 6,000 MB are taken; two more do not fit.
    _, second = begin(store, runs[0])
    assert begin(store, runs[1], Pool("here", 6_000, 0, 9)) == Refused(
        "it needs 2,500 MB, and 500 of 6,000 MB of here are free"
    )
    assert store.runs.get(runs[1].id).why.startswith("waits: it needs 2,500 MB")
    assert begin(store, runs[2]) == Refused(f"run {runs[1].id} comes before it")
    # What was told is not over yet: its process may live.
    assert store.runs.finish(high.id, first.fence, Ended(end=StepEnd.DONE), "tester")
    assert isinstance(begin(store, runs[1]), Refused)
    store.runs.gone(high.id, first.fence)
    assert not isinstance(begin(store, runs[1]), Refused)
    assert store.runs.taken("here").memory_mb == 5_000
    del second


def test_what_fits_nowhere_here_waits_says_so_and_keeps_nobody_waiting(store):
    large = submit(store, kind="trial", spec={"needs": {"trial": {"memory_mb": 9_000}}})
    behind = submit(store, kind="trial")
    begin(store, large)
    now = store.runs.get(large.id)
    assert now.why == "waits: it needs 9,000 MB, and here gives 6,000 MB to all steps together"
    assert not isinstance(begin(store, behind), Refused)
    # Another machine has it.
    with connect_url(store_url(store)) as connection:
        connection.execute("UPDATE orchestrator.runs SET not_before = now()")
    assert not isinstance(begin(store, large, Pool("there", 16_000, 0, 2)), Refused)


@pytest.mark.parametrize("needs", [{"memory_mb": "4000"}, {"memory_mb": -1}, {"gpu_mb": -3e9}, {"much": 1}, 7, "x"])
def test_a_request_that_is_none_fails_by_name_and_keeps_nobody_waiting(store, needs):
    bad, good = submit(store, kind="trial", spec={"needs": {"trial": needs}}), submit(store, kind="trial")
    assert isinstance(begin(store, bad), Refused)
    now = store.runs.get(bad.id)
    assert (now.verdict, now.why[:15]) == (Verdict.FAILED, "needs of trial:")
    assert not isinstance(begin(store, good), Refused)


def test_a_run_of_a_newer_version_is_left_to_it_and_keeps_nobody_waiting(store):
    newer, good = submit(store, kind="trial"), submit(store, kind="trial")
    with connect_url(store_url(store)) as connection:
        connection.execute("UPDATE orchestrator.runs SET step = 'distil' WHERE id = %s", (newer.id,))
    assert "knows no step distil" in begin(store, newer).why
    assert not isinstance(begin(store, good), Refused)


def test_what_is_said_of_needs_leaves_the_rest_as_it_is(store):
    run = submit(store, kind="trial", spec={"needs": {"trial": {"memory_mb": 4_000}}})
    assert need_of(run) == Need(4_000, yields=True)


def test_what_is_to_be_put_back_waits_for_nobodys_memory(store):
    seen = submit(store)
    for _ in range(3):
        _, attempt = begin(store, seen)
        finish(store, seen, attempt, StepEnd.DONE)
    _, attempt = begin(store, seen)
    finish(store, seen, attempt, StepEnd.REJECTED, why="no edge")
    first = submit(store, kind="trial", priority=50, spec={"needs": {"trial": {"memory_mb": 6_000}}})
    assert not isinstance(begin(store, first), Refused)
    _, attempt = begin(store, seen, Pool("tiny", 100, 0, 1))
    assert store.runs.get(seen.id).why == "no edge"
    # A kill while things are put back hides no reason.
    now = finish(store, seen, attempt, StepEnd.LOST, why="killed (exit 137)")
    assert (now.step, now.verdict, now.why) == (REJECT, Verdict.REJECTED, "no edge")


def test_what_only_waits_is_not_given_up_for_what_happened_long_ago(store):
    run = submit(store, kind="guard")
    for k in range(5):
        _, attempt = begin(store, run)
        finish(store, run, attempt, StepEnd.LOST, why="killed")
        with store.database.transaction("a test") as connection:
            assert connection.execute("SELECT losses FROM orchestrator.runs").fetchone()[0] == k + 1
            connection.execute("UPDATE orchestrator.runs SET not_before = now()")
    _, attempt = begin(store, run)
    with store.database.transaction("a test") as connection:
        connection.execute("UPDATE orchestrator.attempts SET started_at = now() - interval '2 hours'")
    finish(store, run, attempt, StepEnd.LOST, why="killed")
    with store.database.transaction("a test") as connection:
        assert connection.execute("SELECT losses FROM orchestrator.runs").fetchone()[0] == 1


def test_of_checks_by_the_clock_there_is_one_at_a_time_whatever_bounds_trainings(store):
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    store.schedules.put(Schedule(name="look", cron="* * * * *", kind="check", spec={"archive": "x"}), "tester", now)
    none = TriggerPolicy(most_a_day=0)
    store.schedules.decide("look", now + timedelta(minutes=1), none)
    (first,) = store.runs.listed(10)
    assert first.request.kind == "check"
    store.schedules.decide("look", now + timedelta(minutes=2), none)
    assert len(store.runs.listed(10)) == 1
    assert "one check at a time is enough" in store.history.slots()[0]["skipped"]
    for _ in range(2):
        _, attempt = begin(store, first)
        finish(store, first, attempt, StepEnd.DONE, output={"kinds": ["decay"]})
    store.schedules.decide("look", now + timedelta(minutes=3), none)
    assert len(store.runs.listed(10)) == 2
    assert store.runs.listed(10, kind="training") == []
    assert store.history.counts().found == ("decay",)


def test_a_version_that_was_taken_back_is_counted(store):
    run = submit(store, kind="guard")
    assert store.history.counts().taken_back == 0
    for end in (StepEnd.REJECTED, StepEnd.DONE):
        _, attempt = begin(store, run)
        finish(store, run, attempt, end, why="worse")
    assert store.history.counts().taken_back == 1
    assert store.runs.get(run.id).verdict is Verdict.REJECTED


def test_what_postgresql_cannot_hold_is_written_as_it_can(store):
    run = submit(store, kind="trial")
    _, attempt = begin(store, run)
    assert store.runs.renew(run.id, attempt.fence, 20.0, {"stage": "a\x00b\ud800"})
    assert store.runs.get(run.id).progress == {"stage": "a\\x00b\\ud800"}
    output = {"score": float("nan"), "all": [float("inf"), 1.5], "a\x00": "b\x00"}
    now = finish(store, run, attempt, StepEnd.DONE, output=output, why="\x00")
    assert now.outputs["trial"] == {"score": None, "all": [None, 1.5], "a\\x00": "b\\x00"}


def test_half_of_a_promotion_is_not_to_be_had_and_a_stopped_comparison_not_again(store):
    run = submit(store, kind="cycle")
    for step in KINDS["cycle"]:
        if step == "promote":
            break
        _, attempt = begin(store, run, Pool("here", 60_000, 0, 9))
        finish(store, run, attempt, StepEnd.DONE)
    with pytest.raises(ConfigurationError, match="is being promoted, .*`ultrathink export rollback MODEL`"):
        store.runs.cancel(run.id, "second thoughts", "anna")
    _, attempt = begin(store, run, Pool("here", 60_000, 0, 9))
    finish(store, run, attempt, StepEnd.FAILED, why="MLflow lost it")
    with pytest.raises(ConfigurationError, match="has not ended: it is ready at reject"):
        store.runs.retry(run.id, "again", "anna")
    _, attempt = begin(store, run)
    finish(store, run, attempt, StepEnd.DONE)
    with pytest.raises(ConfigurationError, match="failed at promote, and its experiment was stopped"):
        store.runs.retry(run.id, "again", "anna")


def test_a_most_a_day_holds_for_slots_that_are_made_up_for(store):
    now = store.database.now()
    one = Schedule(name="hourly", cron="0 * * * *", kind="training", missed="all")
    store.schedules.put(one, "tester", now - timedelta(days=15))
    assert store.schedules.decide("hourly", now, TriggerPolicy(most_a_day=8)) > 350
    assert len(store.runs.listed(500)) == 8
    assert "which is the most" in store.history.slots("hourly")[0]["skipped"]


def test_memory_that_runs_out_halves_the_batch_once(store):
    run = submit(store, kind="trial")
    _, attempt = begin(store, run)
    now = finish(store, run, attempt, StepEnd.AGAIN, why="killed (exit 137)", halve=True, again_s=0.0)
    assert (now.state, now.divisor) == (RunState.READY, 2)
    _, attempt = begin(store, run)
    now = finish(store, run, attempt, StepEnd.AGAIN, why="killed (exit 137)", halve=True, again_s=0.0)
    assert now.verdict is Verdict.FAILED
    assert now.why == "killed (exit 137); batches of half the size did not fit either"
    again = store.runs.retry(run.id, "more memory", "tester")
    assert (again.state, again.step, again.divisor) == (RunState.READY, "trial", 1)


def at(store, kind, step):
    """A run of a kind that stands at a step."""
    run = submit(store, kind=kind)
    for before in KINDS[kind][: KINDS[kind].index(step)]:
        _, attempt = begin(store, run)
        assert attempt.step == before
        finish(store, run, attempt, StepEnd.DONE)
    return run


def out_of_memory(store, run):
    with connect_url(store_url(store)) as connection:
        connection.execute("UPDATE orchestrator.runs SET not_before = now()")
    _, attempt = begin(store, run)
    return finish(store, run, attempt, StepEnd.AGAIN, why="killed (exit 137)", halve=True, again_s=0.0)


@pytest.mark.parametrize(("kind", "step"), [("cycle", "canary"), ("guard", "watch")])
def test_what_only_waits_is_begun_anew_however_often_memory_runs_out(store, kind, step):
    run = at(store, kind, step)
    for _ in range(2 * MOST_FAILURES):
        now = out_of_memory(store, run)
    assert (now.state, now.step, now.divisor) == (RunState.READY, step, 1)


def test_what_learns_in_no_batches_is_tried_as_often_as_any(store):
    run = at(store, "cycle", "export")
    for k in range(MOST_FAILURES):
        now = out_of_memory(store, run)
        assert (now.step == "export") == (k < MOST_FAILURES - 1)
    assert (now.step, now.why, now.divisor) == (REJECT, "killed (exit 137) (tried 5 times)", 1)
    # What is to be put back is put back, whatever it takes.
    for _ in range(2 * MOST_FAILURES):
        now = out_of_memory(store, run)
    assert (now.state, now.step, now.verdict) == (RunState.READY, REJECT, Verdict.FAILED)


def test_nothing_that_promotes_begins_by_itself_while_another_does(store):
    now, policy = datetime.now(UTC), TriggerPolicy(cool_down="1ms")

    def fire(key, kind="update", trigger="drift"):
        request = RunRequest(kind=kind, reason="a test", by=trigger, trigger=trigger)
        return store.schedules.fire(trigger, key, request, policy, now, {})

    first = fire("one")
    assert first.run
    for kind in ("update", "cycle"):
        told = fire(f"two {kind}", kind, "data")
        assert (told.run, told.why_not) == (
            "", f"run {first.run} has not ended, and one at a time is compared with the champion"
        )  # fmt: skip
    assert fire("a training", "training", "data").run
    # By hand anybody may.
    assert submit(store, kind="update").state is RunState.READY


def test_what_was_promoted_and_taken_back_came_to_nothing(store):
    begun, policy = datetime.now(UTC), TriggerPolicy(cool_down="1h", most_false=2)
    for k in range(2):
        now = begun + timedelta(hours=4 * k)
        request = RunRequest(kind="update", reason="a test", by="drift", trigger="drift")
        fired = store.schedules.fire("drift", str(k), request, policy, now, {})
        assert fired.run, fired.why_not
        with connect_url(store_url(store)) as connection:
            connection.execute(
                "UPDATE orchestrator.runs SET state = 'ended', verdict = 'succeeded', ended_at = %s, submitted_at = %s "
                "WHERE id = %s", (now, now, fired.run),
            )  # fmt: skip
        guard = RunRequest(kind="guard", reason="it", by="it", trigger="rollback", trigger_key=f"guard/{fired.run}")
        watch, _ = store.runs.submit(guard)
        _, attempt = begin(store, watch)
        finish(store, watch, attempt, StepEnd.REJECTED, why="worse")
        _, attempt = begin(store, watch)
        assert finish(store, watch, attempt, StepEnd.DONE).verdict is Verdict.REJECTED
    told = store.schedules.fire("drift", "later", request, policy, begun + timedelta(hours=12), {})
    assert "2 runs that drift began within 7d came to nothing" in told.why_not


def test_what_fails_again_and_again_fails(store):
    run = submit(store, kind="trial")
    for k in range(MOST_FAILURES):
        with connect_url(store_url(store)) as connection:
            connection.execute("UPDATE orchestrator.runs SET not_before = now()")
        _, attempt = begin(store, run)
        now = finish(store, run, attempt, StepEnd.AGAIN, why="a bug")
        assert (now.state is RunState.ENDED) == (k == MOST_FAILURES - 1)
    assert now.why == "a bug (tried 5 times)"


def store_url(store):
    return store.database._pool.conninfo


def test_what_is_nobodys_fault_is_tried_for_hours(store):
    run = submit(store, kind="trial")
    for _ in range(MOST_FAILURES + 3):
        with connect_url(store_url(store)) as connection:
            connection.execute("UPDATE orchestrator.runs SET not_before = now()")
        _, attempt = begin(store, run)
        now = finish(store, run, attempt, StepEnd.AGAIN, why="MLflow does not answer", patient=True)
        assert now.state is RunState.READY
    assert now.not_before_s > store.database.now().timestamp() + 60


def test_a_cancelled_run_puts_back_what_others_see(store):
    run = submit(store)
    store.runs.cancel(run.id, "wrong data", "anna")
    begin(store, run)
    assert store.runs.get(run.id).verdict is Verdict.CANCELLED
    with pytest.raises(ConfigurationError, match="has ended: cancelled"):
        store.runs.cancel(run.id, "again", "anna")
    seen = submit(store)
    for _ in range(3):
        _, attempt = begin(store, seen)
        finish(store, seen, attempt, StepEnd.DONE)
    store.runs.cancel(seen.id, "wrong data", "anna")
    assert isinstance(begin(store, seen), Refused)
    now = store.runs.get(seen.id)
    assert (now.state, now.step, now.verdict, now.why) == (
        RunState.READY, REJECT, Verdict.CANCELLED, "wrong data (anna)"
    )  # fmt: skip
    _, attempt = begin(store, seen)
    now = finish(store, seen, attempt, StepEnd.DONE)
    assert (now.state, now.verdict) == (RunState.ENDED, Verdict.CANCELLED)
    assert store.runs.retry(seen.id, "it was right", "anna").step == "gates"


def test_a_key_is_submitted_once(store):
    first, is_new = store.runs.submit(wanted(trigger_key="hand/one"))
    again, is_new_again = store.runs.submit(wanted(trigger_key="hand/one", reason="another"))
    assert (is_new, is_new_again, again) == (True, False, first)


def test_what_is_unknown_is_refused_by_name(store):
    for work in (
        lambda: store.runs.get("nobody"),
        lambda: store.runs.cancel("nobody", "x", "y"),
        lambda: store.runs.retry("nobody", "x", "y"),
    ):
        with pytest.raises(ConfigurationError, match="there is no run 'nobody'"):
            work()
    with pytest.raises(ConfigurationError, match="there is no schedule 'nobody'"):
        store.schedules.remove("nobody", "tester")


def test_slots_are_decided_once_and_the_quiet_ones_say_so(store):
    now = store.database.now()
    one = Schedule(name="nightly", cron="*/5 * * * *", kind="training", missed="all")
    store.schedules.put(one, "tester", now - timedelta(hours=2))
    assert store.schedules.decide("nightly", now, FREE) == 24
    assert store.schedules.decide("nightly", now, FREE) == 0
    assert len(store.history.slots("nightly")) == 24
    assert len(store.runs.listed(100)) == 24
    store.schedules.pause("nightly", "tester", paused=True)
    assert store.schedules.decide("nightly", now + timedelta(hours=1), FREE) == 0
    store.schedules.pause("nightly", "tester", paused=False)
    quiet = TriggerPolicy(quiet=("00:00-23:59",), most_a_day=10_000)
    assert store.schedules.decide("nightly", now + timedelta(hours=1), quiet) >= 11
    assert "quiet hours" in store.history.slots("nightly")[0]["skipped"]
    assert len(store.runs.listed(100)) == 24


def test_a_trigger_is_ruled_on_once_and_a_most_of_one_is_one(store):
    now, begun = store.database.now(), []
    policy = TriggerPolicy(cool_down="1h")
    request = wanted(trigger="drift", by="drift")

    def fire(k):
        begun.append(store.schedules.fire("drift", f"window {k}", request, policy, now, {"psi": 0.4}))

    threads = [threading.Thread(target=fire, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in begun if one.run]) == 1
    assert all("cools down" in one.why_not for one in begun if not one.run)
    before = store.schedules.fire("drift", "window 0", request, policy, now + timedelta(days=9), {})
    assert before in begun
    assert len(store.history.firings()) == 8


def test_the_old_goes_and_the_best_and_what_serves_stays(store, url):
    runs = [submit(store, kind="training") for _ in range(4)]
    for k, run in enumerate(runs):
        for step in ("collect", "build", "train", "gates"):
            _, attempt = begin(store, run)
            output = {"score": float(k)} if step == "train" else {}
            end = StepEnd.REJECTED if step == "gates" else StepEnd.DONE
            finish(store, run, attempt, end, output=output)
        _, attempt = begin(store, run)
        finish(store, run, attempt, StepEnd.DONE)
    with connect_url(url) as connection:
        connection.execute("UPDATE orchestrator.runs SET ended_at = now() - interval '40 days'")
    old = store.history.forgettable(timedelta(days=30), 1, [runs[0].id])
    assert [run.id for run in old] == [runs[1].id, runs[2].id]
    assert not store.history.forgettable(timedelta(days=50), 1, [])
    for run in old:
        store.runs.forget(run.id)
    assert {run.id for run in store.runs.listed(10)} == {runs[0].id, runs[3].id}
    assert not store.history.lines(runs[1].id)


def test_the_queue_hands_jobs_over_by_priority_and_each_key_once(url):
    with closing(JobQueue(url)) as queue:
        assert queue.put([("a", "a", 0), ("b", "b", 5), ("a", "a", 0)]) == 2
        seen, stopping = [], threading.Event()
        thread = threading.Thread(target=queue.serve, args=(seen.append, 1, stopping))
        thread.start()
        eventually(lambda: len(seen) == 2, 20)
        assert seen == ["b", "a"]
        began = datetime.now(UTC)
        assert queue.put([("c", "a", 0)]) == 1
        eventually(lambda: len(seen) == 3, 20)
        # A notification wakes it, and not the next look.
        assert datetime.now(UTC) - began < timedelta(seconds=1.5)
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()


def test_a_queue_of_another_version_is_made_anew(url):
    with closing(JobQueue(url)) as queue:
        queue.put([("a", "a", 0)])
    lay_out(url)
    with connect_url(url) as connection:
        assert connection.execute("SELECT count(*) FROM job_queue.procrastinate_jobs").fetchone() == (1,)
        connection.execute("COMMENT ON SCHEMA job_queue IS '0.1'")
    lay_out(url)
    with connect_url(url) as connection:
        assert connection.execute("SELECT count(*) FROM job_queue.procrastinate_jobs").fetchone() == (0,)


def test_a_dataset_that_another_run_has_built_too_is_known(store):
    runs = []
    for _ in range(2):
        runs.append(at(store, "trial", "trial") if runs else at(store, "training", "build"))
        _, attempt = begin(store, runs[-1])
        with connect_url(store_url(store)) as connection:
            connection.execute(
                "UPDATE orchestrator.runs SET outputs = %s, state = 'ended', ended_at = now(), lease_until = NULL, "
                "verdict = 'failed' WHERE id = %s",
                (Jsonb({"build": {"dataset": "/home/datasets/0123456789ab"}}), runs[-1].id),
            )
        store.runs.gone(runs[-1].id, attempt.fence)
    assert store.history.is_named_elsewhere(runs[0].id, "/home/datasets/0123456789ab")
    assert not store.history.is_named_elsewhere(runs[0].id, "/home/datasets/another")
    store.runs.forget(runs[1].id)
    # Who has not ended may name it, or is about to.
    given = submit(store, kind="training", spec={"data": ["/home/datasets/0123456789ab"]})
    assert store.history.is_named_elsewhere(runs[0].id, "/home/datasets/0123456789ab")
    store.runs.cancel(given.id, "a test", "tester")
    begin(store, given)
    assert not store.history.is_named_elsewhere(runs[0].id, "/home/datasets/0123456789ab")


def test_slots_firings_and_what_happened_to_no_run_go_with_the_old_runs(store, url):
    now, policy = datetime.now(UTC), TriggerPolicy(cool_down="1ms", most_a_day=9)
    store.schedules.put(
        Schedule(name="nightly", cron="*/15 * * * *", kind="training", missed="all"),
        "somebody",
        now - timedelta(hours=1),
    )
    assert store.schedules.decide("nightly", now, policy, timedelta(hours=2)) >= 3
    fired = {}
    for kind, key in (
        ("data", "topic/1000"),
        ("drift", "run 1"),
        ("data", "topic/2000"),
        ("data", "check/topic/1000"),
    ):
        request = RunRequest(kind="training", reason="a test", by=kind, trigger=kind)
        fired[key] = store.schedules.fire(kind, key, request, policy, now, {})
    assert store.history.forget_records(timedelta(days=30)) == 0
    with connect_url(url) as connection:
        for table, column in (("events", "at"), ("slots", "decided_at"), ("firings", "at")):
            connection.execute(f"UPDATE orchestrator.{table} SET {column} = {column} - interval '40 days'")
        connection.execute("UPDATE orchestrator.firings SET at = at - interval '1 hour' WHERE key = 'topic/1000'")
        # The runs of one slot and of one firing are there.
        connection.execute(
            "DELETE FROM orchestrator.runs WHERE trigger = 'data' OR id NOT IN ("
            "SELECT run FROM orchestrator.firings WHERE run IS NOT NULL UNION "
            "(SELECT run FROM orchestrator.slots WHERE run IS NOT NULL ORDER BY at DESC LIMIT 1))"
        )
    left = store.history.slots()
    assert store.history.forget_records(timedelta(days=30)) > len(left) - 1
    assert len(store.history.slots()) == 1
    assert store.history.lines(fired["run 1"].run)
    # The newest of each stays: whoever looks at what stands still tells of it again.
    told = {(one["trigger"], one["key"]) for one in store.history.firings()}
    assert told == {("data", "topic/2000"), ("data", "check/topic/1000"), ("drift", "run 1")}
    assert store.schedules.decide("nightly", now, policy, timedelta(hours=2)) == 0
    assert len(store.history.slots()) == 1
