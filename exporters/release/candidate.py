"""A copy of a model under another name, on trial: the repository is not touched, and nobody asks it by mistake."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Serving, render_json
from exporters.release.servers import ModelServer
from exporters.release.triton_servers import Tritons
from exporters.repository.repository import ModelRepository
from trading.models.signature import ModelSignature

#: A version on trial answers to this name only.
CANDIDATE = "--candidate"


@contextlib.contextmanager
def candidate(
    repository: ModelRepository,
    triton: Tritons,
    signature: ModelSignature,
    version: int,
    serving: Serving,
    suffix: str = CANDIDATE,
    left: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[ModelSignature, str]]:
    """Load a published version as a copy, unload it at the end; call under the model's lock.

    Args:
        repository: where the version lies.
        triton: the server, or all that must take it.
        signature, version: of the model.
        serving: how it would be served.
        suffix: of the copy's name; another one than a candidate's has a lock of its own.
        left: asked at the end, whether it stays loaded: somebody else asks it.

    Yields:
        The copy's signature, and "gpu" or "cpu": the GPU where the (first) server has one.

    Raises:
        ExportError: Triton refuses it.
    """
    copy = replace(signature, name=signature.name + suffix)
    # Its warm-up row would have to travel too.
    alone = replace(serving, versions=(version,), real_rows=False)
    path = repository.folder(signature.name, version) / signature.file_name
    content = b"" if signature.backend == "ensemble" else path.read_bytes()
    try:
        for one in triton.each():
            load(one, copy, version, alone, content)
    except BaseException:
        for one in triton.each():
            one.forget(copy.name)
        raise
    try:
        yield copy, triton.device(copy.name, version)
    finally:
        if not left():
            triton.unload(copy.name)


def load(triton: ModelServer, copy: ModelSignature, version: int, serving: Serving, content: bytes) -> None:
    """On the GPU where the server has one, else on its CPU."""
    devices = triton.devices()
    for device in devices:
        try:
            triton.load_copy(copy, render_json(copy, device, serving), version, content)
        except ExportError as error:
            if device == devices[-1] or "gpu" not in str(error).lower():
                raise
        else:
            return
