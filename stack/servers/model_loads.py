"""What was released is loaded in a Triton that has just started, what decides at once before what takes its time.

Triton answers nobody before every model that its command line names is loaded, PyTorch among them: a desk whose
model was there after four seconds waited for twelve. So it starts with none, is asked for what the desk decides by,
and is ready when that is there; the others follow.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from connectors.triton import grpc as grpcclient
from trading.models.signature import contract

#: Of one model: what takes longer hangs. PyTorch on busy cores takes a quarter of a minute, a large model minutes.
LOAD_S = 900.0
#: As Triton's index calls the states of a version.
LOADING, READY = "LOADING", "READY"
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


def in_order(names: Collection[str], decides: str) -> list[list[str]]:
    """Models that are loaded together, group by group: an ensemble's steps before it, and all else last.

    What follows is loaded one by one: beside it the desk decides.

    Args:
        names: of what is to be loaded.
        decides: the one that is asked for decisions; "" for none in particular.
    """
    first = {decides, *steps_of(decides)} & set(names)
    found = []
    for part in (first, set(names) - first):
        ensembles = {name for name in part if steps_of(name)}
        alone, together = sorted(part - ensembles), sorted(ensembles)
        beside = decides in names and part is not first
        found += [[name] for name in alone] if beside else [alone]
        found.append(together)
    return [group for group in found if group]


def steps_of(name: str) -> Sequence[str]:
    """Of an ensemble of ours; none of any other model."""
    try:
        return contract(name).steps
    except KeyError:
        return ()


class ModelLoads:
    """Of one server, each time that it was started."""

    def __init__(self, load: Load, released: Callable[[], Collection[str]], decides: str = "") -> None:
        """Nothing is asked for yet.

        Args:
            load: asks the server for a model.
            released: names of those that it must serve.
            decides: the one without which the desk waits; "" waits for all.
        """
        self._load, self._released, self._decides = load, released, decides
        self._lock = threading.Lock()
        self._started, self._begun = 0, False
        self._wanted: Collection[str] = ()
        self._left: list[str] = []
        self._others: set[str] = set()
        #: Name -> why it was not loaded.
        self._failed: dict[str, str] = {}

    def start_anew(self) -> None:
        """Another process begins: it has nothing yet."""
        with self._lock:
            self._started += 1
            self._begun, self._left, self._others, self._failed = False, [], set(), {}

    def left(self, states: Mapping[str, Collection[str]]) -> Sequence[str]:
        """What must be loaded before the server is ready, and is not; a process' first question begins it.

        Args:
            states: of every version of each model that the server knows; "" where nobody has asked for it. What
                somebody has unloaded since, or does not load, is left as it is.
        """
        with self._lock:
            if not self._begun:
                self._wanted = tuple(self._released())
                asked = [name for name in self._wanted if not any(states.get(name, ("",)))]
                # Of a server that an earlier supervisor had asked.
                self._others = {name for name in self._wanted if LOADING in states.get(name, ())}
                self._left = [name for name in self._wanted if name in {*asked, *self._others}]
                if asked:
                    work = self._started, in_order(asked, self._decides)
                    threading.Thread(target=self._work, args=work, name="load", daemon=True).start()
                self._begun = True
            for name in [name for name in self._failed if READY in states.get(name, ())]:
                del self._failed[name]
            over = {name for name in self._others if LOADING not in states.get(name, ())}
            self._others -= over
            self._left = [name for name in self._left if name not in over]
            first = {self._decides, *steps_of(self._decides)}
            return [name for name in self._left if name in first or self._decides not in self._wanted]

    def troubles(self) -> list[str]:
        """What a server that is ready still loads, or does not, for people."""
        loads = [f"loads {', '.join(self._left)}"] if self._left else []
        return [*loads, *(f"does not load {name}: {why}" for name, why in sorted(self._failed.items()))]

    def _work(self, started: int, groups: Sequence[Sequence[str]]) -> None:
        try:
            for group in groups:
                with ThreadPoolExecutor(len(group), "load") as pool:
                    list(pool.map(lambda name: self._one(started, name), group))
        finally:
            # Whatever it died of: nobody waits for what nobody loads.
            with self._lock:
                if started == self._started:
                    self._left = [name for name in self._left if name in self._others]

    def _one(self, started: int, name: str) -> None:
        try:
            if started == self._started:
                self._load(name)
        except Exception as error:  # noqa: BLE001 - as one on its command line that does not load: the others are served
            with self._lock:
                if started == self._started:
                    self._failed[name] = str(error)[:300]
            with contextlib.suppress(OSError):
                sys.stderr.write(f"triton does not load {name}: {error}\n")
        finally:
            with self._lock:
                if started == self._started and name in self._left:
                    self._left.remove(name)
