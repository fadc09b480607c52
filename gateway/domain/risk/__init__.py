"""Risk rules, one a file, each a pure function of (intent, limits)."""

from gateway.domain.risk.assess import RULES, assess
from gateway.domain.risk.model import Intent, Limits

__all__ = ["RULES", "Intent", "Limits", "assess"]
