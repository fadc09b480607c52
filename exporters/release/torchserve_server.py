"""TorchServe as the exporters see it: what Triton's client is to Triton.

Its model store is a flat folder of archives beside the repository, each made from a published version when that is
loaded; the server reads no other place. What is served lies in the repository's configurations, as for Triton.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.framing import DESCRIBE, AnswerRefused, answer, description, question
from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.management import (
    BAD_ARCHIVE,
    CONFLICT,
    NOT_FOUND,
    ManagementRefused,
    RegisteredVersion,
    TorchServeManagement,
)
from connectors.torchserve.tokens import Token
from exporters.errors import ExportError
from exporters.formats.config_pbtxt import Device
from exporters.formats.tensors import Arrays, Run
from exporters.formats.torchserve import archive, archive_name
from exporters.release.candidate import CANDIDATE
from exporters.release.recalled import waited_for
from exporters.release.triton_client import LOAD_TIMEOUT_S, RESTART_S, Loaded
from exporters.repository.repository import ModelRepository
from exporters.repository.state import store_folder
from trading.errors import BadRecord, ServiceUnavailable
from trading.files import replace_file
from trading.models.signature import ModelSignature

#: Who follows the default version asks for it once a second: one that is not it any more is kept for so long.
FOLLOWED_S = 2.0
DESCRIBE_TIMEOUT_S = 10.0


class TorchServeServer:
    """A connection to a TorchServe that runs with model control and tokens."""

    kind = "TorchServe"

    def __init__(
        self,
        management: TorchServeManagement,
        infer: TorchServeInfer,
        repository: ModelRepository,
        workers: int,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        """Look whether it answers. Raises ServiceUnavailable.

        Args:
            management, infer: its two sides; closed with this.
            repository: whose versions it serves.
            workers: of a released version; one on trial has one.
            load_timeout_s: after which a load or an answer counts as failed.
        """
        self._management, self._infer, self._repository = management, infer, repository
        self._workers, self._timeout_s = workers, load_timeout_s
        self._store = store_folder(repository.root)
        self.address = management.address
        try:
            self._management.versions("ultrathink")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End both connections."""
        self._infer.close()
        self._management.close()

    def each(self) -> tuple[TorchServeServer, ...]:
        """Itself: see Tritons."""
        return (self,)

    def about(self) -> str:
        """The server's own name and version."""
        return f"torchserve {self._management.version()}"

    def sees(self, nonce: str) -> bool:
        """Whether it reads our store: it finds an archive that is nowhere else, and can make nothing of it."""
        path = self._store / f"{nonce}.mar"
        self._store.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        try:
            self._management.register(path.name, workers=0, timeout_s=DESCRIBE_TIMEOUT_S)
        except ManagementRefused as error:
            if error.status in {NOT_FOUND, BAD_ARCHIVE}:
                return error.status == BAD_ARCHIVE
            raise ExportError(f"TorchServe at {self.address} does not load archives: {error}") from error
        finally:
            path.unlink(missing_ok=True)
        raise ExportError(f"TorchServe at {self.address} takes an empty file for an archive")

    def index(self) -> list[Loaded]:
        """Every model and version that the server knows."""
        return [loaded(one) for one in self._management.models() if is_number(one.version)]

    def ready(self, name: str) -> set[int]:
        """Versions of a model that answer."""
        return {int(one.version) for one in self._versions(name) if one.ready}

    def is_loaded(self, name: str) -> bool:
        """Whether a model answers."""
        return bool(self.ready(name))

    def load(self, name: str) -> None:
        """Serve the versions that the model's configuration lists, the highest as its default, and no other.

        Raises:
            ExportError: TorchServe refuses one, in its own words.
            ServiceUnavailable: it does not answer.
        """
        wanted = self._repository.serving(name).versions
        known = {one.version: one for one in self._versions(name)}
        for version in wanted:
            one = known.get(str(version))
            if one is not None and one.ready:
                continue
            if one is not None:
                self._unregister(name, version)
            signature = self._repository.verified_lineage(name, version).contract
            self._register(signature, version, self._content(signature, version), self._workers)
        if wanted:
            self._choose(name, max(wanted), known)
        for version in sorted(int(one) for one in known if int(one) not in wanted):
            self._unregister(name, version)

    def load_copy(self, signature: ModelSignature, config_json: str, version: int, content: bytes) -> None:
        """Load a version under another name, on trial; `config_json` is Triton's, and says nothing here.

        Raises:
            ExportError: TorchServe refuses it.
        """
        del config_json
        self._unregister(signature.name, version)
        self._register(signature, version, content, workers=1)

    def forget(self, name: str) -> None:
        """Clear a copy that did not load."""
        with contextlib.suppress(ExportError, ServiceUnavailable):
            self.unload(name)

    def unload(self, name: str) -> None:
        """Stop serving a model. Nothing where it is not loaded."""
        for one in sorted(self._versions(name), key=lambda one: one.is_default):
            self._unregister(name, int(one.version))

    def devices(self) -> tuple[Device, ...]:
        """TorchServe itself chooses where a worker runs: nothing is tried."""
        return ("cpu",)

    def device(self, name: str, version: int) -> Device:
        """Where a loaded version runs."""
        try:
            told = description(self._ask(name, version, DESCRIBE, DESCRIBE_TIMEOUT_S))
        except BadRecord as error:
            raise ExportError(f"{name} {version} at {self.address}: {error}") from error
        return "gpu" if told.device == "cuda" else "cpu"

    def run(self, signature: ModelSignature, version: int, timeout_s: float | None = None) -> Run:
        """Ask a version over gRPC; what it returns raises ExportError, ServiceUnavailable."""
        wait_s = self._timeout_s if timeout_s is None else timeout_s

        def run(arrays: Arrays) -> Arrays:
            asked = question(signature.inputs, arrays)
            try:
                found = answer(self._ask(signature.name, version, asked, wait_s))
            except (AnswerRefused, BadRecord) as error:
                raise ExportError(f"{signature.name} {version} at {self.address}: {error}") from error
            if (found.model_name, found.model_version) != (signature.name, str(version)):
                raise ExportError(
                    f"{found.model_name} {found.model_version} answered, and {signature.name} {version} was asked"
                )
            return [found.outputs[spec.name] for spec in signature.outputs]

        return run

    def _ask(self, name: str, version: int, asked: Mapping[str, bytes], wait_s: float) -> bytes:
        """Repeat a call while the server restarts. Raises ExportError, ServiceUnavailable."""
        ends_s = time.monotonic() + min(RESTART_S, wait_s)
        while True:
            try:
                return self._infer(name, str(version), asked, wait_s)
            except RpcError as error:
                if meaning(error) is not Meaning.DOWN or time.monotonic() > ends_s:
                    raise self._failed(name, error, wait_s) from error
                time.sleep(0.2)

    def _versions(self, name: str) -> list[RegisteredVersion]:
        """Of a model, those with numbers: others are somebody else's."""
        return [one for one in self._management.versions(name) if is_number(one.version)]

    def _content(self, signature: ModelSignature, version: int) -> bytes:
        return (self._repository.folder(signature.name, version) / signature.file_name).read_bytes()

    def _register(self, signature: ModelSignature, version: int, content: bytes, workers: int) -> None:
        name = archive_name(signature.name, version)
        made = archive(signature, version, content)
        self._store.mkdir(parents=True, exist_ok=True)
        replace_file(self._store / name, made)
        try:
            self._management.register(name, workers=workers, timeout_s=self._timeout_s)
        except ManagementRefused as error:
            if error.status == CONFLICT:
                raise ExportError(
                    f"{signature.name} {version} was registered on TorchServe at {self.address} by somebody else "
                    "meanwhile: try again"
                ) from error
            # What has no worker stays registered, and would answer nobody.
            with contextlib.suppress(ManagementRefused, ServiceUnavailable):
                self._management.unregister(signature.name, str(version))
            if error.status == NOT_FOUND:
                raise ExportError(
                    f"TorchServe at {self.address} does not find {name}: does it read {self._store}? Name the "
                    "repository that it serves with --repository"
                ) from error
            raise ExportError(
                f"TorchServe at {self.address} does not load {signature.name} {version}: {error}; see its log"
            ) from error

    def _choose(self, name: str, version: int, known: dict[str, RegisteredVersion]) -> None:
        """Make a version the default; who followed another has time to notice."""
        was = [one for one in known.values() if one.is_default]
        try:
            self._management.choose(name, str(version))
        except ManagementRefused as error:
            raise ExportError(f"TorchServe at {self.address} does not choose {name} {version}: {error}") from error
        if any(one.version != str(version) for one in was):
            time.sleep(FOLLOWED_S)

    def _unregister(self, name: str, version: int) -> None:
        try:
            self._management.unregister(name, str(version))
        except ManagementRefused as error:
            raise ExportError(f"TorchServe at {self.address} does not unload {name} {version}: {error}") from error
        (self._store / archive_name(name, version)).unlink(missing_ok=True)

    def _failed(self, name: str, error: RpcError, wait_s: float) -> Exception:
        found, said = meaning(error), " ".join(str(error.details() or "").split())[:300]
        if found is Meaning.DOWN:
            return ServiceUnavailable(f"TorchServe at {self._infer.address} does not answer by gRPC: {said}")
        if found is Meaning.TIMED_OUT:
            said = f"no answer in {wait_s:g} s; see its log"
        return ExportError(f"TorchServe at {self._infer.address} does not run {name}: {said}")


