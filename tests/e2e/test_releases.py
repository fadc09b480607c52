"""kill -9 of the exporter wherever it stands, and twenty releases under clients that never pause."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from msgspec.structs import replace
from tritonclient.utils import InferenceServerException

from exporters import fault_points
from exporters.errors import ParityError
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.profiles import find, find_gpu
from exporters.release.candidate import CANDIDATE
from exporters.release.journal import Journal, Recovered
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.release.versions import prune
from exporters.repository.repository import ModelRepository
from stack.servers import triton as triton_service
from stack.servers.server import NotReady
from stack.servers.settings import ServerPorts
from tests.integration.test_export import lie
from tests.unit.exporters.models import publish_times

pytestmark = pytest.mark.slow


def quiet(_):
    """No progress."""


@pytest.fixture(scope="module")
def second(stack, tmp_path_factory):
    """Another Triton on the same repository: what a restarted server would find, without restarting the first."""
    settings = stack.model_copy(
        update={"ports": ServerPorts.automatic(), "home": tmp_path_factory.mktemp("second"), "triton_threads": 1}
    )
    service = triton_service.service(settings)
    service.prepare()
    process = subprocess.Popen(
        service.command(), env={**os.environ, **service.environment()}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 150
        while True:
            try:
                service.probe()
                break
            except NotReady:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        server = TritonServer(settings.triton_grpc)
        yield server
        server.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # One that still loads does not end for it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(address, name):
    """Version and answer of a request that names no version."""
    client = grpcclient.InferenceServerClient(address)
    try:
        tensor = grpcclient.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        result = client.infer(name, [tensor])
        return int(result.get_response().model_version), float(result.as_numpy("y")[0, 0])
    finally:
        client.close()


def job(root, address, folder, name, what, fault):
    """In a process of its own: one command, killed where the environment says."""
    if fault:
        os.environ["ULTRATHINK_FAULT"] = fault
    repository, server = ModelRepository(root), TritonServer(address)
    releases = Releases(repository, server, find_gpu("rtx5070"), quiet)
    kind, value = what
    if kind == "publish and release":
        releases.release(name, publish_times(repository, folder, value, name=name))
    elif kind == "release":
        releases.release(name, value)
    elif kind == "rollback":
        releases.rollback(name)
    elif kind == "prune":
        prune(repository, name, 0)


@pytest.fixture(scope="module")
def spawn():
    """Children are forked from a server that has imported everything: a command costs no start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.e2e.test_releases"])

    def run(*arguments):
        child = context.Process(target=job, args=arguments)
        child.start()
        child.join(120)
        assert child.exitcode is not None
        return child.exitcode

    return run


def check_repository(stack, second, name, allowed):
    """What is on disk loads, and answers with a version that passed, as the source of that version does."""
    repository = ModelRepository(stack.model_repository)
    released = repository.serving(name).versions
    for version in released:
        repository.verified_lineage(name, version)
    second.unload(name)
    if not released:
        return
    second.load(name)
    # The two configuration files of a model may differ for a moment; both name passed versions only.
    loaded = second.ready(name)
    assert loaded
    for version in loaded:
        repository.verified_lineage(name, version)
    for address in (second.address, stack.triton_grpc):
        version, answer = ask(address, name)
        assert version in allowed
        wanted = repository.golden(repository.lineage(name, version).contract, version)
        factor = wanted[1][0][0, 0] / wanted[0][0][0, 0]
        assert answer == pytest.approx(float(factor))


CASES = [
    *(
        (point, ("publish and release", 5.0))
        for point in fault_points.POINTS
        if point not in {"pruning", "narrowed"}
    ),
    ("half_configured:2", ("publish and release", 5.0)),
    ("configured:2", ("publish and release", 5.0)),
    ("narrowed", ("publish and release", 5.0)),
    ("journal_begun", ("rollback", 0)),
    ("half_configured", ("rollback", 0)),
    # Nothing is loaded on the way back: the version before is kept beside the one that is left.
    ("flipped", ("rollback", 0)),
    ("narrowed", ("rollback", 0)),
    ("pruning", ("prune", 0)),
]
#: A change does not wait for them: each point is tried beside them.
LATE = [case for case in CASES if case[1][0] == "rollback" and case[0] != "flipped"]
assert LATE


