"""`ultrathink demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.cli.output import err, out, print_json, table

if TYPE_CHECKING:
    from stack.demo.result import DemoResult
    from stack.demo.run import Run
    from stack.servers.settings import StackSettings
    from stack.workflows.answers import AnswersReport
    from stack.workflows.trail import TrailReport
    from trading.decision.schema import Decision
    from trading.history import Source

DEMO_HOME = Path(".ultrathink-demo")


def demo(
    data: Annotated[str, typer.Option(help="A SOURCE.")] = "skfolio:sp500",
    speed: Annotated[
        str | None, typer.Option(help="real, Nx, N/s or max; default: 4x, or 2000/s for daily data.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many ticks only.")] = None,
    home: Annotated[
        Path, typer.Option(help="Folder of the demo's own stack; begun anew each time.", envvar="ULTRATHINK_HOME")
    ] = DEMO_HOME,
    year: Annotated[int | None, typer.Option(help="Plot a symbol over this year alone.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Another demo: a simulated market turns, and the desk learns it by itself."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Train, export, serve and decide real ticks on real servers, and show the evidence.

    With --loop the desk is left to itself: drift is found, an update learned, compared, promoted, and taken back
    when the market turns back (8 minutes).

    Example: ultrathink demo --data binance:BTCUSDT.gz --speed real
    """
    if loop:
        from stack.cli.demo_loop import loop as closed

        closed(home, keep=keep, json=json)
        return
    from loadtest.open_loop.schedule import Speed
    from stack.demo import run as work

    started = time.monotonic()
    source = work.open_demo_source(data, limit, year)
    chosen = speed or work.choose_speed(source)
    Speed.parse(chosen)
    with work.demo_stack(home, keep=keep) as (settings, moved):
        if moved:
            err.print("[yellow]a default port is taken: this stack uses free ports instead[/]")
        result, shown = run_stages(settings, source, chosen, limit, started, year, json=json)
        if json:
            print_json(result)
        else:
            show_result(result, shown)
    if keep:
        say_kept(settings, f"ultrathink --home {home}", data, json=json)
    differ = result.trail.findings or result.trail.different or result.answers.same < result.answers.asked
    if result.missing or result.repeated or differ:
        raise typer.Exit(1)


def say_kept(settings: StackSettings, told: str, data: str, *, json: bool) -> None:
    """What can be done with a stack that is left up."""
    say = err.print if json else out.print
    say(
        f"the stack is up; try `{told} stack status`, `{told} forensics run` and `{told} gateway run`, then "
        f"`{told} ticks publish {data}`;"
    )
    say(f"MLflow: {settings.mlflow_uri}; stop it with `{told} stack down`")


def run_stages(
    settings: StackSettings,
    source: Source,
    speed: str,
    limit: int | None,
    started: float,
    year: int | None,
    *,
    json: bool,
) -> tuple[DemoResult, Decision]:
    """Every stage as it happens; returns the result and the decision to show."""
    from stack.cli.stack import start
    from stack.demo import result as made
    from stack.demo.report import write_report
    from stack.processes.data import running_data
    from stack.processes.forensics import running_forensics
    from stack.workflows import export_workflow
    from stack.workflows.training.settings import TrainRequest
    from stack.workflows.training.train import train

    say = err.print if json else out.print

    def stage(number: int, text: str) -> None:
        say(f"[bold]{number}/7[/] {text} [dim]({time.monotonic() - started:.0f} s)[/]")

    stage(1, "start the servers")
    start_quietly(settings) if json else start(settings)
    stage(2, f"train on {source.spec}")
    with err.status("train") as status:
        request = TrainRequest((source.spec,), limit=limit)
        trained = train(request, lambda stage, done, _: status.update(f"train: {stage} {done:,}"))
    stage(3, "export, publish and load the models")
    with err.status("export") as status:
        exported = export_workflow.export(status.update, fuse=True)
    stage(4, f"start the gateway and publish {source.spec} at {speed}, after a warm-up")
    report = settings.absolute_home / "report" / "report.html"
    with running_forensics(settings), running_data(settings) as data:
        run = publish(settings, source, speed, limit)
        shown = made.evidence_of(run.decisions)
        stage(5, "verify what is on record, make every decision again, and ask the data service about them")
        trail = examined(settings, run, shown, report.parent)
        proven = made.Proven(trail, asked(settings, data.address, run, shown, report.parent))
    stage(6, "write the report")
    seconds, home = round(time.monotonic() - started, 1), settings.absolute_home
    result = made.result_of(run, trained, exported, proven, home, report, source.spec, speed, seconds)
    write_report(report, result, run, shown, year)
    made.save_result(report.with_suffix(".json"), result)
    stage(7, "done")
    return result, shown


