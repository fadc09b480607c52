"""Where tests find what lies beside the code."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
#: Recorded market data, where it is there: see `shared/data`.
SHARED = Path(os.environ.get("ULTRATHINK_DATA", ROOT.parent / "shared" / "data"))
