"""`ultrathink gateway dlq`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from stack.cli.output import out, print_json, table
from trading.errors import ConfigurationError
from trading.users import current_user

app = typer.Typer(no_args_is_help=True, help="What was no tick: list, show, send again.")

ReasonOption = Annotated[str, typer.Option(help="Only reasons that contain this.")]
Since = Annotated[datetime | None, typer.Option(help="From this time on, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Before this time, UTC.")]


def letter_box() -> Any:
    """The dead letters of the gateway's settings."""
    from gateway.control.letter_box import LetterBox
    from stack.processes.settings import gateway_settings

    settings = gateway_settings()
    return LetterBox(settings.kafka_bootstrap, settings.dead_letters_topic)


def to_ns(time: datetime | None) -> int | None:
    """UTC where no zone is given."""
    if time is None:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e9)


def stamp(time_ns: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


@app.command("list", epilog="Example: ultrathink gateway dlq list --reason NaN --since 2026-11-24T08:00:00")
def list_letters(
    reason: ReasonOption = "",
    since: Since = None,
    until: Until = None,
    each: Annotated[bool, typer.Option(help="Every letter, not one line a reason.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Dead letters by reason and time."""
    from gateway.control.letter_box import summarise

    found = letter_box().read(reason, to_ns(since), to_ns(until))
    if each:
        rows = [[stamp(f.at_ns), f.place, "yes" if f.replayed else "", f.letter.reason[:90]] for f in found]
        shown = table("", ["at", "place", "replayed", "reason"], rows)
        built: Any = found
    else:
        built = summarise(found)
        shown = table(
            "",
            ["letters", "replayed", "first", "last", "the last's place", "reason"],
            [
                [f"{s.count:,}", f"{s.replayed:,}", stamp(s.first_ns), stamp(s.last_ns), s.last_place, s.reason]
                for s in built
            ],
            right=(0, 1),
        )
    if json:
        print_json(built)
    elif built:
        out.print(shown)
    else:
        out.print("no dead letters")


@app.command(epilog="Example: ultrathink gateway dlq show 2-4711")
def show(
    place: Annotated[str, typer.Argument(help="PARTITION-OFFSET of the message among the ticks.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """One dead letter, with the beginning of its payload."""
    found = letter_box().find(place)
    if json:
        print_json(found)
        return
    letter = found.letter
    out.print(
        f"{letter.topic} {found.place}, buried {stamp(found.at_ns)}" + (", replayed" if found.replayed else "")
    )
    out.print(f"reason   {letter.reason}", markup=False)
    out.print(f"key      {letter.key}", markup=False)
    out.print(f"trace    {letter.trace_id}")
    out.print(f"payload  {letter.payload_bytes:,} bytes: {letter.payload[:1000]}", markup=False)


@app.command(epilog="Example: ultrathink gateway dlq replay --reason 'unknown symbol' --dry-run")
def replay(
    place: Annotated[str | None, typer.Argument(help="PARTITION-OFFSET; else all that the options name.")] = None,
    reason: ReasonOption = "",
    since: Since = None,
    until: Until = None,
    again: Annotated[bool, typer.Option(help="Also those that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be sent.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Send the original messages to the ticks once more, for instance after a setting was mended."""
    if place is None and not reason and since is None and until is None:
        raise ConfigurationError(
            "name a PARTITION-OFFSET, or --reason, --since or --until: all at once is no default"
        )
    box = letter_box()
    found = [box.find(place)] if place else box.read(reason, to_ns(since), to_ns(until))
    chosen = [f for f in found if again or not f.replayed]
    done = None if dry_run else box.replay(chosen, current_user())
    result = {
        "chosen": len(chosen),
        "replayed_before": len(found) - len(chosen) if not again else 0,
        "sent": done.sent if done else 0,
        "expired": done.expired if done else [],
    }
    if json:
        print_json(result)
        return
    out.print(
        f"{result['sent']:,} of {len(chosen):,} sent again" if done else f"{len(chosen):,} would be sent again"
    )
    if result["replayed_before"]:
        out.print(f"{result['replayed_before']:,} were replayed before: --again sends them once more")
    if done and done.expired:
        out.print(f"{len(done.expired):,} are no longer in the log: {', '.join(done.expired[:5])}")
