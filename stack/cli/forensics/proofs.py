"""Proofs: written with the trail at hand, checked without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stack.cli.forensics.command import IdArgument, JsonOption, KeyOption, app, write
from stack.cli.output import out, print_json
from trading.errors import BadRecord, ConfigurationError


@app.command(epilog="Example: ultrathink forensics prove market.ticks-0-4711 --out proof.json")
def prove(
    decision_id: IdArgument,
    out_file: Annotated[Path, typer.Option("--out", help="File of the proof.")] = Path("proof.json"),
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Write a proof that a decision was signed: its bytes, the hashes to the root, and one checkpoint."""
    from services.forensics.proving import prove_record, to_file
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    settings = forensics_settings()
    keys = trusted(settings, key)
    with opened(settings.reader_url.get_secret_value()) as reader:
        found = reader.find("decisions", "decision_id", decision_id)
        if not found:
            raise ConfigurationError(f"{decision_id} is not on record: ids are TOPIC-PARTITION-OFFSET of a tick")
        proof = prove_record(reader, found[0], keys)
    write(out_file, to_file(proof))
    if json:
        print_json({"file": str(out_file), "hashes": len(proof.path)})
    else:
        out.print(
            f"{out_file}: {len(proof.path)} hashes and a checkpoint; check it anywhere with "
            f"`ultrathink forensics check-proof {out_file} --key PUBLIC_KEY`",
            markup=False,
        )


@app.command(epilog="Example: ultrathink forensics consistency 10 2000 --out consistency.json")
def consistency(
    earlier: Annotated[int, typer.Argument(min=0, help="Number of a checkpoint.")],
    later: Annotated[int, typer.Argument(min=0, help="Number of a later one.")],
    out_file: Annotated[Path, typer.Option("--out", help="File of the proof.")] = Path("consistency.json"),
    key: KeyOption = None,
) -> None:
    """Write a proof that a checkpoint's trees are the beginnings of a later one's: nothing was changed."""
    from services.forensics.proving import prove_consistency, to_file
    from services.forensics.store.reading import opened
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    settings = forensics_settings()
    with opened(settings.reader_url.get_secret_value()) as reader:
        proof = prove_consistency(reader, earlier, later, trusted(settings, key))
    write(out_file, to_file(proof))
    hashes = sum(len(tree.path) for tree in proof.trees)
    out.print(f"{out_file}: {hashes} hashes and two checkpoints", markup=False)


@app.command(
    "check-proof", epilog="Example: ultrathink forensics check-proof proof.json --key forensics-signing-key.pub"
)
def check_proof(
    file: Annotated[Path, typer.Argument(help="A proof of a decision, or of consistency.")],
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Check a proof with a public key and nothing else: no server is asked. Exit code 1 where it does not hold."""
    from services.forensics.proving import check
    from stack.processes.settings import forensics_settings
    from stack.workflows.trusted_keys import trusted

    keys = trusted(forensics_settings() if not key else None, key)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    try:
        found = check(content, keys)
    except BadRecord as error:
        if json:
            print_json({"holds": False, "why": str(error)})
        else:
            out.print(f"[bold red]it does not hold[/]: {escape(str(error))}")
        raise typer.Exit(1) from None
    if json:
        print_json(
            {"holds": True, "what": found.what, "signed_at_ns": found.signed_at_ns, "checkpoint": found.number}
        )
        return
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(found.signed_at_ns / 1e9, UTC).isoformat(timespec="seconds")
    out.print(
        f"[green]it holds[/]: {escape(found.what)}, by checkpoint {found.number} of {at}, {found.hashes} hashes"
    )
