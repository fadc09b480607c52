"""The trail as a person looks at it: one record, all of them, alarms."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import IdArgument, JsonOption, KeyOption, app
from stack.cli.output import coloured, err, out, print_json, table
from trading.errors import BadRecord, ConfigurationError
from trading.users import current_user

if TYPE_CHECKING:
    from services.forensics.checkpoint_files import Acceptance, CheckpointFiles
    from services.forensics.checkpoints import Checkpoint
    from services.forensics.verification import Verification
    from trading.keys import Keys


@app.command(epilog="Example: ultrathink forensics show market.ticks-0-4711")
def show(decision_id: IdArgument) -> None:
    """Print a decision's whole evidence as JSON, byte for byte. Exit code 1 when it is not on record."""
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings

    with opened(forensics_settings().reader_url.get_secret_value()) as reader:
        found = reader.find("decisions", "decision_id", decision_id)
        retired = any(reader.last_retired(row.id) is not None for row in reader.logs() if row.kind == "decisions")
    if not found:
        older = "; the oldest decisions are retired, and it may be among them" if retired else ""
        err.print(
            f"{decision_id!r} is not on record{older}: ids are TOPIC-PARTITION-OFFSET of a tick", markup=False
        )
        raise typer.Exit(1)
    sys.stdout.flush()
    sys.stdout.buffer.write((found[0].record.value or b"") + b"\n")


