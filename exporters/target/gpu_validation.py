"""What is known of the GPU by having used it: one file, of which torch's check and Triton's each write a part."""

from __future__ import annotations

import fcntl
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from exporters.errors import ExportError
from exporters.repository.files import now
from trading.encoding import Records, encode
from trading.errors import BadRecord
from trading.files import replace_file

FILE = "gpu-validation.json"


class Seen(Struct, frozen=True, forbid_unknown_fields=True):
    """What one of the two has seen.

    Attributes:
        ok: whether it computed on the GPU, and rightly.
        by: torch's version, or the server's name and version.
        told: one line: the device and the kernels there are; or why it did not.
        at: when, ISO 8601 in UTC.
    """

    ok: bool
    by: str
    told: str
    at: str


class Validation(Struct, frozen=True, forbid_unknown_fields=True):
    """Both; None is what was never tried."""

    torch: Seen | None = None
    triton: Seen | None = None

    @property
    def ok(self) -> bool:
        """Whether both have computed on it."""
        return all(one is not None and one.ok for one in (self.torch, self.triton))


_validations = Records(Validation)


def read(path: Path) -> Validation:
    """What was seen; nothing where there is no file. Raises ExportError for one that cannot be read."""
    try:
        return _validations.read(path.read_bytes())
    except FileNotFoundError:
        return Validation()
    except (OSError, BadRecord) as error:
        raise ExportError(f"{path} cannot be read: {error}; delete it, and check the GPU again") from error


def record(path: Path, *, torch: Seen | None = None, triton: Seen | None = None) -> Validation:
    """Write one's part, and keep the other's. Raises ExportError where it cannot be written.

    A file that cannot be read is replaced: what is known is what was just seen.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                known = read(path)
            except ExportError:
                known = Validation()
            found = replace(known, torch=torch or known.torch, triton=triton or known.triton)
            replace_file(path, encode(found) + b"\n")
    except OSError as error:
        raise ExportError(f"{path} cannot be written ({error.strerror}): name another file with --out") from error
    return found


def begun(by: str) -> Seen:
    """What holds from the beginning of a try to its end."""
    return Seen(False, by, "it was tried, and the try did not end", now())


def failed(by: str, why: str) -> Seen:
    """That it does not compute, and why, in one line."""
    return Seen(False, by, " ".join(why.split())[:500], now())


def installed() -> str:
    """Torch's version here, without importing it; "" where there is none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def is_of_another_torch(found: Validation, here: str) -> bool:
    """Whether another torch was tried than the one of version `here`; "" is not known."""
    return bool(found.torch and here and found.torch.by.partition("+")[0] != here.partition("+")[0])


def words(found: Validation, here: str) -> list[str]:
    """A sentence each, for people: what was seen, what was not tried, and what another torch saw than `here`'s."""
    told = []
    for name, seen, command in (
        ("torch", found.torch, "ultrathink gpu check"),
        ("Triton", found.triton, "ultrathink gpu probe"),
    ):
        if seen is None:
            told.append(f"{name} was never tried on the GPU: `{command}`")
        elif not seen.ok:
            told.append(f"{name} does not compute on the GPU: {seen.told} ({seen.at})")
        elif name == "torch" and is_of_another_torch(found, here):
            told.append(f"torch {seen.by} was tried on the GPU, and {here} is installed: `{command}`")
        else:
            told.append(f"{name} computes on the GPU: {seen.told} ({seen.at})")
    return told
