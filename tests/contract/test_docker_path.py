"""README's way with Docker, line by line, against the code's own parsers: no engine is here to run it."""

from __future__ import annotations

import shlex

import pytest
import typer
import yaml

from tests.paths import ROOT
from tests.unit.stack.cli.test_examples import parsed

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
#: Options of `docker compose` and of what comes after it that take a word.
WITH_WORD = {"--profile", "--entrypoint"}


def lines():
    """The commands of the section's blocks, without what is said of them."""
    section = (ROOT / "README.md").read_text().partition("## With Docker and a GPU")[2].partition("\n## ")[0]
    blocks = section.split("```")[1::2]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def words_of(line):
    """Words, without variables that are set before them."""
    words = shlex.split(line, comments=True)
    while words and "=" in words[0].partition("/")[0] and not words[0].startswith("-"):
        words = words[1:]
    return words


def composed(words):
    """Of `docker compose …`: profiles, the subcommand, its options, and what follows them."""
    told: dict[str, list[str]] = {"--profile": [], "--entrypoint": []}
    rest, flags, command = list(words), [], ""
    while rest:
        word = rest.pop(0)
        if word in WITH_WORD:
            told[word].append(rest.pop(0))
        elif word.startswith("-"):
            flags.append(word)
        elif not command:
            command = word
        else:
            return told, command, flags, [word, *rest]
    return told, command, flags, []


def check_compose(words):
    told, command, flags, rest = composed(words)
    assert command in {"up", "run", "exec", "ls", "config"}
    if command == "up":
        assert set(flags) <= {"-d", "--build"}
        assert set(rest) <= set(SERVICES)
        for profile in told["--profile"]:
            assert any(profile in s.get("profiles", []) for s in SERVICES.values()), profile
        return
    service, *given = rest
    assert service in SERVICES
    if command == "exec":
        return
    assert "--rm" in flags
    assert set(flags) <= {"--rm", "--build"}
    entry = told["--entrypoint"] or SERVICES[service].get("entrypoint", [])
    whole = [*entry, *(given or SERVICES[service].get("command", []))]
    assert whole[0] == "ultrathink", whole
    parsed(whole[1:])


def test_the_section_has_what_a_clone_needs_in_its_order():
    told = [" ".join(words_of(line)) for line in lines()]
    wanted = ["sh deploy/docker/make-secrets.sh", "docker compose up -d --build", "ultrathink train all",
              "docker compose run --build --rm release", "operator gateway resume", "--profile ticks up"]  # fmt: skip
    places = [next(k for k, line in enumerate(told) if part in line) for part in wanted]
    assert places == sorted(places)


@pytest.mark.parametrize("line", lines())
def test_a_line_is_a_command_that_exists_with_options_that_it_takes(line):
    words = words_of(line)
    if words[:2] == ["docker", "compose"]:
        check_compose(words[2:])
    elif words[0] == "ultrathink":
        parsed(words[1:])
    else:
        assert words[0] == "sh"
        assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize(
    "line",
    [
        "docker compose run --rm nosuch list",
        "docker compose run --rm export modell x",
        "docker compose run --rm operator gateway resume --raison x",
        "docker compose --profile nosuch up -d",
        "docker compose run export list",
        "docker compose launch",
    ],
)
def test_a_wrong_line_is_found_out(line):
    with pytest.raises((AssertionError, typer._click.exceptions.UsageError)):
        check_compose(words_of(line)[2:])
