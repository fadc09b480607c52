"""`python -m tests.conformance` writes docs/support.md."""

from __future__ import annotations

from tests.conformance import page
from tests.paths import ROOT

(ROOT / "docs/support.md").write_text(page.text())
