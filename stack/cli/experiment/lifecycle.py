"""`ultrathink experiment create|start|ramp|stop|promote|list|status|report|run`: experiments of the desk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stack.cli.experiment.command import FileArgument, JsonOption, app
from stack.cli.experiment.showing import show, show_live, show_said, show_standing, show_state
from stack.cli.output import coloured, err, out, print_json, table
from trading.errors import ConfigurationError
from trading.users import current_user

if TYPE_CHECKING:
    from stack.workflows.experiments.kept import CountedBlocks, KnownExperiment
    from trading.experiments.register import Experiment

NameArgument = Annotated[str, typer.Argument(help="Of the experiment.")]
ReasonOption = Annotated[str, typer.Option(help="Recorded with the command.")]
STATE_COLOURS = {"created": "yellow", "running": "green", "stopped": "red"}


@app.command(epilog='Example: ultrathink experiment create experiment.yaml --reason "fresh regimes"')
def create(path: FileArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """Make an experiment known to the desk, whole or not at all: its models are looked at first.

    Exit code 2 when it is refused: an unknown version, another feature version or signature, a block shorter than
    the labels' horizon, another champion than what decides the desk, a name or salt of before.
    """
    from stack.processes.settings import gateway_settings
    from stack.workflows.asking import place_of_experiments
    from stack.workflows.experiments.checking import check_models
    from stack.workflows.experiments.commanding import command
    from stack.workflows.experiments.deciding import doubts, refuse_other_champion, symbols_of
    from trading.experiments import reading
    from trading.experiments.register import ExperimentWord

    definition, settings = reading.read(path), gateway_settings()
    check_models(definition, *place_of_experiments())
    refuse_other_champion(definition, settings)
    word = ExperimentWord("create", definition.name, definition)
    # Looked at before it is known: once it is, nothing may say that it failed.
    found = doubts(definition, symbols_of(settings))
    tell(command(settings, word, reason, current_user()), reason, json=json)
    for doubt in found:
        err.print("[yellow]note[/]: ", end="")
        err.print(doubt, markup=False, soft_wrap=True)


@app.command(epilog='Example: ultrathink experiment start fresh-regimes --reason "looks good offline"')
def start(name: NameArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """Begin its shadow. A canary's challengers have no share of the units before `ramp`, after a stop neither."""
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments.commanding import experiment_of
    from stack.workflows.experiments.deciding import refuse_other_champion

    settings = gateway_settings()
    refuse_other_champion(experiment_of(settings, name).definition, settings)
    give("start", name, reason, json=json)


