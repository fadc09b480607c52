"""`ultrathink forensics rebind`: a log whose topics were made anew is bound to what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.forensics.command import JsonOption, app
from stack.cli.output import out, print_json, table
from trading.users import current_user

if TYPE_CHECKING:
    from trading.state.rebinding import Rebinding


@app.command(epilog='Example: ultrathink forensics rebind --dry-run --reason "Kafka rebuilt from its disks"')
def rebind(
    reason: Annotated[str, typer.Option(help="Why the topics were made anew.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and bind nothing.")] = False,
    believe_unsigned: Annotated[
        bool, typer.Option("--believe-unsigned", help="Measure by records too that no checkpoint has signed yet.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Bind topics that were made anew to what was decided of the old ones; a gateway refuses them until then.

    The new topics must hold what the old ones did, at the same offsets, as copied log files or a mirror that
    keeps offsets do. The trail is verified, every decision, order, fill, dead letter and command is compared with
    it, byte for byte, and every decision is made again of the ticks that are there. What was found is signed with
    the trail's key, and published to the control topic: it is on record, and gateways believe it whose
    ULTRATHINK_GATEWAY_REBINDING_KEYS name the public key (the embedded stack's do). Exit code 2 where anything
    differs, with the place: nothing is bound then.
    """
    from stack.cli.train import showing
    from stack.processes.settings import forensics_settings, gateway_settings
    from stack.workflows.rebinding import rebind as bind

    with showing("comparing") as progress:
        made = bind(
            forensics_settings(), gateway_settings(), reason, current_user(), progress, try_only=dry_run,
            believe_unsigned=believe_unsigned,
        )  # fmt: skip
    if json:
        print_json({"bound": not dry_run, "rebinding": made})
    else:
        tell(made, bound=not dry_run)


def tell(made: Rebinding, *, bound: bool) -> None:
    """What was compared, and what follows."""
    rows = [[f"{one.topic}[{one.partition}]", f"{one.records:,}", f"{one.end:,}"] for one in made.logs]
    if rows:
        out.print(table("", ["made anew", "records, the same", "to offset"], rows, right=(1, 2)))
    out.print(f"{made.replayed:,} decisions made again of the ticks that are there: all the same, byte for byte")
    if bound:
        out.print(f"[green]bound[/]: {made.now}", soft_wrap=True)
        out.print(f"continues {made.was}: start the gateways", markup=False, soft_wrap=True)
    else:
        out.print("nothing was bound: without --dry-run it is")
