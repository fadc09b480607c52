"""The matrix of a compose deployment, from what Docker prints (shapes of Docker 27)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from stack.cli.main import app
from stack.supervision.compose_status import compose_status, docker
from stack.supervision.status import BACKING_OFF, FAILED, READY, STARTING, STOPPED
from trading.errors import ConfigurationError, ServiceUnavailable

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def container(name, number, policy="unless-stopped", **state):
    found = {
        "Status": "running", "Running": True, "OOMKilled": False, "ExitCode": 0,
        "StartedAt": "2026-11-28T11:00:00.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "Id": f"{number:064x}",
        "Name": f"/ultrathink-{name}-1",
        "RestartCount": number,
        "State": found | state,
        "HostConfig": {"Memory": 1024 * 2**20, "RestartPolicy": {"Name": policy}},
        "Config": {
            "Image": "nvcr.io/nvidia/tritonserver:25.03-py3",
            "Labels": {"com.docker.compose.service": name},
        },
        "NetworkSettings": {"Ports": {"8001/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}], "8002/tcp": None}},
    }


class FakeDocker:
    """Answers as Docker does, of these containers."""

    def __init__(self, *containers):
        self._containers = containers

    def __call__(self, words):
        if words[0] == "compose":
            return "".join(one["Id"] + "\n" for one in self._containers)
        if words[0] == "inspect":
            return json.dumps(self._containers)
        rows = [
            {"ID": one["Id"][:12], "MemUsage": "512.5MiB / 1GiB", "CPUPerc": "12.50%"}
            for one in self._containers
            if one["State"]["Running"]
        ]
        return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_container_that_runs_is_a_row_as_any_other():
    (found,) = compose_status(FakeDocker(container("triton", 2)), NOW)
    assert (found.name, found.state, found.version) == ("triton", READY, "25.03-py3")
    assert (found.memory_mb, found.memory_limit_mb, found.cpu_percent, found.restarts) == (512.5, 1024, 12.5, 2)
    assert found.endpoint == "127.0.0.1:8001"
    assert found.uptime_s == pytest.approx(3599.9, abs=0.1)
    assert found.last_exit == ""


@pytest.mark.parametrize(
    ("state", "shown", "last_exit"),
    [
        ({"Health": {"Status": "healthy", "Log": []}}, READY, ""),
        ({"Health": {"Status": "starting", "Log": []}}, STARTING, ""),
        ({"Health": {"Status": "unhealthy", "Log": [{"ExitCode": 1, "Output": "no  answer\n"}]}}, FAILED, ""),
        ({"Status": "exited", "Running": False, "FinishedAt": "2026-11-28T11:30:00Z"}, STOPPED, "exit 0"),
        (
            {"Status": "exited", "Running": False, "ExitCode": 137, "OOMKilled": True,
             "FinishedAt": "2026-11-28T11:30:00Z"}, FAILED, "exit 137 (out of memory: the kernel ended it)",
        ),
        (
            {"Status": "restarting", "Running": False, "ExitCode": 137, "FinishedAt": "2026-11-28T11:30:00Z"},
            BACKING_OFF, "exit 137 (SIGKILL: out of memory, or killed by hand)",
        ),
        # It runs again: how it ended before is worth knowing.
        ({"ExitCode": 0, "OOMKilled": True, "FinishedAt": "2026-11-28T10:59:00Z"}, READY,
         "exit 137 (out of memory: the kernel ended it)"),
    ],
)  # fmt: skip
def test_a_state_and_an_end_are_in_our_words(state, shown, last_exit):
    (found,) = compose_status(FakeDocker(container("gateway", 1, **state)), NOW)
    assert (found.state, found.last_exit) == (shown, last_exit)
    if shown == FAILED and "Health" in state:
        assert found.degraded == ["no answer"]


def test_rows_are_by_the_names_of_services_and_nothing_is_nothing():
    assert [r.name for r in compose_status(FakeDocker(container("b", 1), container("a", 2)), NOW)] == ["a", "b"]
    assert compose_status(FakeDocker(), NOW) == []


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A `docker` on PATH, and a compose file; returns where its text lies."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-compose.yml").touch()

    def make(script):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return make


def test_a_docker_that_fails_is_a_sentence(installed, tmp_path):
    installed("echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(ServiceUnavailable, match="Cannot connect to the Docker daemon"):
        compose_status(docker(tmp_path))


@pytest.mark.parametrize("said", ["unknown shorthand flag: 'a' in -a", "docker: unknown command: docker compose"])
def test_a_docker_without_compose_says_what_to_install(installed, tmp_path, said):
    installed(f'echo "{said}" >&2; exit 125')
    with pytest.raises(ServiceUnavailable, match="install its plugin"):
        compose_status(docker(tmp_path))


def test_without_docker_or_in_another_folder_it_says_so(tmp_path, monkeypatch, installed):
    installed("exit 0")
    with pytest.raises(ConfigurationError, match="docker-compose.yml is not in"):
        docker(tmp_path / "bin")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="docker is not on PATH"):
        docker(tmp_path)


def test_the_command_prints_the_matrix_and_its_exit_code_says_whether_all_is_well(installed, tmp_path):
    ended = {"Status": "exited", "Running": False, "FinishedAt": "2026-11-28T11:30:00Z"}
    done_once, stopped = container("setup", 1, "on-failure", **ended), container("redis", 3, **ended)
    triton, restarting = container("triton", 2), container("triton", 2, Status="restarting")
    for containers, code in (([triton, done_once], 0), ([triton, stopped], 1), ([restarting], 1)):
        (tmp_path / "inspect").write_text(json.dumps(containers))
        installed('case "$1" in compose) echo 1; echo 2;; inspect) cat inspect;; stats) ;; esac')
        done = CliRunner().invoke(app, ["stack", "status", "--compose"])
        assert done.exit_code == code, done.output
        assert "triton" in done.output
    assert json.loads(CliRunner().invoke(app, ["stack", "status", "--compose", "--json"]).output)["ready"] is False
