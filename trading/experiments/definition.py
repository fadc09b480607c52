"""What an experiment is: data, read from YAML, checked whole before anybody hears of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trading.encoding import END
from trading.errors import ConfigurationError
from trading.experiments.explaining import explained
from trading.plain_yaml import YamlProblem, compose, key_at, line_of, to_values
from trading.spans import parse_span

#: Names end up in records, metrics' labels and files.
NAME, MODEL = r"^[a-z][a-z0-9_-]{0,39}" + END, r"^[A-Za-z][A-Za-z0-9_-]{0,99}" + END
ExperimentName = Annotated[str, Meta(pattern=NAME)]
ModelName = Annotated[str, Meta(pattern=MODEL)]
ModelVersion = Annotated[int, Meta(ge=1, le=999_999_999)]
BasisPoints = Annotated[float, Meta(ge=0.0, lt=1e4)]
Above0 = Annotated[float, Meta(gt=0.0, lt=1e12)]
From0 = Annotated[float, Meta(ge=0.0, lt=1e12)]
#: Of a file.
MOST_BYTES = 1_000_000
#: What the champion's outcomes are counted under.
CHAMPION = "champion"
#: A shorter block is mostly noise of the last trade; a longer one gives no answer in a lifetime.
SHORTEST_BLOCK_NS, LONGEST_BLOCK_NS = 100_000_000, 7 * 86_400_000_000_000
_UNKNOWN = re.compile(r"unknown field `(\w+)`")
_PLACE = re.compile(r"\.(\w+)|\[(\d+)\]")

#: What a text may be, by its pattern; one without a pattern is a span.
WORDS = {
    "": "a span of time with its unit, as 10m",
    NAME: "small letters, digits, - and _, a letter first, 40 at most",
    MODEL: "letters, digits, - and _, a letter first, 100 at most",
}
#: Makes the error of a place in a file, and a reason.
Refused = Callable[[tuple[str | int, ...], str], ConfigurationError]


class ServedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """A version in Triton.

    Attributes:
        model: its name there.
        version: of it.
    """

    model: ModelName
    version: ModelVersion

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"


class Challenger(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is compared with the champion.

    Attributes:
        arm: what its outcomes are counted under.
        model, version: what is asked.
    """

    arm: ExperimentName
    model: ModelName
    version: ModelVersion

    @property
    def served(self) -> ServedModel:
        """What is asked."""
        return ServedModel(self.model, self.version)


class PrimaryMetric(Struct, frozen=True, forbid_unknown_fields=True):
    """What decides.

    Attributes:
        effect: the smallest difference that matters, in the metric's unit, a block.
        metric: net_bps, what all books together earned in a block after costs, in basis points of their capital.
    """

    effect: Above0
    metric: Literal["net_bps"] = "net_bps"


class GuardedMetric(Struct, frozen=True, forbid_unknown_fields=True):
    """What must not become worse, whatever the primary metric says.

    Attributes:
        metric: denial_rate, of the orders that were wanted those that risk denied; error_rate, of the rows those
            without a usable answer; flip_rate, of the rows with a target those whose target changed its sign;
            turnover, money traded in a block over capital; drawdown, in basis points of the capital below the
            highest so far.
        tolerance: by how much the challenger's mean a block may be above the champion's, in the metric's unit.
        at_once: by how much that of a single block may be; none is too much where it is not given. Of drawdown,
            which has its past in it, tolerance is this too.
    """

    metric: Literal["denial_rate", "error_rate", "flip_rate", "turnover", "drawdown"]
    tolerance: From0
    at_once: Above0 | None = None

    @property
    def one_block(self) -> float:
        """By how much a single block's may be; infinite for any."""
        if self.metric == "drawdown":
            return self.tolerance
        return math.inf if self.at_once is None else self.at_once


class AtLeast(Struct, frozen=True, forbid_unknown_fields=True):
    """Before which there is no verdict.

    Attributes:
        blocks: with outcomes.
        span: of event time, as 2d.
    """

    blocks: Annotated[int, Meta(ge=100, le=10_000_000)] = 100
    span: str = "1h"


class TradingCosts(Struct, frozen=True, forbid_unknown_fields=True):
    """What a virtual trade costs beside the spread that stood, in basis points of its notional.

    Attributes:
        fee_bps: paid to broker and exchange.
        slippage_bps: what the price moves between deciding and filling.
    """

    fee_bps: BasisPoints = 0.5
    slippage_bps: BasisPoints = 0.5


