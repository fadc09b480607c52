"""How full each GPU is, by NVIDIA's own program: on this machine, or in the container that has them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence

from msgspec import Struct

from stack.supervision.memory import NEAR
from trading.errors import ServiceUnavailable

ASK = (
    "nvidia-smi", "--query-gpu=name,memory.used,memory.total,temperature.gpu", "--format=csv,noheader,nounits",
)  # fmt: skip
ASK_S = 10.0


class Card(Struct, frozen=True):
    """A GPU: memory in MiB, degrees Celsius; None is what the driver does not tell."""

    name: str
    used_mb: float
    total_mb: float
    celsius: float | None

    @property
    def words(self) -> str:
        """For people; near its ceiling it says so, before something finds no room."""
        warm = "" if self.celsius is None else f", {self.celsius:.0f} °C"
        near = ": what is loaded next may find no room" if self.used_mb >= NEAR * self.total_mb else ""
        return f"{self.name} uses {self.used_mb:,.0f} of {self.total_mb:,.0f} MB{warm}{near}"


def read(text: str) -> list[Card]:
    """What it printed: a card a line. A line that tells no memory, as of a virtual card, is left out."""
    found = []
    for line in text.splitlines():
        # A name may have a comma in it.
        parts = [part.strip() for part in line.rsplit(",", maxsplit=3)]
        numbers = [number(part) for part in parts[1:]]
        if len(parts) == len(ASK[1].split(",")) and numbers[0] is not None and numbers[1]:
            found.append(Card(parts[0], numbers[0], numbers[1], numbers[2]))
    return found


def number(text: str) -> float | None:
    """None for "[N/A]"."""
    try:
        return float(text)
    except ValueError:
        return None


def here() -> list[Card]:
    """Of this machine; none where NVIDIA's program is not installed, or does not answer."""
    program = shutil.which(ASK[0])
    if program is None:
        return []
    try:
        asked = subprocess.Popen([program, *ASK[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return []
    try:
        text, _ = asked.communicate(timeout=ASK_S)
    except subprocess.TimeoutExpired:
        asked.kill()
        # One that hangs in the driver cannot be killed: it is not waited for.
        asked.returncode = -9
        if asked.stdout is not None:
            asked.stdout.close()
        return []
    return read(text) if asked.returncode == 0 else []


def in_container(ask: Callable[[Sequence[str]], str]) -> list[Card]:
    """Of the container that serves models; none where it does not run, or has no GPU."""
    try:
        return read(ask(["compose", "exec", "-T", "triton", *ASK]))
    except ServiceUnavailable:
        return []
