"""What a row was decided by. Outside of experiments all rows of a batch are of one arm, the champion's."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Fallback(StrEnum):
    """Why a row that is a challenger's was decided by the champion."""

    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    NOT_SERVED = "not_served"
    CHAMPION_CHANGED = "champion_changed"


class Arm(Struct, frozen=True):
    """What a row was decided by.

    Attributes:
        variant: the arm whose model decided, as it is counted.
        model_name: what was asked.
        model_version: what answered; "" where nothing did.
        experiment: whose unit the row is, and from which command on, NAME@OFFSET; "" for none.
        assigned: the arm that its unit was given to; "" outside of experiments.
        fallback: why it was decided by the champion though it is a challenger's; "" where it was not.
    """

    variant: str
    model_name: str
    model_version: str
    experiment: str = ""
    assigned: str = ""
    fallback: str = ""
