"""A real Prometheus and a real Alertmanager on a real desk: all is seen, nothing alarms, and what is wrong does."""

from __future__ import annotations

import os
import re
import shutil
import time

import httpx
import pytest
from msgspec.structs import replace

from exporters.repository.state import journal_path
from stack.drill.alarms import Alarms
from stack.drill.desk import Desk
from stack.drill.faults import FAULTS
from stack.drill.receiver import receiving
from stack.drill.run import Drill
from stack.drill.steady_load import SteadyLoad
from stack.servers import prometheus
from stack.servers.settings import ServerPorts, StackSettings
from stack.watching import alerts
from stack.watching.boards import BOARDS
from tests.stacks import running_stack
from tests.waiting import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        prometheus.program() is None or prometheus.alertmanager_program() is None,
        reason="no Prometheus and Alertmanager here (Debian: prometheus prometheus-alertmanager)",
    ),
]
HEALTHY_S = float(os.environ.get("ULTRATHINK_HEALTHY_S", "30"))


@pytest.fixture(scope="module")
def told():
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def desk(stack, exported, told, tmp_path_factory):
    """A desk that decides, watched; its alerts are told to `told`."""
    home = tmp_path_factory.mktemp("watched")
    settings = StackSettings(
        home=home, ports=ServerPorts.automatic(), model_repository=home / "models", alert_webhook=told.address
    )
    shutil.copytree(stack.model_repository, settings.model_repository)
    journal = journal_path(settings.model_repository)
    journal.parent.mkdir(parents=True)
    shutil.copy(journal_path(stack.model_repository), journal)
    with running_stack(settings):
        yield settings


@pytest.fixture
def alarms(desk, told):
    return Alarms(desk, told)


def test_every_job_is_scraped_and_every_metric_that_an_alert_reads_is_there(desk, alarms):
    assert eventually(
        lambda: {one["metric"]["job"] for one in alarms.ask("up == 1")} == set(prometheus.targets(desk))
    )
    # What only a GPU, certificates, an experiment (tests/e2e/test_canary.py), or something broken would tell.
    absent = {
        "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_GPU_TEMP",
        "ultrathink_certificate_expiry_timestamp_seconds", "gateway_experiment_rows_total",
    }  # fmt: skip
    with SteadyLoad(desk, 100.0):
        names = {name for one in alerts.ALERTS for name in metrics_of(one.expr)} - absent
        missing = names

        def seen():
            nonlocal missing
            missing = {name for name in missing if not alarms.ask(name)}
            return not missing

        try:
            eventually(seen, 60)
        except AssertionError:
            pytest.fail(f"nobody tells of {sorted(missing)}")


def metrics_of(expression):
    """Names of metrics: by Prometheus' own parser one would have to ask it; ours all have one of these beginnings."""
    begin = "gateway_|kafka_|ultrathink_|metrics_|redis_|pg_|nv_|node_|forensics_|process_|DCGM_|up"
    return set(re.findall(rf"\b((?:{begin})\w*)\b(?=[{{\[ )]|$)", expression))


def test_a_healthy_desk_alarms_nobody(desk, alarms, told):
    # Three models as an ensemble, on two cores; 500 ticks/s through the fused one are the drill's.
    with SteadyLoad(desk, 200.0):
        # The first moments are warming up: the machine's own models are loaded, and compiled.
        time.sleep(20)
        before = len(told.came)
        deadline = time.monotonic() + HEALTHY_S
        found = set()
        while time.monotonic() < deadline:
            found |= alarms.firing()
            time.sleep(2)
    said = {one["labels"]["alertname"] for _, one in told.came[before:] if one["status"] == "firing"}
    # How soon this machine decides is no behaviour: the drill says it, with nothing beside it.
    assert (found | said) - {"DecisionLatencyHigh"} == set()


def test_every_query_of_every_panel_answers_with_data(desk, alarms):
    """On a desk that decides, and is asked for its data."""
    token = desk.secret("data-token")
    queries = {
        query.expr.replace("$__rate_interval", "30s"): f"{board.title}: {panel.title}"
        for board in BOARDS
        for panel in board.panels
        for query in panel.queries
        if not panel.needs
    }
    assert len(queries) > 50
    with SteadyLoad(desk, 200.0):
        missing = set(queries)

        def answered():
            httpx.get(
                f"http://127.0.0.1:{desk.ports.data}/v1/symbols",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5,
            )
            missing.difference_update({expr for expr in missing if has_data(alarms.ask(expr))})
            return not missing

        try:
            eventually(answered, 60)
        except AssertionError:
            pytest.fail(f"no data: {[(queries[expr], expr) for expr in missing]}")


def has_data(found):
    """Whether an answer has a number in it."""
    return any(one["value"][1] not in {"NaN", "+Inf", "-Inf"} for one in found)


#: One of each kind; `ultrathink drill` makes all of them, and a change waits for this one alone.
SHORT = "messages that are no ticks"
MADE = {
    "kill switch": "KillSwitch",
    SHORT: "DeadLetters",
    "Triton hangs": "BreakerOpen",
    "supervisor killed": "SupervisorDown",
    "paper broker killed 5 times": "RestartLoop",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == SHORT else pytest.mark.long) for name in MADE]
)
def test_what_goes_wrong_is_told_in_time_and_clears(desk, alarms, name):
    fault = next(fault for fault in FAULTS if fault.name == name)
    assert MADE[name] in fault.alerts
    with SteadyLoad(desk, 100.0):
        told = Drill(Desk(desk, alarms), lambda _: None, desk.absolute_home).made(
            replace(fault, alerts=(MADE[name],))
        )
    assert told.problem == ""
    assert [one.alert for one in told.heard if one.ok] == [MADE[name]]
    assert told.late == []
    assert fault.lasting_min or told.heard[0].cleared_s is not None
    came = alarms.told.first(MADE[name])
    assert came is not None
    assert came[1]["annotations"]["runbook"] == f"docs/runbook/{MADE[name]}.md"
