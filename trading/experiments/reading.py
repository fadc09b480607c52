"""An experiment is read whole from YAML, and checked before anybody hears of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trading.errors import ConfigurationError
from trading.experiments.definition import (
    CHAMPION,
    MODEL,
    NAME,
    SALT,
    STEPS,
    ExperimentDefinition,
)
from trading.experiments.explaining import explained
from trading.market import SYMBOL_PATTERN
from trading.plain_yaml import YamlProblem, compose, key_at, line_of, to_values
from trading.spans import parse_span

#: Of a file.
MOST_BYTES = 1_000_000
#: A shorter block is mostly noise of the last trade; a longer one gives no answer in a lifetime.
SHORTEST_BLOCK_NS, LONGEST_BLOCK_NS = 100_000_000, 7 * 86_400_000_000_000
_UNKNOWN = re.compile(r"unknown field `(\w+)`")
_PLACE = re.compile(r"\.(\w+)|\[(\d+)\]")

#: What a text may be, by its pattern; one without a pattern is a span.
WORDS = {
    "": "a span of time with its unit, as 10m",
    NAME: "small letters, digits, - and _, a letter first, 40 at most",
    MODEL: "letters, digits, - and _, a letter first, 100 at most",
    SYMBOL_PATTERN: "letters, digits, dots, :, /, - and _, 32 at most",
    SALT: "a text of 8 to 64 letters, digits, dots, - and _; in quotes where it looks like a number",
}
#: Makes the error of a place in a file, and a reason.
Refused = Callable[[tuple[str | int, ...], str], ConfigurationError]


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
    if found.kind == "canary":
        check_units(found, refused)
    else:
        refuse_units(found, refused)
    metrics = [one.metric for one in found.guardrails]
    for k, rail in enumerate(found.guardrails):
        if rail.metric in metrics[:k]:
            raise refused(("guardrails", k), f"{rail.metric} is guarded already")
        if rail.metric == "p99_ms" and found.kind == "shadow":
            raise refused(
                ("guardrails", k, "metric"), "p99_ms is of a canary: a shadow's calls are no calls of the path"
            )
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


def check_definition(found: ExperimentDefinition) -> None:
    """Of one that was made here, and stands in no file. Raises ConfigurationError with the place in it."""
    check_whole(found, lambda path, why: ConfigurationError(f"{'.'.join(map(str, path))}: {why}"))


def check_units(found: ExperimentDefinition, refused: Refused) -> None:
    """Of a canary: which units a challenger decides, and that its share grows from step to step."""
    if found.salt is None:
        raise refused(("kind",), "a canary needs a salt: any text that no experiment of this desk has had")
    for k, one in enumerate(found.symbols):
        if one in found.symbols[:k]:
            raise refused(("symbols", k), f"{one} is listed twice")
    for k, share in enumerate(found.steps[1:], 1):
        if share <= found.steps[k - 1]:
            raise refused(("steps", k), f"{share:g} is not above the step before it, {found.steps[k - 1]:g}")


def refuse_units(found: ExperimentDefinition, refused: Refused) -> None:
    """Of a shadow: nobody decides any unit."""
    for name, default in (("salt", None), ("symbols", ()), ("steps", STEPS)):
        if getattr(found, name) != default:
            raise refused((name,), f"{name} is for a canary: in a shadow no challenger decides anything")


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
