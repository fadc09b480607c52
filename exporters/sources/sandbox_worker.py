"""The process in which somebody else's artefact is opened: no credentials, and where possible no network.

It is started by `exporters.sources.sandbox`, reads one JSON request a line and answers with one. What it
says is checked by the reader: an artefact that is opened with --trust may run code in here.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from exporters.errors import ExportError, UnsafeArtefact
from exporters.sources.boosters import open_lightgbm, open_xgboost
from exporters.sources.estimators import open_sklearn
from exporters.sources.sandbox_protocol import Opened, Reply, Request
from exporters.sources.torch_modules import open_pytorch

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


OPENERS: dict[str, Callable[[Request], Opened]] = {
    "sklearn": open_sklearn,
    "xgboost": open_xgboost,
    "lightgbm": open_lightgbm,
    "pytorch": open_pytorch,
}


class Server:
    """Answers requests about one model."""

    def __init__(self) -> None:
        self._opened: Opened | None = None
        self._offline = cut_network()

    def answer(self, request: Request) -> Reply:
        """Raises whatever the model's library raises."""
        if request.op == "open":
            opened = OPENERS[request.flavour](request)
            self._opened = opened
            return Reply(
                inputs=opened.inputs,
                outputs=opened.outputs,
                classes=opened.classes,
                columns=opened.columns,
                offline=self._offline,
            )
        assert self._opened is not None  # noqa: S101 (the client opens first)
        if request.op == "known":
            np.savez(request.out, *(self._opened.known() or []))
        elif request.op == "convert":
            self._opened.convert(Path(request.path))
        else:
            with np.load(request.path, allow_pickle=False) as stored:
                arrays = [stored[name] for name in stored.files]
            np.savez(request.out, *self._opened.predict(arrays))
        return Reply()


def cut_network() -> bool:
    """Enter a network namespace without interfaces; False where the kernel does not let us."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def main() -> None:
    """Serve until standard input ends."""
    # Libraries may print: the protocol keeps the real standard output for itself.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    server = Server()
    for line in sys.stdin.buffer:
        try:
            reply = server.answer(msgspec.json.decode(line, type=Request))
        except UnsafeArtefact as error:
            reply = Reply(error=str(error), unsafe=True)
        except ExportError as error:
            reply = Reply(error=str(error))
        except Exception as error:  # noqa: BLE001 (any library, any model: told in a sentence)
            reply = Reply(error=f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
        replies.write(msgspec.json.encode(reply) + b"\n")


if __name__ == "__main__":
    main()