def loaded(one: RegisteredVersion) -> Loaded:
    """As Triton's index tells a version."""
    state = "READY" if one.ready else "LOADING" if one.workers else "UNAVAILABLE"
    return Loaded(one.name, int(one.version), state, "" if one.ready else f"workers: {', '.join(one.workers)}")


def connect_torchserve(
    http: str, grpc: str, repository: ModelRepository, tokens: tuple[Token, Token], workers: int
) -> TorchServeServer:
    """Connect to a TorchServe.

    Args:
        http: http://host:port of its management.
        grpc: host:port of its inference.
        repository: whose versions it serves.
        tokens: for management, and for inference.
        workers: of a released version.

    Raises:
        ServiceUnavailable: it does not answer.
    """
    management, inference = tokens
    return TorchServeServer(
        TorchServeManagement(http, management), TorchServeInfer(grpc, inference), repository, workers
    )


def restore(server: TorchServeServer, repository: ModelRepository) -> dict[str, str]:
    """Serve again what the configurations say, after a start.

    One that cannot be served keeps no other from it: those are returned, with why. Whoever releases one meanwhile
    is waited for. Raises ServiceUnavailable.
    """
    failed = {}
    for name in repository.names():
        try:
            if repository.serving(name).versions:
                with waited_for(repository, name):
                    server.load(name)
        except (ExportError, ManagementRefused, OSError) as error:
            failed[name] = str(error)
    return failed


def is_number(version: str) -> bool:
    """Whether a version is called as ours are."""
    return version.isascii() and version.isdigit()


def keep_clean(repository: ModelRepository) -> None:
    """Delete archives of this repository's models, which are made anew. What else lies there stays."""
    names = repository.names()
    ours = {*names, *(name + CANDIDATE for name in names)}
    for path in store_folder(repository.root).glob("*.mar"):
        name, _, version = path.stem.rpartition("-")
        if name in ours and is_number(version):
            path.unlink(missing_ok=True)
