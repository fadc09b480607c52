"""What was released is loaded in a Triton that has just started, what decides at once before what takes its time.

Triton answers nobody before every model that its command line names is loaded, PyTorch among them: a desk whose
model was there after four seconds waited for twelve. So it starts with none, and is asked for them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from connectors.triton import grpc as grpcclient
from connectors.triton.errors import InferenceServerException
from trading.models.signature import TRADING_DECISION, contract

#: Of one model; PyTorch on busy cores takes a quarter of it.
LOAD_S = 60.0
Load = Callable[[str], None]


def over(address: str) -> Load:
    """What asks a server for a model, and returns when it is there. Raises InferenceServerException."""

    def load(name: str) -> None:
        client = grpcclient.InferenceServerClient(address)
        try:
            client.load_model(name, client_timeout=LOAD_S)
        finally:
            client.close()

    return load


def in_order(names: Iterable[str]) -> list[list[str]]:
    """Models that are loaded together, group by group: who decides alone, then parts, then what needs them."""
    groups: tuple[list[str], ...] = ([], [], [])
    for name in names:
        try:
            found = contract(name)
        except KeyError:
            groups[1].append(name)
            continue
        decides = found.outputs == TRADING_DECISION.outputs
        groups[2 if found.steps else 0 if decides else 1].append(name)
    return [group for group in groups if group]


class ModelLoads:
    """Of one server, each time that it was started."""

    def __init__(self, load: Load, released: Callable[[], Collection[str]]) -> None:
        """Nothing is asked for yet.

        Args:
            load: asks the server for a model.
            released: names of those that it must serve.
        """
        self._load, self._released = load, released
        self._lock = threading.Lock()
        self._started, self._begun = 0, False
        self._left: list[str] = []

    def start_anew(self) -> None:
        """Another process begins: it has nothing yet."""
        with self._lock:
            self._started += 1
            self._begun, self._left = False, []

    def left(self, states: Mapping[str, Collection[str]]) -> Sequence[str]:
        """What is not loaded yet; the first question of a process begins it.

        Args:
            states: of every version of each model that the server knows; "" where nobody has asked for it. What
                somebody has unloaded since, or does not load, is left as it is.
        """
        with self._lock:
            if not self._begun:
                self._begun = True
                self._left = [name for name in self._released() if not any(states.get(name, ("",)))]
                if self._left:
                    work = self._started, in_order(self._left)
                    threading.Thread(target=self._work, args=work, name="load", daemon=True).start()
            return list(self._left)

    def _work(self, started: int, groups: Sequence[Sequence[str]]) -> None:
        for group in groups:
            with ThreadPoolExecutor(len(group), "load") as pool:
                list(pool.map(lambda name: self._one(started, name), group))

    def _one(self, started: int, name: str) -> None:
        try:
            if started == self._started:
                self._load(name)
        except InferenceServerException as error:
            # As one on its command line that does not load: the others are served.
            sys.stderr.write(f"triton does not load {name}: {error.message()}\n")
        finally:
            with self._lock:
                if started == self._started and name in self._left:
                    self._left.remove(name)
