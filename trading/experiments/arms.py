"""The arms of a batch. Until an experiment runs there is one, and every row is its."""

from __future__ import annotations

from msgspec import Struct


class Arm(Struct, frozen=True):
    """What a row was decided by.

    Attributes:
        variant: the arm's name, as it is counted.
        model_name: what was asked.
        model_version: what answered; "" where nothing did.
    """

    variant: str
    model_name: str
    model_version: str