class ExperimentDefinition(Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison.

    Attributes:
        version: of this format.
        name: of the experiment.
        champion: what decides on the desk.
        challengers: one or more.
        primary: what decides.
        kind: shadow: challengers decide beside the desk, on books of their own, and move nothing of it.
        block: event time whose outcomes are one number, as 10m.
        planned_blocks: after which an answer is wanted: intervals are narrowest there.
        alpha: chance that the verdict on any challenger is ever wrong.
        guardrails: what must not become worse.
        at_least: before which there is no verdict.
        costs: of virtual trades.
    """

    version: Literal[1]
    name: ExperimentName
    champion: ServedModel
    challengers: Annotated[tuple[Challenger, ...], Meta(min_length=1, max_length=8)]
    primary: PrimaryMetric
    kind: Literal["shadow"] = "shadow"
    block: str = "10m"
    planned_blocks: Annotated[int, Meta(ge=100, le=10_000_000)] = 1000
    alpha: Annotated[float, Meta(ge=0.0001, le=0.2)] = 0.05
    guardrails: tuple[GuardedMetric, ...] = ()
    at_least: AtLeast = AtLeast()
    costs: TradingCosts = TradingCosts()

    @property
    def block_ns(self) -> int:
        """Event time of a block."""
        return parse_span(self.block)

    @property
    def arms(self) -> tuple[str, ...]:
        """The champion's, and each challenger's in its order."""
        return (CHAMPION, *(one.arm for one in self.challengers))

    @property
    def models(self) -> dict[str, ServedModel]:
        """Arm -> what decides it."""
        return {CHAMPION: self.champion, **{one.arm: one.served for one in self.challengers}}


def read(path: Path) -> ExperimentDefinition:
    """The experiment that a file defines. Raises ConfigurationError with what is wrong, and its line."""
    try:
        if not path.is_file():
            raise ConfigurationError(f"{path} is no file: name an experiment's, YAML")
        if path.stat().st_size > MOST_BYTES:
            raise ConfigurationError(f"{path} is larger than {MOST_BYTES:,} bytes: it is no experiment")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text in UTF-8: save it as such") from None
    return parse(text, str(path))


def parse(text: str, name: str = "experiment") -> ExperimentDefinition:
    """The experiment that a text defines. Raises ConfigurationError with what is wrong, and its line."""
    try:
        root = compose(text)
        values = None if root is None else to_values(root)
    except YamlProblem as error:
        raise ConfigurationError(f"{name}, {error}") from error
    if root is None:
        raise ConfigurationError(f"{name} is empty: docs/experiments.md has an example")

    def refused(path: tuple[str | int, ...], why: str) -> ConfigurationError:
        return ConfigurationError(f"{name}, line {line_of(key_at(root, path))}: {why}")

    try:
        found = msgspec.convert(values, ExperimentDefinition)
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at `$")
        place = tuple(word or int(number) for word, number in _PLACE.findall(where))
        told = explained(why, place, value_at(values, place), ExperimentDefinition, WORDS)
        raise refused((*place, *_UNKNOWN.findall(why)), told) from None
    check_whole(found, refused)
    return found


def check_whole(found: ExperimentDefinition, refused: Refused) -> None:
    """What only the experiment as a whole can be wrong in; `refused` makes the error that is raised."""
    check_challengers(found, refused)
    metrics = [one.metric for one in found.guardrails]
    for k, rail in enumerate(found.guardrails):
        if rail.metric in metrics[:k]:
            raise refused(("guardrails", k), f"{rail.metric} is guarded already")
        if rail.metric.endswith("_rate") and rail.tolerance >= 1.0:
            raise refused(
                ("guardrails", k, "tolerance"), f"{rail.tolerance:g}: a {rail.metric} is a share, and never above 1"
            )
        if rail.at_once is not None and rail.at_once < rail.tolerance:
            raise refused(
                ("guardrails", k, "at_once"),
                f"{rail.at_once:g} of a single block is less than the tolerance of all, {rail.tolerance:g}",
            )
    for path, span in ((("block",), found.block), (("at_least", "span"), found.at_least.span)):
        try:
            parse_span(span)
        except ConfigurationError as error:
            raise refused(path, str(error)) from None
    if not SHORTEST_BLOCK_NS <= found.block_ns <= LONGEST_BLOCK_NS:
        raise refused(("block",), f"a block of {found.block}: expected one of 100ms to 7d")


def check_challengers(found: ExperimentDefinition, refused: Refused) -> None:
    """Each must be another than the champion and than the others, and be counted by itself."""
    seen: dict[str, int] = {}
    for k, one in enumerate(found.challengers):
        if one.arm == CHAMPION:
            raise refused(
                ("challengers", k, "arm"), f"{CHAMPION} is what the desk's own decisions are counted under"
            )
        if one.arm in seen:
            raise refused(("challengers", k, "arm"), f"{one.arm} is an arm already: its outcomes would be mixed")
        if one.served == found.champion:
            raise refused(("challengers", k), f"{one.served} is the champion: it would be compared with itself")
        if str(one.served) in seen:
            raise refused(("challengers", k), f"{one.served} is a challenger already")
        seen |= {one.arm: k, str(one.served): k}


def value_at(values: Any, path: tuple[str | int, ...]) -> Any:
    """What was given at a path; None where it leads nowhere."""
    found = values
    for step in path:
        try:
            found = found[step]
        except (LookupError, TypeError):
            return None
    return found


def json_schema() -> dict[str, Any]:
    """Of an experiment's file."""
    return msgspec.json.schema(ExperimentDefinition)
