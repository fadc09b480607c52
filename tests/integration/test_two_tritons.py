"""Two real Tritons behind one gateway: one is killed under load, and no tick is without an answer; released to as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from connectors.triton.grpc import InferenceServerClient
from exporters.formats.config_pbtxt import Serving
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from gateway.adapters.triton import TritonPredictor
from gateway.adapters.tritons import Tritons
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import DecisionWatcher
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.servers import triton
from stack.servers.identity import Identity, end
from stack.servers.kafka import create_topics
from stack.servers.server import NotReady
from stack.servers.settings import ServerPorts
from tests.unit.exporters.models import publish_times
from tests.waiting import eventually
from trading.decision.schema import Reason
from trading.history import open_source

pytestmark = pytest.mark.slow
MODEL = "trading_decision"


class SecondTriton:
    """A server of the same repository, at ports of its own."""

    def __init__(self, stack, home):
        settings = stack.model_copy(update={"home": home, "ports": ServerPorts.automatic()})
        self.address, self._service = settings.triton_grpc, triton.service(settings)
        self._log = home / "triton.log"
        self.process = None

    def start(self):
        self._service.prepare()
        with self._log.open("ab") as log:
            popen = subprocess.Popen(
                self._service.command(), env={**os.environ, **self._service.environment()}, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        popen.returncode = 0
        self.process = Identity.of(popen.pid)
        eventually(self.serves, 60)

    def serves(self):
        """Whoever asks how it is has it load what was released, as the supervisor does."""
        try:
            self._service.probe()
        except NotReady:
            return False
        with closing(InferenceServerClient(self.address)) as client:
            return client.is_model_ready(MODEL)

    def answered(self):
        """Batches since it was started."""
        with closing(InferenceServerClient(self.address)) as client:
            return sum(s.inference_stats.success.count for s in client.get_inference_statistics(MODEL).model_stats)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self):
        if self.process is not None:
            end(self.process, timeout_s=10)


@pytest.fixture(scope="module")
def second(stack, exported, tmp_path_factory):
    made = SecondTriton(stack, tmp_path_factory.mktemp("triton"))
    try:
        made.start()
        yield made
    finally:
        made.end()


def servers(gateway):
    return httpx.get(f"http://127.0.0.1:{gateway.port}/status", timeout=5.0).json()["tritons"]


def test_both_answer_alike_and_either_does_for_the_other(stack, second):
    rows = np.random.default_rng(7).normal(size=(16, 32)).astype(np.float32)
    with ExitStack() as opened:
        both = opened.enter_context(closing(Tritons([stack.triton_grpc, second.address], MODEL, "", 1)))
        alone = opened.enter_context(closing(TritonPredictor(stack.triton_grpc, MODEL, "")))
        both.settle_rows(rows)
        alone.settle_rows(rows)
        assert set(both.servers().values()) == {""}
        before = second.answered()
        found, wanted = both.predict(rows, 5.0), alone.predict(rows, 5.0)
        # And whoever looks after it asks for its probe now and then.
        assert second.answered() > before
        assert found.target_position.tobytes() == wanted.target_position.tobytes()


def test_one_that_is_killed_under_load_costs_no_tick_its_answer(stack, second):
    topics = SeriesTopics("two-tritons", ticks="two-tritons.ticks")
    create_topics(stack, topics.names)
    # Number 1 asks the second of two.
    gateway = series_gateway(
        stack, topics, "gateway-1", triton_url=f"{stack.triton_grpc},{second.address}", budget_ms="2000"
    )
    watcher = DecisionWatcher(stack.kafka_bootstrap, topics.decisions)
    try:
        gateway.start()
        gateway.wait_for_partitions()
        killer = threading.Timer(2.0, second.kill)
        source = open_source("simulate:regimes?seed=5&ticks=2000&symbols=3")
        killer.start()
        published = TickPublisher(stack.kafka_bootstrap, topics.ticks).publish(
            plan(source.records(), Speed("constant", rate_hz=500.0))
        )
        watcher.wait_for(published.intended_ns, 30.0, lambda _: None)
        killer.join()
        decisions = watcher.decisions()
        assert len({d.decision_id for d in decisions}) == len(decisions) == 2000
        failed = {
            Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE, Reason.PREDICTOR_INVALID, Reason.DEADLINE,
        }  # fmt: skip
        assert [d.decision_id for d in decisions if d.reason in failed] == []
        assert {d.model_version for d in decisions} == {decisions[0].model_version}
        status = servers(gateway)
        assert status[stack.triton_grpc] == ""
        assert status[second.address] != ""
        # Back, it is asked again.
        second.start()
        eventually(lambda: servers(gateway)[second.address] == "", 30)
        before = second.answered()
        TickPublisher(stack.kafka_bootstrap, topics.ticks).publish(
            plan(source.records(), Speed("constant", rate_hz=500.0))
        )
        assert second.answered() > before
    finally:
        watcher.close()
        gateway.kill()


def export(stack, *words):
    program = Path(sys.executable).parent / "ultrathink"
    return subprocess.run(
        [program, "export", *words], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "ULTRATHINK_HOME": str(stack.home)},
    )  # fmt: skip


def versions(*addresses):
    found = []
    for address in addresses:
        with closing(TritonServer(address)) as server:
            found.append(server.ready("shared"))
    return found


def tripled(repository, address):
    """What a server's second version makes of a one."""
    signature = repository.lineage("shared", 2).contract
    with closing(TritonServer(address)) as server:
        return float(server.run(signature, 2)([np.ones((1, 4), np.float32)])[0][0, 0])


def test_a_release_goes_to_both_or_to_none(stack, second, tmp_path):
    repository, addresses = ModelRepository(stack.model_repository), (stack.triton_grpc, second.address)
    places = ["--triton-url", ",".join(addresses), "--repository", str(stack.model_repository)]
    for factor in (2.0, 3.0, 4.0):
        publish_times(repository, tmp_path, factor, name="shared")
    try:
        for number, serves in (("1", {1}), ("2", {1, 2})):
            done = export(stack, "release", "shared", number, "--json", *places)
            assert done.returncode == 0, done.stderr
            assert versions(*addresses) == [serves, serves]
        assert [tripled(repository, one) for one in addresses] == [3.0, 3.0]
        second.kill()
        done = export(stack, "release", "shared", "3", *places)
        assert done.returncode != 0
        assert f"Triton at {second.address} does not answer" in done.stderr
        assert versions(stack.triton_grpc) == [{1, 2}]
        # Whether the way back may do without it a person says, and how is told.
        assert f"name the others: --triton-url {stack.triton_grpc}" in " ".join(done.stderr.split())
        done = export(stack, "rollback", "shared", "--triton-url", stack.triton_grpc, *places[2:])
        assert done.returncode == 0, done.stderr
        assert versions(stack.triton_grpc) == [{1}]
        second.start()
        eventually(lambda: versions(second.address) == [{1}], 30)
    finally:
        with repository.lock("shared"):
            repository.configure(repository.lineage("shared", 1).contract, Serving())
        for address in addresses:
            with closing(TritonServer(address)) as server:
                server.unload("shared")
