"""Many experiments, as many at once as memory and the GPU hold, each in a process of its own.

An experiment waits until the memory that it is estimated to need is free: of the budget, and of the machine. It
keeps to its ceiling itself; one that is killed all the same is reported as that, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import torch
from msgspec import Struct
from msgspec.structs import replace

from trading.errors import ConfigurationError
from trainers import memory_budget
from trainers.data import manifest
from trainers.trials.worker import FoldResult, Line, Spec, TrialResult

#: Arrays of a row in a training: the dataset, copies of the training rows, what the models say.
ROW_BYTES = 2_400
#: How long a worker that was told to end may take.
STOP_S = 5.0
#: How often the machine's free memory is looked at again while an experiment waits for it.
LOOK_S = 0.5


T = TypeVar("T")


class TrialOutcome(Struct, frozen=True):
    """What became of an experiment.

    Attributes:
        name: of it.
        result: None where it did not finish.
        why: in words, where it did not.
        seconds: of its run, without waiting.
        peak_bytes: of resident memory that was seen.
        pruned: whether it was ended because it did badly.
    """

    name: str
    result: TrialResult | None
    why: str
    seconds: float
    peak_bytes: int
    pruned: bool = False


class Stopped(Exception):
    """Nothing is started any more."""


class Resources:
    """What experiments share: memory in bytes, and places on the GPU."""

    def __init__(self, budget: int, gpu_places: int) -> None:
        self._left, self._places = budget, gpu_places
        self._changed = threading.Condition()
        self._running = 0
        self.stopped = False

    def stop(self) -> None:
        """Whoever waits, waits in vain."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    @contextmanager
    def take(self, need: int, *, gpu: bool) -> Iterator[None]:
        """Wait until both are there; one experiment alone may always run. Raises Stopped."""
        with self._changed:
            while not self._fits(need, gpu=gpu):
                self._changed.wait(LOOK_S)
            if self.stopped:
                raise Stopped
            self._left -= need
            self._places -= gpu
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._left += need
                self._places += gpu
                self._running -= 1
                self._changed.notify_all()

    def _fits(self, need: int, *, gpu: bool) -> bool:
        if self._running == 0 or self.stopped:
            return True
        return need <= self._left and (not gpu or self._places > 0) and need <= memory_budget.available_bytes()


class TrialRunner:
    """Runs experiments.

    Args:
        jobs: at most so many at once.
        memory: budget of all of them in bytes; default: what is free now.
        gpu_places: experiments on one GPU at once.
        python: the interpreter.
    """

    def __init__(
        self, jobs: int, memory: int | None = None, gpu_places: int = 2, python: str = sys.executable
    ) -> None:
        self._jobs, self._python = jobs, python
        self._budget = memory or int(0.8 * memory_budget.available_bytes())
        self._resources = Resources(self._budget, gpu_places)
        self._children: set[int] = set()
        self._lock = threading.Lock()

    def run(
        self,
        specs: Sequence[Spec],
        done: Callable[[TrialOutcome], None] = lambda _: None,
        prune: Callable[[str, FoldResult], bool] = lambda _, __: False,
    ) -> list[TrialOutcome]:
        """Run all; returns what became of each, in their order.

        Args:
            specs: the experiments; one without a ceiling gets its estimate.
            done: called as each ends.
            prune: asked after each fold whether the experiment should end.
        """
        outcomes: dict[str, TrialOutcome] = {}

        def one(spec: Spec) -> None:
            outcomes[spec.name] = self.one(spec, prune)
            done(outcomes[spec.name])

        self.each(specs, one)
        return [outcomes[spec.name] for spec in specs]

    def each(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Do the work for each item, as many at once as there are jobs; an error ends what runs."""
        with ThreadPoolExecutor(self._jobs, "experiment") as pool:
            waiting = [pool.submit(work, item) for item in items]
            try:
                for future in as_completed(waiting):
                    future.result()
            except BaseException:
                for future in waiting:
                    future.cancel()
                self.stop()
                raise

    def one(self, spec: Spec, prune: Callable[[str, FoldResult], bool] = lambda _, __: False) -> TrialOutcome:
        """Run one, when there is room for it."""
        try:
            need = estimate(Path(spec.dataset))
        except ConfigurationError as error:
            return TrialOutcome(spec.name, None, str(error), 0.0, 0)
        ceiling = spec.memory_bytes or max(need, memory_budget.BASE_BYTES)
        with self._resources.take(ceiling, gpu=torch.cuda.is_available()):
            return self._watch(replace(spec, memory_bytes=ceiling), prune)

    def stop(self) -> None:
        """End every experiment that runs, and start no other."""
        self._resources.stop()
        with self._lock:
            children = list(self._children)
        for pid in children:
            end_group(pid)

    def _watch(self, spec: Spec, prune: Callable[[str, FoldResult], bool]) -> TrialOutcome:
        began, peak, result, pruned = time.monotonic(), 0, None, False
        with tempfile.TemporaryDirectory(prefix="experiment-") as folder:
            path, errors = Path(folder) / "spec.json", Path(folder) / "stderr"
            path.write_bytes(msgspec.json.encode(spec))
            with errors.open("wb") as told, self._child(path, told) as child:
                for text in child.stdout or ():
                    peak = max(peak, resident(child.pid))
                    line = read_line(text)
                    result = line.result or result
                    if line.fold is not None and prune(spec.name, line.fold):
                        pruned = True
                        end_group(child.pid)
                        break
                code = child.wait()
            words = errors.read_text(errors="replace").strip().splitlines()
        peak = max(peak, result.peak_bytes if result else 0)
        seconds = time.monotonic() - began
        if pruned:
            return TrialOutcome(spec.name, None, "pruned: it did worse than most", seconds, peak, pruned=True)
        if code == 0 and result is not None:
            return TrialOutcome(spec.name, result, "", seconds, peak)
        told_last = f": {words[-1]}" if words and code > 0 else ""
        return TrialOutcome(
            spec.name, None, memory_budget.explain_exit(code, peak, spec.memory_bytes) + told_last, seconds, peak
        )

    def _start(self, path: Path, errors: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._python, "-m", "trainers.trials.worker", os.fspath(path)],
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True,  # type: ignore[call-overload]
        )  # fmt: skip

    @contextmanager
    def _child(self, path: Path, errors: object) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._resources.stopped:
                raise Stopped
            child = self._start(path, errors)
            self._children.add(child.pid)
        try:
            yield child
        finally:
            end_group(child.pid)
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
            with self._lock:
                self._children.discard(child.pid)


def read_line(text: bytes) -> Line:
    """What a worker printed; an empty line for what a library of it printed."""
    try:
        return msgspec.json.decode(text, type=Line)
    except msgspec.DecodeError:
        return Line()


def estimate(dataset: Path) -> int:
    """Bytes that a training on a dataset needs. Raises ConfigurationError where it is none."""
    return memory_budget.BASE_BYTES + manifest.read(dataset).rows * ROW_BYTES


def resident(pid: int) -> int:
    """Resident memory of a process; 0 where it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def end_group(pid: int) -> None:
    """End a process group that we started: asked first, then killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGTERM)
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).wait(STOP_S)
            return
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                os.killpg(pid, signal.SIGKILL)
