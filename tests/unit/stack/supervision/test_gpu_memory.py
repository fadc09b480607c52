"""How full a GPU is, from what NVIDIA's program prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from stack.cli.main import app
from stack.supervision import gpu_memory
from stack.supervision.compose_status import docker
from stack.supervision.gpu_memory import ASK, Card, here, in_container, read

LINE = "NVIDIA GeForce RTX 5070, 3100, 12227, 46\n"


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        (LINE, [Card("NVIDIA GeForce RTX 5070", 3100.0, 12227.0, 46.0)]),
        (LINE * 2, [Card("NVIDIA GeForce RTX 5070", 3100.0, 12227.0, 46.0)] * 2),
        ("A, B, 1, 2, [N/A]\n", [Card("A, B", 1.0, 2.0, None)]),
        ("MIG 1g, [N/A], [N/A], 40\n", []),
        ("x, 1, 0, 40\n", []),
        ("", []),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver\n", []),
    ],
)
def test_a_line_is_a_card_or_tells_nothing(text, cards):
    assert read(text) == cards


@pytest.mark.parametrize(("used", "is_near"), [(11003.0, False), (11005.0, True), (12227.0, True)])
def test_one_that_is_nearly_full_says_so_before_something_finds_no_room(used, is_near):
    words = Card("RTX", used, 12227.0, None).words
    assert f"{used:,.0f} of 12,227 MB" in words
    assert ("may find no room" in words) == is_near


@pytest.fixture
def program(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "home"))

    def make(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


def test_this_machines_cards_are_asked_for_and_a_program_that_fails_or_hangs_has_none(program, monkeypatch):
    assert here() == []
    program("nvidia-smi", f'[ "$1" = "{ASK[1]}" ] && echo "RTX 5070, 3100, 12227, 46"')
    assert here() == [Card("RTX 5070", 3100.0, 12227.0, 46.0)]
    found = CliRunner().invoke(app, ["stack", "status", "--json"])
    assert json.loads(found.output)["cards"][0]["used_mb"] == 3100.0
    monkeypatch.setattr(gpu_memory, "ASK_S", 0.2)
    program("nvidia-smi", "exec sleep 60")
    assert here() == []
    program("nvidia-smi", 'echo "RTX 5070, 3100, 12227, 46"; exit 9')
    assert here() == []


def test_of_containers_it_is_asked_in_the_one_that_has_them(program, tmp_path):
    (tmp_path / "docker-compose.yml").touch()
    program("docker", f'[ "$*" = "compose exec -T triton {" ".join(ASK)}" ] && echo "RTX 5070, 11500, 12227, 70"')
    (card,) = in_container(docker(tmp_path))
    assert card.words == "RTX 5070 uses 11,500 of 12,227 MB, 70 °C: what is loaded next may find no room"
    program("docker", "echo 'service \"triton\" is not running' >&2; exit 1")
    assert in_container(docker(tmp_path)) == []
