"""`ultrathink export release|rollback|history|list|prune|diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from stack.cli.export.command import GpuOption, Places, command, working
from stack.cli.export.publish import show_released
from stack.cli.output import coloured, out, print_json, table

if TYPE_CHECKING:
    from exporters.release.journal import Transaction

NameArgument = Annotated[str, typer.Argument(help="A model of the repository.")]
ReasonOption = Annotated[str, typer.Option(help="Why; `export history` tells it.")]
VariantOption = Annotated[str, typer.Option(help="The model's variant, as `fused`.")]


@command("release", 'release trading_decision 4 --reason "calibrated anew"')
def release(
    places: Places,
    name: NameArgument,
    version: Annotated[int, typer.Argument(help="A published version.")],
    variant: VariantOption = "",
    gpu: GpuOption = "rtx5070",
    reason: ReasonOption = "",
) -> None:
    """Probe a version, make it the one that is served, and keep the one before loaded."""
    from exporters.profiles import find_gpu
    from trading.models.signature import variant_name

    card = find_gpu(gpu)
    with working("release") as progress:
        done = places.releases(card, progress).release(variant_name(name, variant), version, reason=reason)
    print_json(done) if places.json else show_released([done])


@command("rollback", 'rollback trading_decision --to 3 --reason "its signals drift"')
def rollback(
    places: Places,
    name: NameArgument,
    to: Annotated[
        int | None, typer.Option(help="Version; default: the one before, one further back each time.")
    ] = None,
    variant: VariantOption = "",
    gpu: GpuOption = "rtx5070",
    reason: ReasonOption = "",
) -> None:
    """Serve an earlier version again, and only that one."""
    from exporters.profiles import find_gpu
    from trading.models.signature import variant_name

    card = find_gpu(gpu)
    with working("rollback") as progress:
        done = places.releases(card, progress).rollback(variant_name(name, variant), to, reason=reason)
    print_json(done) if places.json else show_released([done])


@command("recover", "recover")
def recover(places: Places, gpu: GpuOption = "rtx5070") -> None:
    """Finish or undo a release whose exporter was killed; every release does this first, too."""
    from exporters.profiles import find_gpu

    card = find_gpu(gpu)
    with working("recover") as progress:
        done = places.releases(card, progress).recover()
    if places.json:
        print_json({
            "settled": [t.begun for t in done.settled],
            "stuck": [{"begun": s.transaction.begun, "reason": s.reason} for s in done.stuck],
        })  # fmt: skip
    else:
        out.print(f"{len(done.settled)} interrupted releases settled; see {places.call('history')}", markup=False)
        for one in done.stuck:
            begun = one.transaction.begun
            out.print(
                f"the {begun.action} of {begun.model} {begun.version} stays open, and nothing else waits for it: "
                f"{one.reason}. Mend that, or release another version of {begun.model}",
                markup=False,
            )
    if done.stuck:
        raise typer.Exit(1)


@command("history", "history trading_decision")
def history(places: Places, name: Annotated[str, typer.Argument(help="Default: every model.")] = "") -> None:
    """What was released and rolled back, by whom, and how it ended."""
    from exporters.release.journal import Journal

    found = Journal(places.models().journal).transactions(name)
    if places.json:
        print_json([{"begun": t.begun, "last": t.last} for t in found])
        return
    rows = [
        [t.begun.time[5:19].replace("T", " "), t.begun.action, t.begun.model, str(t.begun.version),
         "interrupted" if t.open else t.last.step, f"{t.last.seconds:.1f} s", t.begun.user, why(t)[:120]]
        for t in found
    ]  # fmt: skip
    columns = ["UTC", "action", "model", "version", "ended", "took", "by", "why"]
    out.print(table("", columns, rows, right=(3, 5)) if rows else "nothing was released yet")


def why(one: Transaction) -> str:
    """What was given as its reason, and what kept it from its end."""
    return "; ".join(filter(None, (one.begun.given, one.last.reason)))


@command("list", "list regime_detection")
def list_versions(
    places: Places,
    name: Annotated[str, typer.Argument(help="Default: every model.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask Triton.")] = False,
) -> None:
    """Every version: where it comes from, its size, whether it is served."""
    from exporters.errors import ExportError
    from exporters.release.versions import rows as read

    repository = places.models()
    if name and not repository.versions(name):
        raise ExportError(f"{repository.root} has no version of {name!r}")
    index = None if offline else {(m.name, m.version): m.state for m in places.tritons().index()}
    found = read(repository, index, name)
    if places.json:
        print_json(found)
        return
    rows = [
        [r.model, str(r.version), coloured("green", r.state) if r.serving else r.state, r.in_triton,
         f"{r.size / 1024:,.0f}", r.source]
        for r in found
    ]  # fmt: skip
    columns = ["model", "version", "state", "in Triton", "KiB", "source"]
    out.print(table("", columns, rows, right=(1, 4)) if rows else Text(f"{repository.root} holds no version yet"))


@command("prune", "prune regime_detection --keep 3")
def prune(
    places: Places,
    name: NameArgument,
    keep: Annotated[int, typer.Option(min=0, help="Newest versions to keep.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
) -> None:
    """Delete old versions; never one that is served, pinned, loaded, or the way back."""
    from exporters.errors import ExportError
    from exporters.release.versions import prune as work

    repository = places.models()
    if not repository.versions(name):
        raise ExportError(f"{repository.root} has no version of {name!r}")
    done = work(repository, name, keep, dry_run=dry_run)
    if places.json:
        print_json([{"version": v, "bytes": size} for v, size in done])
        return
    verb = "would be deleted" if dry_run else "deleted"
    told = ", ".join(str(v) for v, _ in done) or "none"
    out.print(f"{name}: {verb}: {told} ({sum(s for _, s in done) / 1024:,.0f} KiB)")


@command("diff", "diff regime_detection 3 4")
def diff(
    places: Places,
    name: NameArgument,
    a: Annotated[int, typer.Argument(help="A version.")],
    b: Annotated[int, typer.Argument(help="Another.")],
) -> None:
    """What differs between two versions: lineage, graph, weights, answers."""
    from exporters.parity.decisions import in_words
    from exporters.parity.difference import diff as work

    found = work(places.models(), name, a, b)
    if places.json:
        print_json(found)
        return
    rows = [[c.what, c.a, c.b] for c in found.changed]
    columns = [name, f"version {a}", f"version {b}"]
    out.print(
        table("", columns, rows) if rows else Text(f"{name}: {a} and {b} differ in nothing but number and time")
    )
    out.print(
        f"over {found.rows:,} golden rows: outputs differ by up to {found.max_abs_diff:.2g}, "
        f"{in_words(found.task, found.flip_rate, found.rank_correlation)}"
    )
