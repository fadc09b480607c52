"""What is wrong with a value, in words: what it is, and what could stand there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

#: Of a value that is told, at most.
MOST_TEXT = 60
_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)


def explained(why: str, path: Sequence[str | int], value: Any, kind: type, words: Mapping[str, str]) -> str:
    """A sentence.

    Args:
        why: what msgspec says.
        path: names and places that lead to the value.
        value: that was given.
        kind: a struct, of the whole.
        words: pattern -> what it admits, for texts that must have a form.
    """
    place = ".".join(str(step + 1) if isinstance(step, int) else step for step in path)
    before, wanted = f"{place}: " if place else "", type_at(kind, path)
    if (found := _MISSING.search(why)) is not None:
        return f"{before}{found[1]} is missing"
    if (found := _UNKNOWN.search(why)) is not None:
        known = [field.name for field in wanted.fields] if isinstance(wanted, inspect.StructType) else []
        near = difflib.get_close_matches(found[1], known, 1)
        way = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(known)}"
        return f"{before}{short(found[1])} is no field here: {way}"
    told = expected(wanted, words)
    if told is None:
        return f"{before}{why}"
    hint = "; write 0.05 for 5%" if isinstance(value, str) and value.strip().endswith("%") else ""
    return f"{before}{short(value)}: expected {told}{hint}"


def short(value: Any) -> str:
    """As it was given, cut where it is long."""
    if isinstance(value, float):
        return str(value)
    try:
        text = value if isinstance(value, str) and value.isidentifier() else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        text = type(value).__name__
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"


def type_at(kind: type, path: Sequence[str | int]) -> inspect.Type:
    """What belongs at a path of a struct; the struct's own type where the path leads out of it."""
    found: inspect.Type = inspect.type_info(kind)
    for step in path:
        if isinstance(found, inspect.UnionType):
            found = next((one for one in found.types if not isinstance(one, inspect.NoneType)), found)
        if isinstance(found, inspect.StructType) and isinstance(step, str):
            found = next((field.type for field in found.fields if field.name == step), found)
        elif isinstance(found, inspect.VarTupleType):
            found = found.item_type
        found = found.type if isinstance(found, inspect.Metadata) else found
    return found


def expected(wanted: inspect.Type, words: Mapping[str, str]) -> str | None:
    """What could stand there; None where that has no short name."""
    if isinstance(wanted, inspect.UnionType):
        wanted = next((one for one in wanted.types if not isinstance(one, inspect.NoneType)), wanted)
    if isinstance(wanted, inspect.LiteralType):
        return f"one of {', '.join(map(str, wanted.values))}" if len(wanted.values) > 1 else str(wanted.values[0])
    if isinstance(wanted, inspect.StrType):
        return words.get(wanted.pattern or "", "text")
    if isinstance(wanted, (inspect.IntType, inspect.FloatType)):
        return ("a whole number" if isinstance(wanted, inspect.IntType) else "a number") + bounds(wanted)
    if isinstance(wanted, inspect.StructType):
        names = [field.name for field in wanted.fields if field.required]
        names = names or [field.name for field in wanted.fields]
        return "{" + ", ".join(f"{name}: …" for name in names) + "}"
    if isinstance(wanted, inspect.VarTupleType):
        least = f"{wanted.min_length or 0} to {wanted.max_length}" if wanted.max_length else "some"
        return f"a list of {least}"
    return None


def bounds(wanted: inspect.IntType | inspect.FloatType) -> str:
    """Of a number."""
    told = [
        f"{word} {bound:,}" if isinstance(bound, int) else f"{word} {bound:,g}"
        for word, bound in (
            ("of at least", wanted.ge), ("above", wanted.gt), ("of at most", wanted.le), ("below", wanted.lt),
        )
        if bound is not None
    ]  # fmt: skip
    return "".join(f" {one}" if k == 0 else f" and {one}" for k, one in enumerate(told))
