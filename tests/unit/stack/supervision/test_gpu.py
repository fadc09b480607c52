"""What was seen of the GPU is shown by status and doctor, of this machine and of containers."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from exporters.target.gpu_validation import FILE, Seen, record
from stack.cli.main import app
from stack.servers.settings import StackSettings
from stack.supervision.compose_status import docker, gpu_validation
from stack.supervision.doctor import computed
from stack.supervision.machine import gpu_words

AT = "2026-11-28T12:00:00+00:00"
FINE, OLD = Seen(True, "2.9.1", "it works", AT), Seen(True, "2.8.0", "it works", AT)
BAD = Seen(False, "triton 2.56", "no kernel image", AT)


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A machine with NVIDIA's program."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.fixture
def settings(tmp_path):
    return StackSettings(home=tmp_path / "home")


def test_a_machine_without_a_gpu_that_was_never_tried_says_nothing(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu_words(settings.absolute_home / FILE, "") == []
    assert computed(settings).verdict == "fits"


def test_a_gpu_that_was_never_tried_is_not_known_to_work(settings, gpu):
    found = computed(settings)
    assert found.verdict == "cannot tell"
    assert "ultrathink gpu check" in found.way_out
    assert len(gpu_words(settings.absolute_home / FILE, "")) == 2


@pytest.mark.parametrize(
    ("torch", "triton", "verdict"),
    [
        (FINE, FINE, "fits"),
        (OLD, FINE, "cannot tell"),
        (FINE, None, "cannot tell"),
        (FINE, BAD, "does not fit"),
        (BAD, None, "does not fit"),
    ],
)
def test_the_doctor_judges_by_what_was_seen(settings, torch, triton, verdict):
    record(settings.absolute_home / FILE, torch=torch, triton=triton)
    found = computed(settings)
    assert found.verdict == verdict
    assert (found.way_out != "") == (verdict != "fits")


def test_a_file_that_is_not_understood_fits_nobody(settings):
    (settings.absolute_home).mkdir(parents=True)
    (settings.absolute_home / FILE).write_text("{")
    assert computed(settings).verdict == "does not fit"
    (told,) = gpu_words(settings.absolute_home / FILE, "")
    assert "delete it" in told


def test_status_shows_what_was_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path))
    record(tmp_path / FILE, torch=FINE, triton=BAD)
    told = json.loads(CliRunner().invoke(app, ["stack", "status", "--json"]).output)["gpu"]
    assert told == [
        f"torch computes on the GPU: it works ({AT})",
        f"Triton does not compute on the GPU: no kernel image ({AT})",
    ]


def test_of_containers_it_is_taken_from_whichever_has_ended(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "docker-compose.yml").touch()
    record(tmp_path / "seen.json", torch=FINE)

    def answers(script):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return gpu_validation(docker(tmp_path))

    probe = 'case "$1 $5" in "compose gpu-probe") echo 7f;; "cp "*) [ "$2" = "7f:/validation/gpu-validation.json" ] && cp seen.json "$3";; esac'
    assert answers(probe)[0] == f"torch computes on the GPU: it works ({AT})"
    assert "docker compose up gpu-check gpu-probe" in answers("true")[0]
    assert "docker compose up gpu-check gpu-probe" in answers("exit 1")[0]
