"""Whether what the desk sees, or what its models earn of it, is no longer what it was.

Two kinds are told apart. Drift: features lie elsewhere (population stability index, Siddiqi 2006, Credit Risk
Scorecards), or the regimes' probabilities no longer mean what they say. Decay: signals foretell less, or targets
earn less. Single values are watched by river's ADWIN (Bifet and Gavalda 2007) and Page-Hinkley (Page 1954), a value
a block of rows: rows of a market follow from one another, and tests that take them for independent fire on nothing.

Everything is measured in what the reference shows of itself: how far its own windows lie from the rest of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from scipy.optimize import brentq

from trading.arrays import BoolArray, Float32Array, FloatArray
from trading.errors import ConfigurationError
from trading.features.definitions import FEATURES
from trainers.online.bounds import LEAST_BLOCKS, DriftSettings
from trainers.online.worth import MEASURES, Observed, blocks_of

BINS = 10
MOST_DEVIATIONS = 3.0
#: The first autocorrelation of blocks that say little about one another.
MOST_FOLLOWING = 0.3
DRIFT, DECAY = "drift", "decay"
#: Measure -> its kind, and the direction that is bad.
WATCHED = {
    "calibration_error": (DRIFT, "up"), "information_coefficient": (DECAY, "down"), "net_utility": (DECAY, "down"),
}  # fmt: skip


class TooLittle(ConfigurationError):
    """Too few rows to say whether anything has changed: not even that nothing has."""


class Alarm(Struct, frozen=True):
    """Something has changed.

    Attributes:
        kind: drift or decay.
        what: the feature or the measure.
        detector: psi, adwin or page_hinkley.
        rows: after the end of the reference, when it is known.
        before, now: the value in the reference, and lately; of psi the bound and the index.
    """

    kind: str
    what: str
    detector: str
    rows: int
    before: float
    now: float

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.detector == "psi":
            index = f"its stability index is {self.now:.2f}, above {self.before:.2f}"
            return f"{self.what} lies elsewhere than it did: {index}"
        return f"{self.what} was {self.before:.4g} and is {self.now:.4g} ({self.detector})"


def watch(reference: Observed, seen: Observed, settings: DriftSettings) -> list[Alarm]:
    """All alarms, in the order of blocks; the first of each feature and measure.

    Args:
        reference: rows that the models had not seen when they were trained, while they were good.
        seen: what came after them.
        settings: of the detectors.

    Raises:
        TooLittle: there are too few rows to say anything.
        ConfigurationError: something of them is no number.
    """
    size = block_size(reference, settings)
    if len(seen) < settings.confirmed * size:
        raise TooLittle(
            f"{len(seen):,} ripe rows came after the reference, and {settings.confirmed * size:,} are needed to "
            f"say whether anything has changed, in blocks of {size:,}"
        )
    for what, rows in (("the reference", reference), ("what came after it", seen)):
        rows.check_finite(what)
    found = [
        *features_alarms(reference.features, seen.features, size, settings),
        *measures_alarms(reference.measures(size), seen.measures(size), size, settings),
    ]
    return sorted(found, key=lambda one: (one.rows, one.kind, one.what))


def block_size(reference: Observed, settings: DriftSettings) -> int:
    """The fewest rows a block, doubled from `block_rows` on, of which one says little about the next.

    Raises:
        TooLittle: the reference is too short to say what is usual.
    """
    size, most = settings.block_rows, len(reference) // LEAST_BLOCKS
    if size > most:
        raise TooLittle(
            f"the reference has {len(reference):,} rows, and at least {LEAST_BLOCKS * size:,} are needed to say "
            "what is usual: make its span longer, or blocks smaller"
        )
    while 2 * size <= most and max(follows(column) for column in reference.measures(size).T) > MOST_FOLLOWING:
        size *= 2
    return size


# ---- features ---------------------------------------------------------------------------------------------------


def features_alarms(reference: Float32Array, seen: Float32Array, size: int, settings: DriftSettings) -> list[Alarm]:
    """Features that lie elsewhere for `confirmed` blocks of `size` rows in a row."""
    bound = Stability(reference, size, settings)
    streak = np.zeros(len(FEATURES), np.int64)
    found: dict[int, Alarm] = {}
    for k, part in enumerate(blocks_of(len(seen), size), 1):
        index = bound.index(seen[part])
        beyond: BoolArray = index > bound.most
        streak = np.where(beyond, streak + 1, 0)
        for column in np.flatnonzero(streak >= settings.confirmed).tolist():
            alarm = Alarm(DRIFT, FEATURES[column], "psi", k * size, float(bound.most[column]), float(index[column]))
            found.setdefault(column, alarm)
    return list(found.values())


class Stability:
    """The population stability index of each feature against a reference, and how large it is by chance.

    Attributes:
        most: float64 [32], above which an index means something; infinite for a feature that is not watched.
    """

    def __init__(self, reference: Float32Array, size: int, settings: DriftSettings) -> None:
        """`size` rows a block."""
        quantiles = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
        self._edges = np.quantile(reference.astype(np.float64), quantiles, axis=0).T
        counts = np.stack([self._counts(reference[part]) for part in blocks_of(len(reference), size)])
        whole = counts.sum(axis=0)
        self._share = smoothed(whole)
        # Each block against the others: what it would have shown, had it come after them.
        own = np.stack([psi(smoothed(one), smoothed(whole - one)) for one in counts]).max(axis=0)
        bound = np.maximum(settings.least_psi, settings.psi_factor * own)
        self.most: FloatArray = np.where(own > settings.most_psi, np.inf, bound)

    def index(self, features: Float32Array) -> FloatArray:
        """Of a block's features [n, 32], float64 [32]."""
        return psi(smoothed(self._counts(features)), self._share)

    def _counts(self, features: Float32Array) -> FloatArray:
        """float64 [32, BINS]."""
        found = np.empty((len(FEATURES), BINS))
        for k in range(len(FEATURES)):
            bins = np.searchsorted(self._edges[k], features[:, k].astype(np.float64), "right")
            found[k] = np.bincount(bins, minlength=BINS)
        return found


