"""The part of docs/models.md that says whether updating pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainers.costs import Costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stack.workflows.training.report import Market
    from trainers.data.dataset import Dataset
    from trainers.online.evidence import Evidence


def examined(market: Market, data: Dataset, progress: Callable[[str, int, int], None]) -> Evidence:
    """A market's nights, traded by each way."""
    from trainers.online.bounds import UpdateSettings
    from trainers.online.evidence import over_nights
    from trainers.training.fold import FoldSettings

    costs = Costs(market.fee_bps, market.slippage_bps, market.half_spread_bps)
    return over_nights(
        data, UpdateSettings(costs=costs), FoldSettings(costs=costs),
        lambda stage, done, total: progress(f"{market.slug}: {stage}", done, total),
    )  # fmt: skip


def section(found: list[tuple[Market, Evidence]]) -> list[str]:
    """Markdown; its first line is the answer."""
    from trainers.online.evidence import LOOKED_BACK, NIGHTS, TAUGHT

    paying = [market.title for market, one in found if one.pays]
    pays = len(paying) > len(found) / 2
    answer = (
        f"Updating pays on {', '.join(paying)}." if pays else
        "Updating does not pay on recorded markets, so it is off unless a desk asks for it"
        + (f"; it did on {', '.join(paying)} alone." if paying else ".")
    )  # fmt: skip
    lines = [
        "## Online learning: does updating pay?", "", answer, "",
        f"Each source is cut into {TAUGHT + NIGHTS} equal blocks; a block is its night (of the one-minute bars, 20 hours). The",
        f"first {TAUGHT} teach the champion. Then each night is traded by the champion as it was (*frozen*), by one that is updated",
        f"from the last {LOOKED_BACK} nights before each (*updated*; a step that is none forward on the newest ripe rows is not",
        "taken), and by one that is trained anew on all nights before (*retrained*). *Nothing* earns 0. Figures are sums of net",
        "returns on a fixed capital, through the gateway's own order and risk code, costs counted; *t* is that of the mean",
        "difference a night.", "",
        "| source | nights | frozen | updated | retrained | updated less frozen, t | retrained less frozen, t | updates taken |"
        " not taken |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --- |",
        *(row(market, one) for market, one in found), "",
    ]  # fmt: skip
    return [*lines, *(f"![net returns by way](models/{market.slug}_online.png)" for market, _ in found), ""]


def row(market: Market, one: Evidence) -> str:
    """Of one source."""
    asked = len(one.nights) - 1
    told = "; ".join(f"{n} {why}" for why, n in not_taken(one).most_common(3)) or "–"
    cells = [f"{one.total(way):+.2%}" for way in ("frozen", "updated", "retrained")]
    cells += [f"{one.against(way, 'frozen')[1]:+.2f}" for way in ("updated", "retrained")]
    return f"| {market.title} | {len(one.nights)} | {' | '.join(cells)} | {one.accepted} of {asked} | {told} |"


def not_taken(one: Evidence) -> Counter[str]:
    """Why updates were not taken."""
    from trainers.online.evidence import STEP_FORWARD

    return Counter(night.decided for night in one.nights[1:] if night.decided != STEP_FORWARD)


def picture(market: Market, one: Evidence) -> Figure:
    """Sums of net returns, by way."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(8.0, 3.2), layout="constrained")
    styles: dict[str, Any] = {
        "frozen": {"color": "#4c72b0"}, "updated": {"color": "#c44e52"}, "retrained": {"color": "#55a868"},
    }  # fmt: skip
    nights = np.arange(len(one.nights) + 1)
    for way, style in styles.items():
        earned = np.concatenate([[0.0], np.cumsum([night.net[way] for night in one.nights])])
        axes.plot(nights, earned * 1e4, label=way, **style)
    axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":", label="nothing")
    axes.set(title=market.title, xlabel="nights", ylabel="net, bp of the capital")
    axes.legend(frameon=False)
    return figure
