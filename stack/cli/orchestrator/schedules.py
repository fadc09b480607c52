"""`ultrathink orchestrator schedule …`: runs by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.orchestrator.command import JsonOption, app, opened
from stack.cli.orchestrator.runs import DataOption, KindOption, SpecOption, wanted
from stack.cli.output import coloured, out, print_json, table
from trading.errors import ConfigurationError
from trading.users import current_user

if TYPE_CHECKING:
    from trainers.orchestrator.schedules import Schedule

schedule = typer.Typer(no_args_is_help=True, help="Runs by the clock, in a time zone: what is due is run once.")
app.add_typer(schedule, name="schedule")
NameArgument = Annotated[str, typer.Argument(help="Of the schedule.")]
AHEAD = timedelta(days=400)


@schedule.command(
    epilog='Example: ultrathink orchestrator schedule put nightly "30 2 * * 1-5" --tz CET --data skfolio:sp500'
)
def put(
    name: NameArgument,
    cron: Annotated[str, typer.Argument(help="Five fields, as cron has them: minute hour day month weekday.")],
    tz: Annotated[str, typer.Option(help="A time zone.")] = "UTC",
    kind: KindOption = "cycle",
    spec: SpecOption = None,
    data: DataOption = None,
    priority: Annotated[int, typer.Option(min=-100, max=100)] = 0,
    missed: Annotated[
        str, typer.Option(help="Of slots that passed while nobody looked: latest, all or none.")
    ] = "latest",
    json: JsonOption = False,
) -> None:
    """Make a schedule known, or change it. Exit code 2 when it is refused: it would never be due, or asks
    nothing.
    """
    import msgspec

    from stack.workflows.orchestrator.asked import check
    from trainers.orchestrator.runs import RunRequest
    from trainers.orchestrator.schedules import Schedule

    told = {
        "name": name, "cron": cron, "tz": tz, "kind": kind, "priority": priority, "missed": missed,
        "spec": wanted(kind, spec, data),
    }  # fmt: skip
    try:
        made = msgspec.convert(told, Schedule)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"it is no schedule: {error}") from None
    made.check(datetime.now(UTC))
    check(RunRequest(kind=made.kind, spec=made.spec, reason="a schedule", by=current_user()))
    with opened() as store:
        store.schedules.put(made, current_user())
    due = [f"{at:%Y-%m-%d %H:%M} UTC" for at in islice(made.slots(datetime.now(UTC), datetime.now(UTC) + AHEAD), 3)]
    if json:
        print_json({"schedule": made, "next": due})
    else:
        out.print(f"{name} is due next at {', '.join(due)}", markup=False, soft_wrap=True)


@schedule.command("list", epilog="Example: ultrathink orchestrator schedule list --json")
def list_all(json: JsonOption = False) -> None:
    """All, and when they are due next."""
    with opened() as store:
        found = store.schedules.listed()
    if json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        [
            one.schedule.name, one.schedule.cron, one.schedule.tz, one.schedule.kind,
            coloured("yellow", "paused") if one.paused else coloured("green", "on"),
            "" if one.paused else next_text(one.schedule, now),
        ]
        for one in found
    ]  # fmt: skip
    if rows:
        out.print(table("", ["schedule", "cron", "time zone", "kind", "", "next (UTC)"], rows))
    else:
        out.print("no schedules: `ultrathink orchestrator schedule put NAME CRON` makes one")


def next_text(one: Schedule, now: datetime) -> str:
    """When it is due next."""
    return next((f"{at:%Y-%m-%d %H:%M}" for at in one.slots(now, now + AHEAD)), "never")


@schedule.command(epilog="Example: ultrathink orchestrator schedule slots nightly")
def slots(
    name: Annotated[str, typer.Argument(help="Of a schedule; default: of all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    json: JsonOption = False,
) -> None:
    """What was due, the newest first: the run that was begun, or why none was."""
    from trainers.orchestrator.store.schedules import unknown

    with opened() as store:
        found = store.history.slots(name, limit)
        if name and not found and name not in {one.schedule.name for one in store.schedules.listed()}:
            raise unknown(name)
    if json:
        print_json(found)
        return
    rows = [
        [one["schedule"], f"{datetime.fromtimestamp(one['at_s'], UTC):%Y-%m-%d %H:%M}", one["run"], one["skipped"]]
        for one in found
    ]
    if rows:
        out.print(table("", ["schedule", "due (UTC)", "run", "skipped, because"], rows))
    else:
        out.print("nothing was due yet")


@schedule.command(epilog="Example: ultrathink orchestrator schedule pause nightly")
def pause(name: NameArgument) -> None:
    """Have a schedule begin nothing."""
    with opened() as store:
        store.schedules.pause(name, current_user(), paused=True)
    out.print(f"{name} begins nothing until `ultrathink orchestrator schedule resume {name}`", markup=False)


@schedule.command(epilog="Example: ultrathink orchestrator schedule resume nightly")
def resume(name: NameArgument) -> None:
    """Have a schedule go on: what passed meanwhile is not made up for."""
    with opened() as store:
        store.schedules.pause(name, current_user(), paused=False)
    out.print(f"{name} goes on", markup=False)


@schedule.command(epilog="Example: ultrathink orchestrator schedule remove nightly")
def remove(name: NameArgument) -> None:
    """Take a schedule away; what it began goes on."""
    with opened() as store:
        store.schedules.remove(name, current_user())
    out.print(f"{name} is gone", markup=False)
