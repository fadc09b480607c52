"""The example that each command's help gives: that it is one, and what it prints where it needs no desk."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stack.cli.commands import COMMANDS, load
from stack.cli.export.command import Places
from stack.cli.main import app
from tests.unit.stack.cli.examples import EXIT_CODES, RUN, prepare

BEGINS = "Example: ultrathink "


def commands(command, path):
    """All that a person can call, with its words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from commands(one, (*path, name))


ALL = {path: command for name in COMMANDS for path, command in commands(load(name), (name,))}


def example_of(command):
    """The words of a help's example, without what a shell does with the answer."""
    text = command.epilog or next((line.strip() for line in command.help.splitlines() if BEGINS in line), "")
    assert text.startswith(BEGINS), f"{command.name} has no example"
    words = shlex.split(text.removeprefix(BEGINS))
    return words[: words.index(">")] if ">" in words else words


def parsed(words):
    """The context of a command that is called so, and of all above it; nothing is run."""
    root = typer.main.get_command(app)
    context = root.make_context("ultrathink", list(words))
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, left = context.command.resolve_command(context, rest)
        context = command.make_context(name, left, parent=context)
    return context


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_an_example_is_a_call_of_its_own_command(path):
    context = parsed(example_of(ALL[path]))
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, context.info_name)
        context = context.parent
    assert tuple(words) == path


#: To which the word means a model's version.
OF_A_MODEL = {("train", "promote"), ("loadtest", "triton"), ("loadtest", "torchserve")}


def test_where_version_means_a_models_it_still_does():
    for path in OF_A_MODEL:
        (own,) = [one for one in ALL[path].params if "--version" in one.opts]
        assert not own.is_flag


@pytest.mark.parametrize("path", sorted(set(ALL) - OF_A_MODEL), ids=" ".join)
def test_every_command_tells_the_version(path):
    done = CliRunner().invoke(app, [*path, "--version"])
    assert (done.exit_code, done.output.split()[0]) == (0, "ultrathink")


def test_what_a_mistyped_example_would_be_told():
    with pytest.raises(typer._click.exceptions.UsageError):
        parsed(["risk", "limits", "show", "--symbl", "X"])


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_an_example_that_needs_no_desk_does_what_it_says(path, tmp_path, monkeypatch):
    """As it stands, in a folder that holds the files which it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "home"))
    prepare(tmp_path)
    done = CliRunner().invoke(app, example_of(ALL[path]))
    assert done.exit_code == EXIT_CODES.get(path, 0), done.output
    assert RUN[path] in done.output


def test_a_hint_carries_the_places_that_were_given():
    places = Places("http://user:secret@mlflow", "127.0.0.1:9001", Path("my models"), json=False)
    told = "`ultrathink export release m 3 --repository 'my models' --triton-url 127.0.0.1:9001`"
    assert places.call("release m 3") == told
    assert Places(None, None, None, json=False).call("list") == "`ultrathink export list`"
