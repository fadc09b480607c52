"""How commands talk: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

#: Where nobody looks at a screen, lines are for grep: wide enough not to be broken.
WIDTH = None if sys.stdout is not None and sys.stdout.isatty() else 160

#: What a command's context holds where its process ends with it.
OWN_PROCESS = "own process"

# No pictures either: ":b:" is a part of a path, or of an address.
out = Console(highlight=False, width=WIDTH, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

STATE_COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "backing off": "red",
    "failed": "red",
}


def stages() -> Callable[[str], None]:
    """Says each stage on stderr as it begins, with the seconds since now."""
    began_s = time.monotonic()

    def stage(text: str) -> None:
        err.print(f"[dim]{time.monotonic() - began_s:4.0f} s[/] ", end="")
        err.print(text, markup=False, soft_wrap=True)

    return stage


class Marked(str):
    """Text with rich's markup in it, made here; what comes from elsewhere is shown as it is, brackets and all."""

    __slots__ = ()


def coloured(colour: str, text: str) -> Marked:
    """A cell of a table in a colour."""
    return Marked(f"[{colour}]{escape(text)}[/]")


def print_json(value: Any) -> None:
    """One JSON document on stdout, also for msgspec structs."""
    # msgspec writes null for NaN, which JSON does not have.
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(
    title: str, columns: list[str], rows: list[list[str]], right: tuple[int, ...] = (), *, prose: bool = False
) -> Table:
    """A plain table; `right` are right-aligned columns; with `prose` all but the first are broken into lines."""
    made = Table(box=None, pad_edge=False)
    if title:
        made.title, made.title_justify, made.title_style = Text(title), "left", "bold"
    for k, name in enumerate(columns):
        last = k == len(columns) - 1
        made.add_column(
            name,
            justify="right" if k in right else "left",
            header_style="dim",
            overflow="fold",
            no_wrap=k == 0 if prose else not last,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Marked) else Text(cell) for cell in row))
    return made


def state_text(state: str) -> Marked:
    """A state in its colour."""
    return coloured(STATE_COLOURS.get(state, "white"), state)
