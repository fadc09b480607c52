"""A version that was served once, loaded beside what is served now, under another name, while it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from exporters.errors import Busy, ExportError
from exporters.formats.tensors import Arrays
from exporters.profiles import Gpu
from exporters.release.candidate import candidate
from exporters.release.triton_client import LEAST_S, TritonServer
from exporters.repository.repository import ModelRepository
from exporters.target import memory
from trading.models.copies import RECALLED, recalled_suffix
from trading.models.signature import ModelSignature

#: Held while it is looked whether there is room, and the room is taken.
CHECKED = "recall--room"
#: Another recall of the model is waited for so long.
WAIT_S = 60.0


class Holding(Struct, frozen=True):
    """What a recalled version is held open for, and how.

    Attributes:
        kept_for: where that takes long: who asks the same version for something else has a copy of his own.
        left: asked at the end, whether it stays loaded: others ask it, and it is taken up again soon.
        yields: whether it comes after what is served, wherever both want the same processor.
    """

    kept_for: str = ""
    left: Callable[[], bool] = lambda: False
    yields: bool = True


class RecalledVersion:
    """A version of a pipeline, its steps loaded one by one: Triton makes no ensemble of copies.

    Attributes:
        contract: as it was published.
        devices: model or step -> "cpu" or "gpu".
    """

    def __init__(self, triton: TritonServer, contract: ModelSignature) -> None:
        """Nothing is loaded yet."""
        self._triton, self.contract = triton, contract
        self._steps: list[tuple[ModelSignature, int]] = []
        self.devices: dict[str, str] = {}

    def add(self, copy: ModelSignature, version: int, device: str) -> None:
        """A loaded step, in the order in which they are asked."""
        self._steps.append((copy, version))
        self.devices[copy.name.partition(RECALLED)[0]] = device

    def run(self, inputs: Arrays, timeout_s: float | None = None) -> Arrays:
        """The outputs for rows, as the contract orders both. Raises ExportError, ServiceUnavailable.

        Its steps have so many seconds together; each as long as a load where none are given.
        """
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        known = {spec.name: array for spec, array in zip(self.contract.inputs, inputs, strict=True)}
        for copy, version in self._steps:
            given = [np.ascontiguousarray(known[spec.name]) for spec in copy.inputs]
            left_s = None if ends_s is None else max(LEAST_S, ends_s - time.monotonic())
            answers = self._triton.run(copy, version, left_s)(given)
            known |= {spec.name: array for spec, array in zip(copy.outputs, answers, strict=True)}
        return [known[spec.name] for spec in self.contract.outputs]


@contextmanager
def recalled(
    repository: ModelRepository,
    triton: TritonServer,
    gpu: Gpu,
    name: str,
    version: int,
    holding: Holding | None = None,
) -> Iterator[RecalledVersion]:
    """Load a published version under another name, an ensemble's steps each; all is unloaded at the end.

    What is served, the repository and its journal stay as they are. A release of the same model need not wait, nor
    who asks another version.

    Args:
        repository: where the version lies.
        triton: the server that is asked.
        gpu: of the desk, on which what is served must keep its room.
        name, version: of the model.
        holding: what for, and how; None: for a moment.

    Raises:
        ExportError: there is no such version here, it was changed, the GPU has no room for it beside what is
            served, or Triton refuses it.
        ServiceUnavailable: Triton does not answer.
    """
    holding = holding or Holding()
    lineage = repository.verified_lineage(name, version)
    contract = lineage.contract
    steps = {step: number_of(lineage.steps, step) for step in contract.steps} or {name: version}
    found = RecalledVersion(triton, contract)
    with ExitStack() as loaded:
        ends = {step: recalled_suffix(number, holding.kept_for) for step, number in steps.items()}
        loaded.enter_context(waited_for(repository, *(step + end for step, end in ends.items())))
        # One at a time: what another one is loading must be counted.
        with waited_for(repository, CHECKED):
            refuse_too_large(
                repository,
                gpu,
                steps,
                beside_already(repository, triton, {step + end for step, end in ends.items()}),
            )
            for step, number in steps.items():
                signature = repository.verified_lineage(step, number).contract
                serving = replace(repository.serving(step), instances=1, yields=holding.yields)
                loading = candidate(repository, triton, signature, number, serving, ends[step], holding.left)
                copy, device = loaded.enter_context(loading)
                found.add(copy, number, device)
        yield found


def beside_already(
    repository: ModelRepository, triton: TritonServer, replaced: Collection[str]
) -> list[tuple[str, int]]:
    """Models and versions that are recalled now, by whomever, but for copies that are loaded anew."""
    found = []
    for name in repository.names():
        for copy in recalled_names(repository, name):
            number = copy.removeprefix(name + RECALLED).removeprefix("-").partition("-")[0]
            if copy not in replaced and number.isdigit() and triton.is_loaded(copy):
                found.append((name, int(number)))
    return found


def recalled_names(repository: ModelRepository, name: str) -> list[str]:
    """Names that versions of a model were ever recalled under: Triton's index leaves copies out, and locks stay."""
    begin = name + RECALLED
    return sorted(path.stem for path in (repository.state / "locks").glob("*.lock") if path.stem.startswith(begin))


def refuse_too_large(
    repository: ModelRepository, gpu: Gpu, steps: Mapping[str, int], already: Sequence[tuple[str, int]] = ()
) -> None:
    """Raise ExportError where the GPU cannot hold these versions beside what is served, and `already` recalled."""
    served = memory.plan(repository, gpu)
    beside, backends = 0.0, set()
    for step, number in (*already, *steps.items()):
        lineage = repository.lineage(step, number)
        backends.add(lineage.contract.backend)
        beside += memory.need(step, number, 1, lineage.weights_bytes, lineage.activation_bytes).total_mib
    context = max(served.context_mib, sum(memory.CONTEXT_MIB[one] for one in backends))
    needed = served.needed_mib - served.context_mib + context + beside
    if needed > served.usable_mib:
        raise ExportError(
            f"the {served.gpu} would need {needed:,.0f} of {served.usable_mib:,.0f} MiB to hold it beside what is "
            f"served: {served.largest()}; ask another Triton (ULTRATHINK_GATEWAY_TRITON_URL)"
        )


def number_of(steps: Mapping[str, str], step: str) -> int:
    """The version of an ensemble's step, as its lineage has it. Raises ExportError."""
    told = steps.get(step, "")
    if not (told.isascii() and told.isdigit()):
        raise ExportError(f"its lineage does not say which version of {step} it was released with")
    return int(told)


@contextmanager
def waited_for(repository: ModelRepository, *names: str) -> Iterator[None]:
    """Hold names, when whoever holds them lets go. Raises Busy where that takes too long."""
    deadline = time.monotonic() + WAIT_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(repository.lock(*names))
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield
