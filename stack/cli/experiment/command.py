"""`ultrathink experiment …`: models compared on the desk's own ticks."""

from __future__ import annotations

import json as json_module
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.experiment.showing import show, show_feed, show_live, show_said
from stack.cli.output import err, out, print_json, stages
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from services.experiments.running import ShadowRun
    from stack.workflows.experiments.shadow import Begun

app = typer.Typer(no_args_is_help=True, help="Compare models on the desk's own ticks, without touching its path.")
FileArgument = Annotated[Path, typer.Argument(help="The experiment, YAML; docs/experiments.md says what is in it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
DEMO_HOME = Path(".ultrathink-experiment")
#: Following, it is looked again so often whether there is an answer.
LOOK_S = 2.0


@app.command(epilog="Example: ultrathink experiment check experiment.yaml")
def check(path: FileArgument, json: JsonOption = False) -> None:
    """Read an experiment whole; what is wrong is told with its line. Exit code 2 when it is refused."""
    from trading.experiments import reading

    found = reading.read(path)
    if json:
        print_json(found)
        return
    arms = ", ".join(f"{arm} ({model})" for arm, model in found.models.items())
    out.print(f"{path}: {found.name}, blocks of {found.block}: {arms}; no error", markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink experiment schema > experiment.schema.json")
def schema() -> None:
    """Print the JSON schema of an experiment's file, for editors."""
    from trading.experiments import definition

    sys.stdout.write(json_module.dumps(definition.json_schema(), indent=2) + "\n")


@app.command(epilog="Example: ultrathink experiment shadow experiment.yaml --since 1d --out shadow.html")
def shadow(
    path: FileArgument,
    since: Annotated[
        str | None, typer.Option(help="Decisions of so long ago and later, as 12h or 2d. Default: all.")
    ] = None,
    follow: Annotated[
        bool, typer.Option(help="Go on with what is decided from now on, until there is an answer or Ctrl-C.")
    ] = False,
    share: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, help="Of the time that calls may take; 0.05 at most while the desk is slow."
        ),
    ] = 0.25,
    page: Annotated[Path | None, typer.Option("--out", help="Write a page with plots there, HTML.")] = None,
    json: JsonOption = False,
) -> None:
    """Have challengers decide what the desk decided, on books of their own, and tell whether they would be better.

    The desk is the stack of this home (`ultrathink --home`), or where ULTRATHINK_GATEWAY_KAFKA_BOOTSTRAP and
    ULTRATHINK_GATEWAY_TRITON_URL say. Its decisions are read and not moved; a challenger that is not served is
    loaded beside what is, as long as this runs. An answer stays valid however often one looks. Exit code 1 when it
    ended early; what was found is no exit code: --json tells it.
    """
    from services.experiments.call_budget import CallLimits
    from stack.processes.settings import gateway_settings
    from stack.workflows.experiments.kept import CountedBlocks
    from stack.workflows.experiments.report import write_page
    from stack.workflows.experiments.shadow import Beginning, begun
    from trading.experiments import reading

    experiment = reading.read(path)
    since_ns = None if since is None else ago(since)
    if page is not None:
        check_page(page, path)
    with begun(experiment, gateway_settings(), CallLimits(share), Beginning(since_ns)) as found:
        run = found.run
        take(found, follow=follow)
        evaluation = run.evaluation()
    if json:
        print_json({"experiment": experiment, "evaluation": evaluation, "ended": run.ended, "decisions": run.rows})
    else:
        show(experiment, evaluation, run.rows, run.ended)
    if page is not None:
        # Last: a full disk must not take what was found.
        write_page(page, experiment, evaluation, CountedBlocks(run.series), run.ended)
        err.print(f"written: {page}", markup=False, soft_wrap=True)
    if run.ended:
        raise typer.Exit(1)


def ago(since: str) -> int:
    """Wall time of so long ago, ns since 1970. Raises ConfigurationError for what is no span."""
    from trading.spans import parse_span

    try:
        return time.time_ns() - parse_span(since)
    except ConfigurationError as error:
        raise ConfigurationError(f"--since {error}") from None


def check_page(page: Path, definition: Path | None) -> None:
    """Before hours of work: whether a page can be written there. Raises ConfigurationError where it cannot."""
    import os

    try:
        folder = next(one for one in page.absolute().parents if one.exists())
        is_same = definition is not None and page.exists() and page.samefile(definition)
    except OSError as error:
        raise ConfigurationError(f"--out {page}: {error.strerror}") from None
    if page.is_dir():
        raise ConfigurationError(f"--out {page} is a folder: name the page's file")
    if is_same:
        raise ConfigurationError(f"--out {page} is the experiment itself: name another file")
    if page.suffix not in {".html", ".htm"}:
        raise ConfigurationError(f"--out {page}: the page is HTML: name a file that ends with .html")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigurationError(f"--out {page}: nothing can be written into {folder}")


def take(found: Begun, *, follow: bool, look_s: float = LOOK_S) -> None:
    """What was decided before this began, and with `follow` what is decided from then on, until there is an answer.

    Ctrl-C ends it with what is known.
    """
    try:
        take_past(found)
        if follow:
            take_more(found.run, look_s)
    except KeyboardInterrupt:
        found.run.ended = "it was ended by hand"


def take_past(found: Begun) -> None:
    """What lay there when this began, with a bar."""
    from stack.cli.train import showing

    with showing("shadow") as progress:
        while not found.run.ended and not found.run.has_reached(found.ends):
            found.run.turn(0.2)
            progress("decisions", min(found.run.rows, found.known), found.known)


def take_more(run: ShadowRun, look_s: float) -> None:
    """What is decided from now on, until there is an answer."""
    looked_s = time.monotonic()
    with err.status("following") as status:
        while not run.ended:
            run.turn(0.5)
            if time.monotonic() - looked_s > look_s:
                began_s = time.monotonic()
                evaluation = run.evaluation()
                status.update(f"{run.rows:,} decisions; " + "; ".join(c.sentence for c in evaluation.challengers))
                if evaluation.is_decided:
                    return
                # Of many blocks a look takes long: most of the time is for what is decided.
                looked_s = time.monotonic()
                look_s = max(look_s, 10.0 * (looked_s - began_s))


@app.command("demo", epilog="Example: ultrathink experiment demo --json")
def demo(
    home: Annotated[
        Path, typer.Option(help="Folder of the demo's own stack; begun anew each time.", envvar="ULTRATHINK_HOME")
    ] = DEMO_HOME,
    feed: Annotated[
        str | None, typer.Option(help="A SOURCE of recorded ticks, on which a share grows too: binance:PATH.gz, …")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers up.")] = False,
    json: JsonOption = False,
) -> None:
    """Train three models of a market whose signal is known, and let two of them challenge the third on a desk.

    Each is given a share of the units. The one that knows the opposite is stopped by its guardrail, and the
    one that knows the signal is found better and promoted. Real servers, in a folder of their own. Exit code 1 when
    what was planted is not found.
    """
    from stack.cli.demo import start_quietly
    from stack.cli.train import showing
    from stack.demo import experiment as work
    from stack.demo.run import demo_stack

    stage = stages()
    with demo_stack(home, keep=keep) as (settings, _):
        stage("start the servers")
        start_quietly(settings)
        with showing("experiment") as progress:
            found = work.run(settings, stage, progress, feed)
    if json:
        print_json(found)
    else:
        for arm, one in found.experiments.items():
            show(one.experiment.definition, one.evaluation, one.decisions)
            show_live(one)
            show_said(one.experiment)
            out.print(f"the page: {found.pages[arm]}\n", markup=False, soft_wrap=True)
        show_feed(found.feed)
        if found.promoted is not None:
            out.print(f"the desk is decided by {found.promoted.served} now", markup=False)
    if not found.as_planted:
        raise typer.Exit(1)
