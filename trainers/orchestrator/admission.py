"""Which step may begin: memory, GPU memory and places are promised before anything starts, and never twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

MB = 2**20
#: No machine has more: 16 TB.
MOST_MB = 2**24


class Need(Struct, frozen=True, forbid_unknown_fields=True):
    """What a step takes.

    Attributes:
        memory_mb, gpu_mb: of the machine, and of its GPU.
        yields: whether it stands still where the desk is slow.
        most_s: after so long it is ended: it hangs.
    """

    memory_mb: Annotated[int, Meta(ge=1, le=MOST_MB)]
    gpu_mb: Annotated[int, Meta(ge=0, le=MOST_MB)] = 0
    yields: bool = False
    most_s: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 86_400


class Pool(Struct, frozen=True):
    """A machine, or a part of a cluster, whose memory steps share.

    Attributes:
        name: of it; all who start steps there name it alike.
        memory_mb, gpu_mb: that steps may take, all together.
        places: steps at once.
        label: of it, for people; "" for its name.
    """

    name: str
    memory_mb: int
    gpu_mb: int
    places: int
    label: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        return self.label or self.name


class Taken(Struct, frozen=True):
    """What steps that began have been promised of a pool."""

    memory_mb: int = 0
    gpu_mb: int = 0
    places: int = 0


#: Who looks on and waits has no place of its own, and no turn: it would keep others from theirs for days.
SMALL_MB = 400
#: What a step of each kind takes where nothing else is known of it. Those that look on and wait are small; those
#: that load torch, ONNX Runtime and a model are not.
WATCHES, EXPORTS, TRAINS = Need(300, most_s=60 * 86_400), Need(1_800, most_s=7_200), Need(3_000, yields=True)
NEEDS: Mapping[str, Need] = {
    "collect": Need(600),
    "build": Need(2_000, yields=True),
    "train": TRAINS,
    "trial": TRAINS,
    "ripen": Need(2_000, yields=True),
    "update": TRAINS,
    "assess": Need(2_000, yields=True),
    "watch": Need(SMALL_MB, most_s=60 * 86_400),
    "gates": Need(900),
    "export": EXPORTS,
    "verify": EXPORTS,
    "release": EXPORTS,
    "shadow": WATCHES,
    "canary": WATCHES,
    "promote": EXPORTS,
    "reject": Need(SMALL_MB),
}


def refusal(need: Need, pool: Pool, taken: Taken, free_mb: int | None) -> str:
    """Why a step cannot begin in a pool now; "" where it can.

    Args:
        need: of the step.
        pool: where.
        taken: by those that run there.
        free_mb: what the machine itself has left; None where nobody can tell.
    """
    left, left_gpu = pool.memory_mb - taken.memory_mb, pool.gpu_mb - taken.gpu_mb
    needs, needs_gpu = f"it needs {need.memory_mb:,} MB", f"it needs {need.gpu_mb:,} MB of GPU memory"
    # One alone may always try: what the machine has left may never be more.
    is_short = free_mb is not None and need.memory_mb > free_mb and taken.places > 0
    full = taken.places >= pool.places and need.memory_mb > SMALL_MB
    reasons = (
        (
            need.memory_mb > pool.memory_mb,
            f"{needs}, and {pool.shown} gives {pool.memory_mb:,} MB to all steps together",
        ),
        (need.gpu_mb > pool.gpu_mb, f"{needs_gpu}, and {pool.shown} gives {pool.gpu_mb:,} MB"),
        (full, f"{taken.places} steps run on {pool.shown}, which is the most at once"),
        (need.memory_mb > left, f"{needs}, and {left:,} of {pool.memory_mb:,} MB of {pool.shown} are free"),
        (need.gpu_mb > left_gpu, f"{needs_gpu}, and {left_gpu:,} MB of {pool.shown} are free"),
        (is_short, f"{needs}, and the machine has {free_mb or 0:,} MB left"),
    )
    return next((why for holds, why in reasons if holds), "")


def is_impossible(need: Need, pool: Pool) -> bool:
    """Whether a step can never begin in a pool, however long it waits."""
    return need.memory_mb > pool.memory_mb or need.gpu_mb > pool.gpu_mb
