"""The trail as a person looks at it: one record, all of them, alarms."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import IdArgument, JsonOption, KeyOption, app
from stack.cli.output import coloured, err, out, print_json, table
from trading.errors import BadRecord, ConfigurationError

if TYPE_CHECKING:
    from services.forensics.checkpoint_files import CheckpointFiles
    from services.forensics.checkpoints import Checkpoint
    from services.forensics.keys import Keys
    from services.forensics.verification import Verification


@app.command(epilog="Example: ultrathink forensics show market.ticks-0-4711")
def show(decision_id: IdArgument) -> None:
    """Print a decision's whole evidence as JSON, byte for byte. Exit code 1 when it is not on record."""
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings

    with opened(forensics_settings().reader_url.get_secret_value()) as reader:
        found = reader.find("decisions", "decision_id", decision_id)
    if not found:
        err.print(f"{decision_id} is not on record", markup=False)
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
    from services.forensics.verification import verify as look
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    settings = forensics_settings()
    keys = trusted(settings, key)
    files = CheckpointFiles(checkpoints or settings.checkpoints)
    begin = None if since is None else find_checkpoint(since, files, keys)
    with opened(settings.reader_url.get_secret_value()) as reader, showing("verifying") as progress:
        done, total = 0, reader.count()

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("records", done, total)

        found = look(
            reader, files.lines(), keys, since=begin, until=until, advance=advance, keep_days=settings.keep_days
        )
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
            f"[green]verified[/]: every record is as it was signed, by {found.checkpoints:,} checkpoints{later}"
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


@app.command(epilog="Example: ultrathink forensics alarms --json")
def alarms(json: JsonOption = False) -> None:
    """What should not have been: records that differ from the trail, logs that were cut.

    Exit code 1 where nobody has looked at one (`ultrathink forensics accept`).
    """
    from services.forensics.ports import ACCEPTED
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings

    with opened(forensics_settings().reader_url.get_secret_value()) as reader:
        found = reader.alarms()
    if json:
        print_json(
            [
                {"number": number, "at": at.isoformat(), "kind": kind, "detail": detail}
                for number, at, kind, detail in found
            ]
        )
    elif found:
        rows = [[str(n), at.isoformat(timespec="seconds"), kind, detail] for n, at, kind, detail in found]
        out.print(table("", ["number", "raised", "kind", "detail"], rows, right=(0,)))
    else:
        out.print("no alarms")
    looked_at = {detail for _, _, kind, detail in found if kind == ACCEPTED}
    if any(detail not in looked_at for _, _, _, detail in found):
        raise typer.Exit(1)


@app.command(epilog='Example: ultrathink forensics accept 7 --reason "broker 2 lost its disk, incident 41"')
def accept(
    number: Annotated[int, typer.Argument(min=1, help="Of the alarm, as `ultrathink forensics alarms` lists it.")],
    reason: Annotated[str, typer.Option(help="What you found.")],
) -> None:
    """Say that you have looked at an alarm. Where it kept checkpoints from being signed, they are signed again.

    What was lost stays lost, and `verify` goes on saying so; who accepted it and why is on record. A trail that is
    not the one that was signed cannot be accepted: build it again from Kafka, in an empty database.
    """
    from services.forensics.store.writer import accept as put_on_record
    from stack.processes.settings import forensics_settings

    if not reason.strip():
        raise ConfigurationError("--reason is empty: say what you found")
    url = forensics_settings().postgres_url.get_secret_value()
    detail = put_on_record(url, number, reason, getpass.getuser())
    out.print(f"accepted: {detail}", markup=False)


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
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from error
    except BadRecord as error:
        raise ConfigurationError(f"{name} is no checkpoint to trust: {error}") from error
    raise ConfigurationError(f"{files.folder} has no checkpoint {name}")