def smoothed(counts: FloatArray) -> FloatArray:
    """Shares of counts [..., BINS], as if each bin had been seen half a time more: none is impossible."""
    found: FloatArray = (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
    return found


def psi(now: FloatArray, before: FloatArray) -> FloatArray:
    """The index of shares [..., BINS] against others: the sum of (p - q) ln(p / q)."""
    found: FloatArray = ((now - before) * np.log(now / before)).sum(axis=-1)
    return found


# ---- measures ---------------------------------------------------------------------------------------------------


def measures_alarms(reference: FloatArray, seen: FloatArray, size: int, settings: DriftSettings) -> list[Alarm]:
    """Measures that have got worse: float64 [blocks, 3], of `size` rows a block."""
    found = []
    bound = threshold(settings.slack, settings.rows_between_false / size)
    for k, name in enumerate(MEASURES):
        alarm = first_alarm(name, reference[:, k], seen[:, k], bound, settings)
        if alarm is not None:
            found.append(replace(alarm, rows=alarm.rows * size))
    return found


def threshold(slack: float, blocks: float) -> float:
    """Of a one-sided cumulative sum of standard normal values less `slack`, which on nothing fires after so many
    in the mean: (exp(2 k b) - 2 k b - 1) / (2 k^2) of them, b = threshold + 1.166 (Siegmund 1985, Sequential
    Analysis).
    """

    def missing(bound: float) -> float:
        x = 2.0 * slack * (bound + 1.166)
        return (math.exp(x) - x - 1.0) / (2.0 * slack**2) - blocks

    return float(brentq(missing, 0.0, 350.0 / slack)) if missing(0.0) < 0.0 else 0.0


def first_alarm(
    name: str, reference: FloatArray, seen: FloatArray, bound: float, settings: DriftSettings
) -> Alarm | None:
    """The first of one measure, its `rows` counted in blocks, by either detector; only where it got worse, which
    is what is watched.
    """
    # river takes seconds to load: who only reads alarms does without.
    from river.drift import ADWIN, PageHinkley

    kind, bad = WATCHED[name]
    before, deviation = float(reference.mean()), block_deviation(reference)
    adwin = ADWIN(delta=settings.adwin_delta, clock=1, grace_period=LEAST_BLOCKS)
    hinkley = PageHinkley(min_instances=LEAST_BLOCKS, delta=settings.slack, threshold=bound, alpha=1.0, mode=bad)
    for k, value in enumerate(np.concatenate([reference, seen]).tolist()):
        scaled = (value - before) / deviation
        # ADWIN's bound is for values in [0, 1]: six deviations on either side.
        adwin.update(min(1.0, max(0.0, 0.5 + scaled / 12.0)))
        # One block is one block, however extreme: it takes several to be a change.
        hinkley.update(max(-MOST_DEVIATIONS, min(MOST_DEVIATIONS, scaled)))
        at = k + 1 - len(reference)
        if at <= 0:
            continue
        now = recent(seen[:at])
        worse = now > before if bad == "up" else now < before
        for detector, detected in (("adwin", adwin.drift_detected), ("page_hinkley", hinkley.drift_detected)):
            if detected and worse:
                return Alarm(kind, name, detector, at, before, now)
    return None


def recent(values: FloatArray, count: int = 5) -> float:
    """The mean of the newest."""
    return float(values[-count:].mean())


def block_deviation(values: FloatArray) -> float:
    """The deviation of a block's value, larger where blocks follow from one another: sqrt((1 + r) / (1 - r)) times,
    with r their first autocorrelation, where that is positive.
    """
    r = min(0.9, max(0.0, follows(values)))
    return max(1e-12, float(values.std()) * math.sqrt((1.0 + r) / (1.0 - r)))


def follows(values: FloatArray) -> float:
    """The first autocorrelation of values; 0 of a constant."""
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred[1:] * centred[:-1]).mean()) / variance if variance > 0.0 else 0.0


def kinds_of(alarms: Sequence[Alarm]) -> list[str]:
    """The kinds among alarms, drift first."""
    return [kind for kind in (DRIFT, DECAY) if any(one.kind == kind for one in alarms)]
