"""`ultrathink orchestrator submit|status|cancel|retry|history|explain|logs`: runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.cli.orchestrator.command import JsonOption, ReasonOption, RunArgument, app, opened
from stack.cli.output import Marked, coloured, err, out, print_json, table
from trading.users import current_user

if TYPE_CHECKING:
    from trainers.orchestrator.runs import Run

COLOURS = {
    "ready": "yellow", "running": "cyan", "succeeded": "green", "rejected": "yellow", "failed": "red",
    "cancelled": "yellow",
}  # fmt: skip
SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="YAML or JSON of what is wanted; docs/orchestrator.md says what is in it."),
]
DataOption = Annotated[
    list[str] | None, typer.Option("--data", help="A SOURCE, or a dataset's folder; instead of --spec.")
]


KindOption = Annotated[
    str, typer.Option(help="cycle, training, trial; or check or update, which look at what the desk lived.")
]


def wanted(kind: str, spec: Path | None, data: list[str] | None) -> dict[str, Any]:
    """What a run is told; of what looks at the desk's own archive nothing need be said.

    Raises ConfigurationError.
    """
    from stack.processes.settings import orchestrator_settings
    from stack.workflows.orchestrator.asked import LIVED, read_file, with_archive
    from trading.errors import ConfigurationError
    from trainers.orchestrator.cycle import steps_of

    steps_of(kind)
    if kind == "guard":
        raise ConfigurationError("a guard is begun by each promotion of a run, and not by hand")
    if (spec is not None and data) or (spec is None and not data and kind not in LIVED):
        raise ConfigurationError("say what is wanted: --data SOURCE, or --spec FILE, and not both")
    told = read_file(spec) if spec is not None else {"data": data} if data else {}
    return with_archive(told, kind, orchestrator_settings().archive)


@app.command(
    epilog='Example: ultrathink orchestrator submit --data archive:.ultrathink/archive --reason "a new week"'
)
def submit(
    reason: ReasonOption,
    kind: KindOption = "cycle",
    spec: SpecOption = None,
    data: DataOption = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="The highest begin first.")] = 10,
    times: Annotated[int, typer.Option(min=1, max=1000, help="Submit so many of it: trials of a study.")] = 1,
    key: Annotated[str, typer.Option(help="The same key is submitted once, ever.")] = "",
    json: JsonOption = False,
) -> None:
    """Submit a run: what is wrong with it is told now. Exit code 2 when it is refused."""
    from stack.workflows.orchestrator.asked import check
    from trainers.orchestrator.runs import RunRequest

    told = wanted(kind, spec, data)
    requests = [
        RunRequest(
            kind=kind, spec=told, priority=priority, reason=reason, by=current_user(),
            trigger_key=f"hand/{key}{f'/{k}' if times > 1 else ''}" if key else "",
        )
        for k in range(times)
    ]  # fmt: skip
    check(requests[0])
    with opened() as store:
        made = [store.runs.submit(request) for request in requests]
    if json:
        print_json([run for run, _ in made] if times > 1 else made[0][0])
        return
    for run, is_new in made:
        out.print(run.id if is_new else f"{run.id} was submitted before with this key", markup=False)


@app.command(epilog="Example: ultrathink orchestrator status --json")
def status(
    limit: Annotated[int, typer.Option(min=1, max=500, help="So many of those that have ended.")] = 10,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Runs that have not ended, in the order in which they begin, and the newest that have."""
    with opened() as store:
        while True:
            standing = [*store.runs.listed(500, "running"), *sorted_ready(store.runs.listed(500, "ready"))]
            ended = store.runs.listed(limit, "ended")
            if json:
                print_json({"open": standing, "ended": ended})
            elif standing or ended:
                show(standing, ended)
            else:
                out.print(
                    "no runs: `ultrathink orchestrator submit` submits one, `schedule` has some begin by the clock"
                )
            if not watch:
                return
            time.sleep(2.0)


def sorted_ready(runs: list[Run]) -> list[Run]:
    """As they begin."""
    return sorted(runs, key=lambda run: (-run.request.priority, run.submitted_s))


