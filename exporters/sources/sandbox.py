"""A model that is opened in a process of its own, without our environment's secrets."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from exporters.errors import ExportError, UnsafeArtefact
from exporters.formats.tensors import Arrays
from exporters.sources.sandbox_protocol import Reply, Request

TIMEOUT_S = 300.0
PR_SET_DUMPABLE = 4
#: All that the worker's environment holds.
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")


class IsolatedModel:
    """Talks to `exporters.sources.sandbox_worker`; close it, or use it as a context."""

    def __init__(self, folder: Path) -> None:
        """Start the process.

        Args:
            folder: the worker's home and place for what travels; private to us.
        """
        self._folder, self._name, self._count = folder, "", 0
        self._errors = (folder / "worker.log").open("wb")
        # Others of our user could read our environment in /proc; the worker is one of them.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "exporters.sources.sandbox_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
            env={
                **{k: os.environ[k] for k in KEPT if k in os.environ},
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "OMP_NUM_THREADS": "1",
            },
            start_new_session=True,
        )

    def open(self, request: Request) -> Reply:
        """Open an artefact, in place of the one before.

        Raises:
            UnsafeArtefact: opening it could run somebody's code, and it is not trusted.
            ExportError: it cannot be opened; says why.
        """
        self._name = Path(request.artefact).name
        return self._ask(request)

    def keep(self, arrays: Arrays | None) -> str:
        """Where the process finds some arrays; "" for none."""
        if arrays is None:
            return ""
        path = self._folder / "example.npz"
        np.savez(path, *arrays)
        return str(path)

    def run(self, arrays: Arrays) -> Arrays:
        """The source's answers."""
        self._count += 1
        asked = self._folder / f"in-{self._count}.npz"
        np.savez(asked, *arrays)
        try:
            return self._told(Request("predict", path=str(asked)))
        finally:
            asked.unlink()

    def known(self) -> Arrays | None:
        """Rows like those that it was trained on, as far as it tells."""
        return self._told(Request("known")) or None

    def _told(self, request: Request) -> Arrays:
        """Arrays that the process leaves in a file."""
        self._count += 1
        told = self._folder / f"out-{self._count}.npz"
        try:
            self._ask(msgspec.structs.replace(request, out=str(told)))
            with np.load(told, allow_pickle=False) as stored:
                return [stored[f"arr_{k}"] for k in range(len(stored.files))]
        except (OSError, ValueError, KeyError) as error:
            raise ExportError(f"{self._name}: its process left no readable answer: {error}") from error
        finally:
            told.unlink(missing_ok=True)

    def convert(self, path: Path) -> None:
        """Write model.onnx or model.pt."""
        self._ask(Request("convert", path=str(path)))

    def close(self) -> None:
        """End the process, and whatever it started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Request) -> Reply:
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        try:
            reply = msgspec.json.decode(self._read_line(), type=Reply)
        except msgspec.DecodeError as error:
            raise ExportError(f"{self._name}: its process answered with rubbish: {error}") from error
        if reply.unsafe:
            raise UnsafeArtefact(reply.error)
        if reply.error:
            raise ExportError(f"{self._name}: {reply.error}")
        return reply

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(TIMEOUT_S):
                self.close()
                raise ExportError(f"{self._name}: its process did not answer in {TIMEOUT_S:.0f} s")
            line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return line

    def _died(self) -> ExportError:
        code = self._process.wait()
        lines = (self._folder / "worker.log").read_text(errors="replace").strip().splitlines()
        return ExportError(
            f"{self._name}: its process ended with {code}: {lines[-1][:300] if lines else 'silence'}"
        )
