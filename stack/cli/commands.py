"""The commands, by name: each one's module is imported when it is called, and help is told without it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

#: What help says of each.
COMMANDS = {
    "demo": "Train, export, serve and decide real ticks on real servers, and show the evidence.",
    "chaos": "Break a stack of its own on purpose, and compare with an undisturbed run byte for byte.",
    "drill": "Hurt a desk of its own in every way that has an alert, and bring it back.",
    "stack": "The whole desk on this machine, without Docker.",
    "data": "Datasets for training, and the data service: ticks, features and decisions over HTTP.",
    "train": "Train models from market history and register them in MLflow.",
    "export": "Bring registered models to Triton: verified, released, reversible. Works with any MLflow and any "
    "Triton that runs with --model-control-mode=explicit.",
    "infer": "Ask a served model, and show what it answers.",
    "gpu": "Whether torch and Triton compute on the GPU that is here: by having them do it.",
    "gateway": "Decide ticks, and stop deciding them.",
    "decisions": "What the desk decided: the last, the next, and one with its evidence.",
    "positions": "What the desk holds, by symbol, and what its working orders would add.",
    "orders": "The last orders, oldest first, each with what the broker said of it.",
    "pnl": "Profit and loss by symbol, marked to the latest mid, each in its own currency.",
    "risk": "Limits: try them, explain them, change them, prove them.",
    "experiment": "Compare models on the desk's own ticks, without touching its path.",
    "orchestrator": "Trainings that run by themselves: schedules, triggers, and the cycle from data to a champion.",
    "broker": "A paper broker: accepted orders come back as fills.",
    "kafka": "Topics, users and permissions of a desk, on any cluster.",
    "ticks": "Feed recorded or simulated ticks.",
    "forensics": "The audit trail: everything that was published, byte for byte, in PostgreSQL or TimescaleDB, and "
    "signed.",
    "metrics": "What Prometheus is told of servers, trainings, the machine and a desk's processes.",
    "runbook": "What an alert means, what to look at, what to do, and how to know that it is over.",
    "support-bundle": "State, settings, logs, versions and the last hour's metrics of this stack in one archive, "
    "without secrets.",
    "loadtest": "Load with arrivals fixed beforehand, judged by targets. Exit code: 0 held, 1 missed, 2 proves "
    "nothing.",
}


class Commands(TyperGroup):
    """Stand-ins for help and completion; the command itself where it is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands.update({name: TyperCommand(name, help=told) for name, told in COMMANDS.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called, and what is left of the arguments."""
        name, command, left = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, left


def load(name: str) -> Any:
    """A command, or a group of them."""
    module = import_module(f"stack.cli.{name.replace('-', '_')}")
    if (group := getattr(module, "app", None)) is not None:
        made: Any = typer.main.get_group(group)
        made.name = name
        return with_version(made)
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(module, name.replace("-", "_")))
    return with_version(typer.main.get_command(single))


def with_version(command: Any) -> Any:
    """A command that takes --version too, and so do those below it; help tells of it once, at the top.

    Not one to which that word means another thing: a model's version.
    """
    if not any("--version" in one.opts for one in command.params):
        command.params.append(version_option())
    for below in getattr(command, "commands", {}).values():
        with_version(below)
    return command


def version_option() -> Any:
    """The option, as the library makes it of a function's parameter."""

    def told(
        version: Annotated[
            bool,
            typer.Option("--version", callback=show_version, is_eager=True, expose_value=False, hidden=True),
        ] = False,
    ) -> None:
        """Nothing."""

    single = typer.Typer(add_completion=False)
    single.command()(told)
    made = typer.main.get_command(single).params[0]
    # Of `export release` the version is another thing.
    made.name = "version_of_this"
    return made


def show_version(wanted: bool) -> None:
    """Print it, and end."""
    if wanted:
        sys.stdout.write(f"ultrathink {version('ultrathink-pilot')}\n")
        raise typer.Exit
