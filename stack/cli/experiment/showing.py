"""What a person is shown of an experiment: the sentences first, then what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.cli.output import coloured, out, table

if TYPE_CHECKING:
    from services.experiments.evaluation import Evaluation
    from stack.demo.recorded_feed import FeedRamp
    from stack.workflows.experiments.kept import KnownExperiment
    from trading.experiments.definition import ExperimentDefinition
    from trading.experiments.register import Experiment

VERDICT_COLOURS = {"better": "green", "worse": "red", "equal": "cyan"}
#: So far behind is a watcher that keeps up, too: it keeps what it has counted now and then.
MOST_BEHIND_S = 30.0


def show(experiment: ExperimentDefinition, evaluation: Evaluation, decisions: int, ended: str = "") -> None:
    """The sentences first, then what they rest on; `ended` says why it ended early."""
    from stack.workflows.experiments.report import number

    for one in evaluation.challengers:
        out.print(one.sentence[0].upper() + one.sentence[1:], markup=False)
    if ended:
        out.print(f"It ended early: {ended}.", markup=False)
    rows = []
    for one in evaluation.challengers:
        word = "does harm" if one.breached else one.verdict.value
        colour = "red" if one.breached else VERDICT_COLOURS.get(one.verdict.value, "yellow")
        i = one.interval
        left = "unknown" if one.blocks_left is None else f"{one.blocks_left:,}"
        rows.append(
            [one.arm, f"{one.model}/{one.version}", coloured(colour, word), number(i.mean), number(i.lower),
             number(i.upper), left, f"{one.earned_bps:+,.3f}"]
        )  # fmt: skip
    out.print()
    out.print(
        table(
            f"{experiment.name}: {evaluation.blocks:,} blocks of {experiment.block}, {decisions:,} decisions; the "
            f"champion {experiment.champion} earned {evaluation.champion_bps:+,.3f} basis points",
            ["challenger", "model", "verdict", "difference a block, bps", "at least", "at most", "blocks left",
             "earned, bps"],
            rows, right=(3, 4, 5, 6, 7),
        )
    )  # fmt: skip
    show_guarded(evaluation)
    show_regimes(evaluation)


def show_guarded(evaluation: Evaluation) -> None:
    """What guardrails have seen; nothing where there are none."""
    from stack.workflows.experiments.report import number

    guarded = [
        [one.arm, g.metric, number(g.champion), number(g.challenger), f"{g.tolerance:g}",
         coloured("red", f"breached in block {g.breach.blocks:,}") if g.breach
         else "kept" if evaluation.blocks else "nothing seen yet"]
        for one in evaluation.challengers for g in one.guarded
    ]  # fmt: skip
    if guarded:
        out.print()
        columns = ["challenger", "guarded", "champion", "challenger", "allowed above", ""]
        out.print(table("", columns, guarded, right=(2, 3, 4)))


def show_regimes(evaluation: Evaluation) -> None:
    """What became of the blocks by what the market was like; nothing before the first."""
    arms = [one.arm for one in evaluation.challengers]
    rows = [
        [
            one.regime or "none seen",
            f"{one.blocks:,}",
            f"{one.champion_bps:+.4g}",
            *(f"{one.differences[arm]:+.4g}" for arm in arms),
        ]
        for one in evaluation.regimes
    ]
    if rows:
        out.print()
        columns = ["regime", "blocks", "champion, a block", *(f"{arm} beyond it" for arm in arms)]
        out.print(table("", columns, rows, right=tuple(range(1, len(columns)))))


def show_state(one: Experiment) -> None:
    """In a line."""
    share = f", {one.share:.0%} of its units the challengers'" if one.share else ""
    why = f" by {last.by}: {last.reason}" if (last := one.last_stop) is not None else ""
    out.print(f"{one.definition.name}: {one.state}{share}{why}", markup=False, soft_wrap=True)


def show_standing(found: KnownExperiment) -> None:
    """Why it goes on no more, or how far what is counted lies behind."""
    if (last := found.experiment.last_stop) is not None:
        out.print(f"\nIt was stopped by {last.by}: {last.reason}", markup=False, soft_wrap=True)
    elif found.behind_s is None or found.behind_s > MOST_BEHIND_S:
        far = "an unknown time" if found.behind_s is None else f"{found.behind_s:,.0f} s"
        told = f"What is counted lies {far} behind the desk's newest decision"
        out.print(
            f"\n{told}: a shadow yields to a desk that is busy, and `experiment run` must be there to count",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def show_live(found: KnownExperiment) -> None:
    """What a canary's challengers did on the desk."""
    from stack.workflows.experiments.report import number

    rows = [
        [
            one.arm, f"{one.blocks:,}", f"{one.units:,}", f"{one.expected:,.0f}", f"{one.rows:,}",
            f"{one.fallbacks:,}", number(one.interval.mean),
            coloured("red", ", ".join(g.metric for g in one.breached)) if one.breached else "kept",
        ]
        for one in found.live
    ]  # fmt: skip
    columns = [
        "on the desk",
        "blocks",
        "units",
        "promised",
        "ticks",
        "fell to the champion",
        "difference a block, bps",
        "guardrails",
    ]
    if rows:
        out.print()
        out.print(table("", columns, rows, right=(1, 2, 3, 4, 5, 6)))


def show_said(one: Experiment) -> None:
    """Who did what."""
    from stack.cli.dlq import stamp

    rows = [[stamp(s.at_ns), s.act, f"{s.share:.0%}" if s.act == "ramp" else "", s.by, s.reason] for s in one.said]
    out.print()
    out.print(table("", ["at", "what", "share", "by", "reason"], rows, right=(2,), prose=True))


def show_feed(feed: FeedRamp | None) -> None:
    """What became of a share that grew on a recorded feed; nothing where none was given."""
    if feed is None:
        return
    rows = [[share, f"{whole:,}", f"{mine:,}"] for share, (whole, mine) in feed.units.items()]
    title = (
        f"{feed.source}: {feed.decisions:,} decisions; {feed.moved} units were moved, {feed.wrong} ticks are "
        f"another arm's than the log says, {feed.fallbacks:,} fell to the champion"
    )
    out.print(table(title, ["share", "units", "the second model's"], rows, right=(1, 2)))
    if feed.stopped:
        out.print(f"It was stopped: {feed.stopped}", markup=False)