def test_every_fault_point_is_tried():
    short = [case for case in CASES if case not in LATE]
    assert {point.partition(":")[0] for point, _ in short} == set(fault_points.POINTS)


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        pytest.param(*case, id=f"{case[1][0]}-{case[0]}", marks=pytest.mark.long if case in LATE else ())
        for case in CASES
    ],
)
def test_an_exporter_that_is_killed_leaves_what_was_served_or_the_new_version(
    stack, second, spawn, tmp_path, fault, what
):
    name = "killed_" + f"{what[0]}_{fault}".replace(" ", "_").replace(":", "_")
    repository = ModelRepository(stack.model_repository)
    arguments = (stack.model_repository, stack.triton_grpc, tmp_path, name)
    before = 3 if what[0] == "prune" else 2
    for factor in (1.0, 2.0, 3.0)[:before]:
        assert spawn(*arguments, ("publish and release", factor), "") == 0
    assert spawn(*arguments, what, fault) == -signal.SIGKILL
    check_repository(stack, second, name, {before - 1, before, before + 1})
    # Whatever was left, the next command settles it, and works.
    assert spawn(*arguments, ("publish and release", 7.0), "") == 0
    newest = repository.versions(name)[-1]
    check_repository(stack, second, name, {newest})
    journal = Journal(repository.state / "journal.jsonl").transactions(name)
    assert not any(t.open for t in journal)
    assert not list(repository.staging.glob(f"{name}~*"))
    server = TritonServer(stack.triton_grpc)
    assert not server.is_loaded(name + CANDIDATE)
    for left in (server, second):
        left.unload(name)
    server.close()


@pytest.mark.parametrize("fault", [pytest.param("loaded:2", marks=pytest.mark.long), "loaded:4", "flipped"])
@pytest.mark.usefixtures("exported")
def test_a_pipelines_release_that_is_killed_is_settled_with_all_its_steps(stack, spawn, tmp_path, fault):
    name, repository = "trading_decision", ModelRepository(stack.model_repository)
    before = repository.serving(name)
    gpu, container = find_gpu("rtx5070"), find("25.03-py3")
    options = Options(stack.mlflow_uri, container, gpu, alias="challenger")
    version = export_pipeline(name, options, repository, quiet)[-1].version
    arguments = (stack.model_repository, stack.triton_grpc, tmp_path, name)
    assert spawn(*arguments, ("release", version), fault) == -signal.SIGKILL
    server = TritonServer(stack.triton_grpc)
    releases = Releases(repository, server, gpu, quiet)
    assert [t.begun.version for t in releases.recover().settled] == [version]
    after = repository.serving(name)
    assert after == (before if fault != "flipped" else replace(before, versions=(version,), pins=after.pins))
    releases.probe(name, after.released)
    for step, pinned in after.pins.items():
        assert repository.serving(step).released == pinned
        assert server.ready(step) == set(repository.serving(step).versions)
    assert releases.recover() == Recovered([], [])
    server.close()


class Client(threading.Thread):
    """Infers without a pause, without naming a version."""

    def __init__(self, address, name):
        super().__init__(daemon=True)
        self.address, self.name_, self.stop = address, name, threading.Event()
        self.answers, self.failures = [], []

    def run(self):
        client = grpcclient.InferenceServerClient(self.address)
        tensor = grpcclient.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        while not self.stop.is_set():
            try:
                result = client.infer(self.name_, [tensor])
            except InferenceServerException as error:
                self.failures.append(str(error))
            else:
                version = int(result.get_response().model_version)
                self.answers.append((time.monotonic(), version, float(result.as_numpy("y")[0, 0])))
        client.close()


def test_twenty_releases_and_rollbacks_under_load_lose_nothing_and_serve_only_what_was_released(stack, tmp_path):
    repository, server = ModelRepository(stack.model_repository), TritonServer(stack.triton_grpc)
    releases, name = Releases(repository, server, find_gpu("rtx5070"), quiet), "busy"
    for factor in range(1, 9):
        publish_times(repository, tmp_path, float(factor), name=name)
    bad = publish_times(repository, tmp_path, 99.0, name=name)
    lie(repository, name, bad)
    begun = {1: time.monotonic()}
    releases.release(name, 1)
    clients = [Client(stack.triton_grpc, name) for _ in range(2)]
    for client in clients:
        client.start()
    done = 0
    for round_ in range(10):
        version = 2 + round_ % 7
        begun.setdefault(version, time.monotonic())
        releases.release(name, version)
        done += 1
        assert ask(stack.triton_grpc, name)[0] == version
        if round_ % 3 == 0:
            with pytest.raises(ParityError):
                releases.release(name, bad)
        back = releases.rollback(name).version
        done += 1
        assert ask(stack.triton_grpc, name)[0] == back
    for client in clients:
        client.stop.set()
        client.join(30)
    assert done == 20
    assert [f for c in clients for f in c.failures] == []
    answers = [a for c in clients for a in c.answers]
    assert len(answers) > 1000
    assert {v for _, v, _ in answers} >= set(range(1, 9))
    assert bad not in {v for _, v, _ in answers}
    assert all(factor == float(version) for _, version, factor in answers)
    assert all(at >= begun[version] for at, version, _ in answers)
    assert Journal(repository.state / "journal.jsonl").transactions(name)[-1].last.step == "done"
    server.unload(name)
    server.close()
