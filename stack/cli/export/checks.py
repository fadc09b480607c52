"""`ultrathink export doctor|tune|configs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.export.command import FactsOption, GpuOption, Places, TargetOption, command, working
from stack.cli.output import coloured, out, print_json, table

if TYPE_CHECKING:
    from exporters.repository.repository import ModelRepository

COLOURS = {"fits": "green", "cannot tell": "yellow", "does not fit": "red"}


@command("doctor", "doctor --target 25.03-py3 --gpu rtx5070")
def doctor(
    places: Places,
    target: TargetOption = "",
    facts: FactsOption = None,
    gpu: GpuOption = "rtx5070",
    prove: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Also run this model's file under the container's own runtime (installs it)."
        ),
    ] = "",
) -> None:
    """Whether builds, released models, GPU memory and machine fit. Exit code: 0 fits, 1 does not, 3 cannot tell."""
    from exporters.profiles import find, find_gpu
    from exporters.target import doctor as work
    from exporters.target.findings import EXIT_CODES
    from exporters.target.findings import verdict as verdict_of
    from stack.supervision.machine import examine

    container, card = find(target, facts), find_gpu(gpu)
    with working("look") as progress:
        findings = work.examine(container, card, places.models()) + examine()
        if prove:
            from exporters.target.container_proof import prove as proven

            findings += proven(prove, None, places.models(), container, progress)
    verdict = verdict_of(findings)
    if places.json:
        print_json({"verdict": verdict, "findings": findings})
    else:
        rows = [[coloured(COLOURS[f.verdict], f.verdict), f.check, f.seen] for f in findings]
        out.print(table(f"Triton {container.name} on a {card.title}", ["verdict", "check", "seen"], rows))
        for found in findings:
            if found.way_out:
                out.print(f"  {found.check}: {found.way_out}", markup=False)
        out.print(f"verdict: [bold {COLOURS[verdict]}]{verdict}[/]")
    raise typer.Exit(EXIT_CODES[verdict])


@command("tune", "tune regime_detection --seconds 2 --apply")
def tune(
    places: Places,
    name: Annotated[str, typer.Argument(help="A model of the repository.")],
    version: Annotated[int | None, typer.Argument(help="Default: the released one.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="A load and setting.")] = 1.0,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the recommended setting into its configuration.")
    ] = False,
) -> None:
    """Try instances and dynamic batching on copies of the model, and print what each gives."""
    from exporters.performance.tune import tune as work

    repository, triton = places.models(), places.triton()
    with working("tune") as progress:
        found = work(name, version, repository, triton, seconds, progress)
        if apply:
            apply_setting(places, found.model, found.recommended.instances, found.recommended.queue_delay_us)
    if places.json:
        print_json(found)
        return
    best = found.recommended.label
    rows = [
        [coloured("green", s.label) if s.label == best else s.label]
        + [f"{m.p50_ms:.2f} / {m.p99_ms:.2f} ms, {m.rows_per_s:,.0f}/s" for m in s.measured]
        for s in found.settings
    ]
    loads = [f"{m.clients} x {m.batch} rows: p50 / p99" for m in found.settings[0].measured]
    out.print(table(f"{name} {found.version}", ["setting", *loads], rows))
    out.print(f"{'applied' if apply else 'recommended'} for the gateway's load (first column): {best}")


def apply_setting(places: Places, name: str, instances: int, delay_us: int | None) -> None:
    """Write it, and let Triton load it where the model is released."""
    from msgspec.structs import replace

    repository = places.models()
    check_settled(places, repository, name)
    with repository.lock(name):
        serving = replace(repository.serving(name), instances=instances, queue_delay_us=delay_us)
        newest = serving.released or repository.versions(name)[-1]
        repository.configure(repository.lineage(name, newest).contract, serving)
        if serving.versions:
            places.triton().load(name)


def check_settled(places: Places, repository: ModelRepository, name: str) -> None:
    """Raise ExportError while a release of the model is open: what is changed now would keep it so."""
    from exporters.errors import ExportError
    from exporters.release.journal import Journal

    journal = Journal(repository.journal)
    if any(t.open for t in journal.transactions(name)):
        raise ExportError(f"a release of {name} was interrupted: {places.call('recover')} first")


@command("configs", "configs --check")
def configs(
    places: Places,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when a file is stale.")] = False,
) -> None:
    """Write every config.pbtxt of the gateway's contract; what is released or tuned stays."""
    from exporters.repository.repository import ModelRepository
    from trading.errors import ConfigurationError
    from trading.models.signature import MODELS, contract, variant_name

    repository = ModelRepository(places.repository) if places.repository else places.models()
    if check and not repository.root.is_dir():
        raise ConfigurationError(f"there is no model repository at {repository.root}: name it with --repository")
    names = (*MODELS, variant_name("trading_decision", "fused"))
    stale = repository.stale_configs(names)
    if not check:
        for name in names if stale else ():
            repository.configure(contract(name), repository.serving(name), refresh=True)
    if places.json:
        print_json([str(p) for p in stale])
    else:
        for path in stale:
            out.print(f"{'stale' if check else 'written'}: {path}", markup=False)
    if check and stale:
        raise typer.Exit(1)