def show(standing: list[Run], ended: list[Run]) -> None:
    """Two tables in one."""
    rows = [
        [
            run.id, run.request.kind, state(run), run.step, doing(run), str(run.request.priority),
            f"{datetime.fromtimestamp(run.submitted_s, UTC):%m-%d %H:%M:%S}", run.request.trigger,
            run.request.reason,
        ]
        for run in [*standing, *ended]
    ]  # fmt: skip
    columns = ["run", "kind", "", "step", "", "priority", "submitted", "by", "because"]
    out.print(table("", columns, rows, right=(5,)))


def state(run: Run) -> Marked:
    """What it came to, else how it stands."""
    word = str(run.verdict) if run.ended_s is not None else str(run.state)
    return coloured(COLOURS.get(word, "white"), word)


def doing(run: Run) -> str:
    """How far it is, or what it waits for."""
    told = run.progress
    if run.ended_s is None and told:
        total, done = told.get("total", 0), told.get("done", 0)
        return f"{told.get('stage', '')[:60]}{f' {done / total:.0%}' if total else ''}"
    said = run.why or str((run.outputs.get(run.step) or {}).get("summary", ""))
    return f"{said[:57]}..." if len(said) > 60 else said


@app.command(epilog='Example: ultrathink orchestrator cancel 3f2a90c1d4e5 --reason "wrong data"')
def cancel(run: RunArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """Have a run end; what others see of it, as its experiment, is put back first."""
    with opened() as store:
        found = store.runs.cancel(run, reason, current_user())
    if json:
        print_json(found)
    else:
        out.print(f"{run} is being cancelled at {found.step}", markup=False)


@app.command(epilog='Example: ultrathink orchestrator retry 3f2a90c1d4e5 --reason "MLflow is back"')
def retry(run: RunArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """Try the step again at which a run failed, or was cancelled."""
    with opened() as store:
        found = store.runs.retry(run, reason, current_user())
    if json:
        print_json(found)
    else:
        out.print(f"{run} is tried again from {found.step} on", markup=False)


@app.command(epilog="Example: ultrathink orchestrator history --limit 20")
def history(
    run: Annotated[str, typer.Argument(help="Of one run; default: of all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: JsonOption = False,
) -> None:
    """What happened, the newest last: runs, their steps, schedules, what fired and what came of it."""
    with opened() as store:
        if run:
            store.runs.get(run)
        lines = store.history.lines(run, limit)[::-1]
    if json:
        print_json(lines)
        return
    rows = [
        [f"{datetime.fromtimestamp(one.at_s, UTC):%Y-%m-%d %H:%M:%S}", one.run, one.what, one.by, one.detail]
        for one in lines
    ]
    if rows:
        out.print(table("", ["at (UTC)", "run", "what", "by", ""], rows))
    else:
        out.print("nothing has happened yet")


@app.command(epilog="Example: ultrathink orchestrator explain 3f2a90c1d4e5")
def explain(run: RunArgument, json: JsonOption = False) -> None:
    """Why a run stands where it does: what began it, each step and its evidence, and what it waits for."""
    from trainers.orchestrator.explaining import explanation

    with opened() as store:
        found, attempts = store.runs.get(run), store.runs.attempts(run)
    told = explanation(found, attempts)
    if json:
        print_json({"run": found, "attempts": attempts, "explanation": told})
        return
    for sentence in told:
        out.print(sentence, markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink orchestrator logs 3f2a90c1d4e5 --attempt 2")
def logs(
    run: RunArgument,
    attempt: Annotated[int, typer.Option(min=0, help="Its number; default: the newest.")] = 0,
) -> None:
    """What the step of a run has printed."""
    from stack.processes.settings import orchestrator_settings
    from stack.workflows.orchestrator.running import executor_of
    from trading.errors import ConfigurationError

    with opened() as store:
        number = attempt or store.runs.get(run).fence
    if not number:
        raise ConfigurationError(f"no step of {run} has begun yet")
    err.print(f"attempt {number} of {run}", markup=False)
    for line in executor_of(orchestrator_settings()).log(run, number):
        out.print(line, markup=False, soft_wrap=True)
