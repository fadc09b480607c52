"""YAML as a person writes it: read safely, and told with the line where something is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml
from msgspec import Struct

from trading.errors import ConfigurationError

EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]{1,3}")
#: Of a value that is told, at most.
MOST_TEXT = 60
#: What any file of ours is nested, and more.
MOST_DEPTH = 20


class Problem(Struct, frozen=True, order=True):
    """What is wrong, and in which line (from 1)."""

    line: int
    message: str


class YamlProblem(ConfigurationError):
    """A text is refused for one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"line {problem.line}: {problem.message}")


def compose(text: str) -> Any:
    """The root node of a text; None of an empty one.

    Raises:
        YamlProblem: it is no YAML, is nested too deeply, or holds an alias: a few of them, each of the one before,
            would make a text of gigabytes.
    """
    depth = 0
    try:
        # What is escaped may be half of a character, which nothing can write down again.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= one <= "\udfff" for one in event.value):
                raise YamlProblem(Problem(line_of(event), "a text holds half of a character (a lone surrogate)"))
            if isinstance(event, yaml.AliasEvent):
                raise YamlProblem(Problem(line_of(event), "aliases (*) are not taken: write it out"))
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            # What is nested further takes time that grows with its square, and at last Python's stack.
            if depth > MOST_DEPTH:
                raise YamlProblem(Problem(line_of(event), "nested too deeply"))
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        told = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlProblem(Problem(mark.line + 1 if mark else 1, f"no YAML: {told}")) from error


def line_of(node: Any) -> int:
    """Where a node or an event begins, from 1."""
    return int(node.start_mark.line) + 1


def to_values(node: Any) -> Any:
    """What a node says: mappings, lists, texts, numbers.

    Raises:
        YamlProblem: a name comes twice in a mapping, or is no text, or a value cannot be read.
    """
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlProblem(Problem(line_of(key), "a name must be text"))
            if key.value in found:
                raise YamlProblem(Problem(line_of(key), f"{key.value} is given twice"))
            found[key.value] = to_values(value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [to_values(one) for one in node.value]
    if node.style is None and EXPONENT.fullmatch(node.value):
        # A number to everybody but YAML 1.1, which wants a point and a sign.
        return float(node.value)
    try:
        return yaml.SafeLoader("").construct_object(node)
    # A tag that says what a value is not: SafeLoader has an error of its own for each.
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, LookupError, TypeError) as error:
        told = node.value if len(node.value) <= MOST_TEXT else node.value[:MOST_TEXT] + "…"
        why = "it has too many digits" if "digits" in str(error) else str(error).splitlines()[0]
        raise YamlProblem(Problem(line_of(node), f"{told!r} cannot be read: {why}")) from error


def key_at(root: Any, path: Sequence[str | int]) -> Any:
    """The node of the name, or the item of a list, that a path leads to; the last one on it that there is."""
    told = node = root
    for step in path:
        if isinstance(step, int):
            items = node.value[step : step + 1] if isinstance(node, yaml.SequenceNode) else []
            pairs = [(one, one) for one in items]
        else:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            pairs = [(key, value) for key, value in pairs if key.value == step]
        if not pairs:
            return told
        told, node = pairs[0]
    return told