@app.command(epilog='Example: ultrathink experiment stop fresh-regimes --reason "seen enough"')
def stop(name: NameArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """End it: the champion decides every tick at once."""
    give("stop", name, reason, json=json)


@app.command(epilog='Example: ultrathink experiment ramp fresh-regimes --to 0.25 --reason "5% did no harm"')
def ramp(
    name: NameArgument,
    reason: ReasonOption,
    to: Annotated[float | None, typer.Option(help="Share of the units, as 0.25. Default: the next step.")] = None,
    lead: Annotated[str, typer.Option(help="Event time by which it lies ahead of every partition.")] = "5s",
    json: JsonOption = False,
) -> None:
    """Give a canary's challengers a share of the units, from a block on that lies ahead of every partition's clock.

    A unit that a challenger had it keeps: a larger share takes from the champion alone.
    """
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments import commanding
    from trading.experiments.register import ExperimentWord
    from trading.spans import parse_span

    if to is not None and not 0.0 <= to <= 1.0:
        raise ConfigurationError(f"--to {to:g}: a share is from 0 to 1, as 0.25 for a quarter of the units")
    settings, lead_ns = gateway_settings(), parse_span(lead)
    one = commanding.experiment_of(settings, name)
    share = commanding.next_step(one) if to is None else to
    found = commanding.boundary(one.definition, commanding.clocks(settings), lead_ns)
    block = max(found.block, one.steps[-1].from_block + 1 if one.steps else 0)
    word = ExperimentWord("ramp", name, share=share, from_block=block)
    after = commanding.command(settings, word, reason, current_user())
    late = commanding.late(one.definition, block, commanding.clocks(settings))
    tell(after, reason, json=json)
    if not json:
        begins = commanding.Boundary(block, found.ahead_ns + (block - found.block) * one.definition.block_ns)
        out.print(f"{share:.0%} of its units are the challengers' {commanding.when_text(begins)}", markup=False)
    if late:
        err.print(
            f"[yellow]partitions {', '.join(map(str, late))} have reached that block already[/]: what of it was "
            "decided before is the champion's; a longer --lead keeps that from happening"
        )


@app.command("list", epilog="Example: ultrathink experiment list --json")
def list_all(json: JsonOption = False) -> None:
    """Every experiment of the desk, and how it stands."""
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments.commanding import register_of

    found = list(register_of(gateway_settings()).experiments.values())
    if json:
        print_json(found)
        return
    rows = [
        [
            one.definition.name, one.definition.kind, coloured(STATE_COLOURS[one.state], one.state),
            f"{one.share:.0%}", str(one.definition.champion),
            ", ".join(f"{c.arm} ({c.served})" for c in one.definition.challengers),
        ]
        for one in found
    ]  # fmt: skip
    if rows:
        out.print(table("", ["experiment", "kind", "", "share", "champion", "challengers"], rows, right=(3,)))
    else:
        out.print("no experiments: `ultrathink experiment create FILE` makes one known")


@app.command(epilog="Example: ultrathink experiment status fresh-regimes --json")
def status(name: NameArgument, json: JsonOption = False) -> None:
    """How an experiment stands, and who did what."""
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments.commanding import experiment_of

    one = experiment_of(gateway_settings(), name)
    if json:
        print_json(one)
        return
    show_state(one)
    show_said(one)


def give(act: Literal["start", "stop"], name: str, reason: str, *, json: bool) -> None:
    """Command an experiment, and tell how it stands."""
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments.commanding import command
    from trading.experiments.register import ExperimentWord

    tell(command(gateway_settings(), ExperimentWord(act, name), reason, current_user()), reason, json=json)


def tell(one: Experiment, reason: str, *, json: bool) -> None:
    """How it stands after a command."""
    if json:
        print_json(one)
        return
    show_state(one)
    out.print(f"set by {current_user()} because {reason!r}", markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink experiment run --port 9112")
def run(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of its metrics. Default: the stack's, else 9112.")
    ] = None,
) -> None:
    """Watch the desk's running experiments until SIGTERM or Ctrl-C: shadows, canaries, and their guardrails.

    One for a desk. Where a guardrail shows harm it stops the experiment, and the champion decides everything, until
    a human starts it again. Killed, it goes on from its checkpoints. Settings: ULTRATHINK_EXPERIMENTS_* too.
    """
    from stack.processes.settings import experiments_settings, gateway_settings
    from stack.workflows.experiments.serving import serve

    settings = experiments_settings(metrics_port=port)
    serve(
        settings, gateway_settings(),
        lambda bound: err.print(f"metrics on http://{settings.metrics_host}:{bound}", markup=False, soft_wrap=True),
    )  # fmt: skip


@app.command(epilog="Example: ultrathink experiment report fresh-regimes --out report.html")
def report(
    name: NameArgument,
    page: Annotated[Path | None, typer.Option("--out", help="Write a page with plots there, HTML.")] = None,
    json: JsonOption = False,
) -> None:
    """What an experiment of the desk has come to: the sentences first, then what they rest on, and who did what.

    Reads what `experiment run` keeps (ULTRATHINK_EXPERIMENTS_FOLDER), running or stopped.
    """
    from stack.cli.experiment.command import check_page
    from stack.workflows.experiments.report import write_page

    found, counted = known_of(name)
    definition = found.experiment.definition
    if page is not None:
        check_page(page, None)
    if json:
        print_json(found)
    else:
        show(definition, found.evaluation, found.decisions)
        show_standing(found)
        show_live(found)
        show_said(found.experiment)
    if page is not None:
        write_page(page, definition, found.evaluation, counted, "", found)
        err.print(f"written: {page}", markup=False, soft_wrap=True)


@app.command(epilog='Example: ultrathink experiment promote fresh-regimes --reason "better by 0.3 bps a block"')
def promote(
    name: NameArgument,
    reason: ReasonOption,
    arm: Annotated[str, typer.Option(help="The challenger; needed where there are several.")] = "",
    override: Annotated[
        str, typer.Option(help="Who answers for what speaks against it: his name; it is recorded.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Stop an experiment, and release its challenger through the exporters' gates, with its report in MLflow.

    Only one that is known to be better, and did no harm; too little, or nothing, known of it is no yes. Exit code 2
    when it is refused, and nothing is changed then; where the gates refuse it, the experiment is stopped already.
    """
    from stack.cli.export.command import working
    from stack.processes.settings import gateway_settings
    from stack.workflows.asking import place_of_experiments
    from stack.workflows.experiments import promoting

    desk = gateway_settings(), *place_of_experiments()
    answers = f" ({override} answers for it)" if override else ""
    with working("promote") as progress:
        done = promoting.promote(
            known_of(name), arm, desk, (f"{reason}{answers}", current_user()), progress, override=bool(override)
        )
    if json:
        print_json(done)
        return
    out.print(
        f"{done.arm} of {done.experiment} is the champion: {done.served} is served", markup=False, soft_wrap=True
    )
    if done.overridden:
        out.print(f"{override} answers for it, against: {done.overridden}", markup=False, soft_wrap=True)


def known_of(name: str) -> tuple[KnownExperiment, CountedBlocks]:
    """What is known of an experiment of the desk. Raises ConfigurationError, ServiceUnavailable."""
    from stack.processes.settings import experiments_settings, gateway_settings
    from stack.workflows.experiments.commanding import behind_s, experiment_of
    from stack.workflows.experiments.kept import known

    settings = gateway_settings()
    return known(experiment_of(settings, name), experiments_settings().folder, partial(behind_s, settings))
