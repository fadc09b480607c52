"""Kinds of settings as people give them: numbers and words, alone or with commas between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode


def as_ports(given: object) -> object:
    """9092, "9092", "9092, 9093" and lists of numbers are all ports of brokers."""
    if isinstance(given, str):
        return [part.strip() for part in given.strip("[] ").split(",")]
    return [given] if isinstance(given, int) else given


def as_words(given: object) -> object:
    """Words with commas and lists of words are the same; "" is none."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    return given


Port = Annotated[int, Field(ge=1, le=65535)]
#: One a broker; in the environment 9092, or 9092,9093,9094.
BrokerPorts = Annotated[tuple[Port, ...], NoDecode, BeforeValidator(as_ports)]
#: Servers that run beside those of every profile, where somebody asks for them.
Beside = Literal["torchserve"]
BesideAll = Annotated[tuple[Beside, ...], NoDecode, BeforeValidator(as_words)]
