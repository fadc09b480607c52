"""JSON of what is published."""

from __future__ import annotations

import msgspec

encode = msgspec.json.Encoder().encode
