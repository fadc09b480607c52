"""Pages of the runbook: one an alert, in the package or beside it."""

from __future__ import annotations

import difflib
from pathlib import Path

from stack.watching.alerts import ALERTS
from trading.errors import ConfigurationError

#: In a wheel the pages lie beside this file; in a checkout where people read them.
FOLDERS = (Path(__file__).with_name("pages"), Path(__file__).resolve().parents[2] / "docs" / "runbook")


def page(name: str) -> str:
    """The page of an alert, as Markdown. Raises ConfigurationError where there is none of that name."""
    known = {one.name.lower(): one.name for one in ALERTS}
    if (found := known.get(name.lower())) is None:
        near = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"; did you mean {', '.join(known[one] for one in near)}?" if near else ""
        raise ConfigurationError(f"there is no alert {name!r}{hint}; `ultrathink runbook` lists them")
    for folder in FOLDERS:
        if (path := folder / f"{found}.md").is_file():
            return path.read_text()
    raise ConfigurationError(f"the page of {found} is not installed: it is docs/runbook/{found}.md of the project")
