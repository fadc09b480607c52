"""Model archives (.mar) for TorchServe: a zip of TorchScript, our handler and the contract, nothing else.

The same model makes the same bytes: entries have one time, one order and no compression, and the manifest says
nothing of when or where.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import msgspec

from exporters.errors import ExportError
from trading.models.signature import ModelSignature

HANDLER = Path(__file__).with_name("torchserve_handler.py")
#: As the handler looks for it.
MODEL, CONTRACT = "model.pt", "contract.json"
#: The oldest time that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
#: The archiver whose manifests these are like.
ARCHIVER = "0.12.0"


def archive_name(name: str, version: int) -> str:
    """The file's name in a model store."""
    return f"{name}-{version}.mar"


def archive(signature: ModelSignature, version: int, module: bytes) -> bytes:
    """A model archive.

    Args:
        signature: of the model, under the name that it is served by.
        version: of it.
        module: TorchScript, as `torch.jit.save` writes it.

    Raises:
        ExportError: the model is no TorchScript.
    """
    if signature.backend != "pytorch":
        raise ExportError(
            f"{signature.name} is no TorchScript, and TorchServe serves nothing else: export it with "
            "--server torchserve"
        )
    manifest = {
        "runtime": "python",
        "archiverVersion": ARCHIVER,
        "createdOn": "01/01/1980 00:00:00",
        "model": {
            "modelName": signature.name, "serializedFile": MODEL, "handler": HANDLER.name,
            "modelVersion": str(version),
        },
    }  # fmt: skip
    entries = {
        "MAR-INF/MANIFEST.json": json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n",
        CONTRACT: msgspec.json.encode(signature) + b"\n",
        HANDLER.name: HANDLER.read_bytes(),
        MODEL: module,
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content)
    return made.getvalue()