def examined(settings: StackSettings, run: Run, shown: Decision, folder: Path) -> TrailReport:
    """Stage 5; the proof goes into the report's folder."""
    from stack.processes.forensics import settings_with_key
    from stack.supervision.ownership import claim
    from stack.workflows.trail import examine

    claim(settings.absolute_home, [folder.name], alone=False)
    with err.status("verify") as status:
        return examine(settings_with_key(), shown.decision_id, len(run.decisions), folder, status.update)


def asked(settings: StackSettings, address: str, run: Run, shown: Decision, folder: Path) -> AnswersReport:
    """Stage 5, over HTTP as anybody asks."""
    from services.data.client import DataClient
    from stack.processes.settings import DATA_TOKEN
    from stack.workflows.answers import compare

    with DataClient(address, settings.secret(DATA_TOKEN)) as client, err.status("ask") as status:
        return compare(client, run.decisions, shown, folder, status.update)


def publish(settings: StackSettings, source: Source, speed: str, limit: int | None) -> Run:
    """Stage 4, with what has been sent and seen."""
    from stack.demo.run import decide_all

    with err.status("publish") as status:
        return decide_all(
            settings, source, speed, limit,
            lambda at: status.update(f"{at.sent:,} ticks sent, {at.seen:,} decisions seen"),
        )  # fmt: skip


def start_quietly(settings: StackSettings) -> None:
    """Bring the stack up without a word on stdout."""
    from stack.supervision.lifecycle import up

    with err.status("start the servers"):
        up(settings, lambda _: None)


def show_result(result: DemoResult, shown: Decision) -> None:
    """One screen."""
    from stack.demo.report import evidence, kept

    latency = result.latency_ms
    out.print()
    out.print(
        f"[bold]{result.ticks:,}[/] ticks at {result.ticks_per_second:,.0f}/s, "
        f"[bold]{result.decisions:,}[/] decisions, "
        f"[bold]{result.missing}[/] missing, [bold]{result.repeated}[/] repeated"
    )
    out.print(
        f"latency after {result.warm_up_s:.0f} s of warm-up, intended send to visible: "
        + ", ".join(f"{k.replace('_', '.')} [bold]{v:.1f} ms[/]" for k, v in latency.items())
        + f"; [bold]{result.late:.2%}[/] late or superseded"
    )
    if not result.is_kept:
        out.print(f"[yellow]this machine does not keep {result.speed}: {kept(result.kept_per_s)}[/]")
    for title, counts in (
        ("actions", result.actions),
        ("holds by reason", result.holds_by_reason),
        ("denials by rule", result.denials_by_rule),
        ("clips by rule", result.clips_by_rule),
    ):
        out.print(f"{title}: " + (", ".join(f"{k} {v:,}" for k, v in sorted(counts.items())) or "none"))
    out.print(f"paper broker: {result.fills:,} fills, fees {result.fees:,.0f}")
    out.print(
        "least headroom (below 0 an order was denied or made smaller): "
        + (
            ", ".join(
                f"{rule} {round(share, 2) + 0.0:.0%}" for rule, share in list(result.headroom_by_rule.items())[:8]
            )
            or "none"
        )
    )
    rows = [
        [m.name, str(m.version), m.format, f"{m.parity_max_abs_diff:.1e}", m.run_id[:32]] for m in result.models
    ]
    out.print(table("\nmodels", ["name", "version", "format", "parity as served", "run"], rows, right=(1, 3)))
    out.print(table("\none decision and its evidence", ["", ""], [list(pair) for pair in evidence(shown)]))
    show_trail(result.trail)
    show_answers(result.answers)
    out.print(f"\ntraining, out of sample: {result.training.verdict}")
    out.print(f"report: {result.report}", soft_wrap=True)


def show_answers(answers: AnswersReport) -> None:
    """What the data service said, in a sentence."""
    same = answers.same == answers.asked
    told = "[green]all the same, byte for byte[/]" if same else f"[red]{answers.asked - answers.same:,} differ[/]"
    out.print(
        f"data service: {answers.ticks:,} ticks read; features asked for as of {answers.asked:,} decisions: "
        f"{told}; an answer in {answers.p50_ms:.1f} ms (p50), {answers.p99_ms:.1f} ms (p99)",
        soft_wrap=True,
    )


def show_trail(trail: TrailReport) -> None:
    """What is on record, in a sentence."""
    out.print(
        f"\non record: {trail.records:,} records, "
        + (f"[red]{trail.findings:,} not as signed[/]" if trail.findings else "[green]all as signed[/]")
        + f" by {trail.checkpoints:,} checkpoints; {trail.replayed:,} decisions made again, "
        + (f"[red]{trail.different:,} differ[/]" if trail.different else "[green]all the same, byte for byte[/]")
        + f" ({trail.seconds:.0f} s); proof of the one above: {trail.proof}, {trail.hashes} hashes",
        soft_wrap=True,
    )