@app.command(epilog="Example: ultrathink forensics verify --since 86400 --until 90000")
def verify(
    since: Annotated[
        str | None, typer.Option(help="A checkpoint that is trusted: its number, or a file with its line.")
    ] = None,
    until: Annotated[int | None, typer.Option(min=0, help="Number of the checkpoint to end at.")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder of checkpoints. Default: the stack's.")] = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Look at every record, tree and checkpoint: are they what was signed? Exit code 1 where they are not."""
    from services.forensics.checkpoint_files import CheckpointFiles
    from services.forensics.store.reading import opened
    from services.forensics.verification import unreadable
    from services.forensics.verification import verify as look
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    settings = forensics_settings()
    keys = trusted(settings, key)
    files = CheckpointFiles(checkpoints or settings.checkpoints)
    begin = None if since is None else find_checkpoint(since, files, keys)
    if begin is not None and until is not None and until <= begin.number:
        raise ConfigurationError(
            f"--until {until} does not follow --since {begin.number}: nothing lies between them"
        )
    if until is not None:
        find_checkpoint(str(until), files, keys)
    try:
        with opened(settings.reader_url.get_secret_value()) as reader, showing("verifying") as progress:
            done, total = 0, reader.count()

            def advance(count: int) -> None:
                nonlocal done
                done += count
                progress("records", done, total)

            found = look(
                reader, files.lines(), keys, since=begin, until=until, advance=advance, keep_days=settings.keep_days
            )
    except BadRecord as error:
        found = unreadable(str(error))
    if json:
        print_json(found)
    else:
        tell(found)
    if found.findings:
        raise typer.Exit(1)


def tell(found: Verification) -> None:
    """A verification on the screen."""
    rows = [
        [verdict.log, f"{verdict.records:,}", f"{verdict.proven:,}"]
        for verdict in sorted(found.logs, key=lambda one: one.log)
    ]
    out.print(table("", ["log", "records", "as signed"], rows, right=(1, 2)))
    if not found.findings:
        unsigned = sum(verdict.records - verdict.proven for verdict in found.logs)
        later = f"; {unsigned:,} newest records are not signed yet" if unsigned else ""
        out.print(
            f"[green]verified[/]: every record{span_of(found)} is as it was signed, by {found.checkpoints:,} "
            f"checkpoints{later}"
        )
        return
    shown = found.findings[:100]
    out.print(
        table(
            f"{len(found.findings):,} findings"
            + (f", the first {len(shown)}" if len(shown) < len(found.findings) else ""),
            ["what", "where", "detail"],
            [[coloured("red", f.kind), f.place, f.detail] for f in shown],
        )
    )
    if found.checkpoints == 0:
        out.print("[yellow]no checkpoints[/]: name their folder with --checkpoints")


def span_of(found: Verification) -> str:
    """What was looked at, where that is not all."""
    told = f" after checkpoint {found.since}, whose records are taken for given," if found.since >= 0 else ""
    return told + (f" up to checkpoint {found.until}" if found.until >= 0 else "")


@app.command(epilog="Example: ultrathink forensics alarms --json")
def alarms(json: JsonOption = False) -> None:
    """What should not have been: records that differ from the trail, logs that were cut.

    Exit code 1 where nobody has looked at one (`ultrathink forensics accept`).
    """
    from services.forensics.checkpoint_files import CheckpointFiles
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings

    settings = forensics_settings()
    with opened(settings.reader_url.get_secret_value()) as reader:
        found = reader.alarms()
    accepted = {one.alarm: one for one in CheckpointFiles(settings.checkpoints).acceptances()}
    if json:
        print_json(
            [
                {
                    "number": number,
                    "at": at.isoformat(),
                    "kind": kind,
                    "detail": detail,
                    "accepted": accepted.get(detail),
                }
                for number, at, kind, detail in found
            ]
        )
    elif found:
        rows = [
            [str(n), at.isoformat(timespec="seconds"), kind, detail, words_of(accepted.get(detail))]
            for n, at, kind, detail in found
        ]
        out.print(table("", ["number", "raised", "kind", "detail", "looked at"], rows, right=(0,), prose=True))
    else:
        out.print("no alarms")
    if any(detail not in accepted for _, _, _, detail in found):
        raise typer.Exit(1)


def words_of(acceptance: Acceptance | None) -> str:
    """By whom, and what was found."""
    return "" if acceptance is None else f"{acceptance.by}: {acceptance.reason}"


@app.command(epilog='Example: ultrathink forensics accept 7 --reason "broker 2 lost its disk, incident 41"')
def accept(
    number: Annotated[int, typer.Argument(min=1, help="Of the alarm, as `ultrathink forensics alarms` lists it.")],
    reason: Annotated[str, typer.Option(help="What you found.")],
) -> None:
    """Say that you have looked at an alarm. Where it kept checkpoints from being signed, they are signed again.

    What was lost stays lost. It is written beside the checkpoints, where the
    database's owner does not reach. A trail that is not the one that was signed cannot be accepted: build it again
    from Kafka, in an empty database.
    """
    from services.forensics.checkpoint_files import Acceptance, CheckpointFiles
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings
    from trading.encoding import safe_text

    if not reason.strip():
        raise ConfigurationError("--reason is empty: say what you found")
    settings = forensics_settings()
    with opened(settings.reader_url.get_secret_value()) as reader:
        details = {n: detail for n, _, _, detail in reader.alarms()}
    if number not in details:
        raise ConfigurationError(f"there is no alarm {number}: `ultrathink forensics alarms` lists them")
    said = Acceptance(details[number], safe_text(current_user()), safe_text(reason), time.time_ns())
    CheckpointFiles(settings.checkpoints).accept(said)
    out.print(f"accepted: {said.alarm}", markup=False)


def find_checkpoint(name: str, files: CheckpointFiles, keys: Keys) -> Checkpoint:
    """By its number in the folder, or in a file of its own. Raises ConfigurationError."""
    from services.forensics.checkpoints import read

    try:
        if not (name.isascii() and name.isdigit()):
            return read(Path(name).read_bytes().strip(), keys)
        for line in files.lines():
            if (found := read(line, keys)).number == int(name):
                return found
    except OSError as error:
        raise ConfigurationError(
            f"{name!r} is neither the number of a checkpoint nor a file with one: {error.strerror}"
        ) from error
    except BadRecord as error:
        raise ConfigurationError(f"{name} is no checkpoint to trust: {error}") from error
    raise ConfigurationError(f"{files.folder} has no checkpoint {name}")
