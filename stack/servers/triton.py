"""Triton Inference Server from the nvidia-pytriton wheel, with our two Python-based backends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from connectors.triton import grpc as grpcclient
from connectors.triton.errors import InferenceServerException
from exporters.errors import ExportError
from exporters.repository.repository import ModelRepository
from stack.servers.model_loads import ModelLoads, over
from stack.servers.model_processes import ModelProcesses
from stack.servers.plain_paths import plain
from stack.servers.server import AtWork, NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ConfigurationError
from trading.models.signature import TRADING_DECISION

BACKENDS = Path(__file__).with_name("files") / "triton_backends"


def is_installed() -> bool:
    """Whether the extra `embedded` is."""
    return importlib.util.find_spec("pytriton") is not None


def wheel() -> Path:
    """The server's folder inside the wheel."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "nvidia-pytriton is not installed: `make setup`, or the extra 'embedded', brings it"
        )
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def shared_libpython() -> Path:
    """The backend's stub is linked against libpython; a static Python has none."""
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    names = [f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"]
    for candidate in (folder, Path("/usr/lib/x86_64-linux-gnu")):
        if (candidate / names[0]).is_file():
            return candidate
    raise ConfigurationError(
        f"{names[0]} is neither in {folder} nor in the system's folder: Triton's Python backend needs it. "
        "Install it (Debian: apt-get install libpython3.11) or use a Python from uv or pyenv --enable-shared"
    )


def install_backends(folder: Path) -> None:
    """A backend folder of our own: the wheel's Python backend with the stub of this Python, and ours."""
    source = wheel()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = source / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ConfigurationError(f"this Triton has no Python backend for Python {version}: use 3.11 to 3.13")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / "backends" / "python", folder / "python")
    shutil.copy2(stub, folder / "python" / "triton_python_backend_stub")
    (folder / "python" / "triton_python_backend_stub").chmod(0o755)
    for backend in ("onnxruntime", "pytorch"):
        shutil.copytree(BACKENDS / backend, folder / backend)
        shutil.copy2(BACKENDS / "ultrathink_answers.py", folder / backend)


def service(settings: StackSettings) -> Service:
    """Explicit model control: nothing is loaded because a file lies somewhere."""
    folder, ports = settings.absolute_home / "triton", settings.ports
    repository = settings.model_repository.expanduser().resolve()
    models = ModelProcesses(repository, lambda: served_alone(repository))
    loads = ModelLoads(over(settings.triton_grpc), lambda: released(repository), decides_by(settings))
    return Service(
        name="triton",
        endpoint=settings.triton_grpc,
        ports=(ports.triton_http, ports.triton_grpc, ports.triton_metrics),
        command=lambda: command(settings, folder, repository),
        probe=Probe(settings.triton_grpc, (repository, folder, wheel()), loads),
        memory_limit_mb=4096,
        broken=models,
        troubles=lambda: [*models.troubles(), *loads.troubles()],
        environment=lambda: environment(settings.triton_threads),
        prepare=lambda: prepare(folder, repository, loads),
        folder=folder,
    )


def prepare(folder: Path, repository: Path, loads: ModelLoads) -> None:
    """Folders, and a backend folder of our own, for a server that has loaded nothing yet."""
    loads.start_anew()
    shared_libpython()
    folder.mkdir(parents=True, exist_ok=True)
    repository.mkdir(parents=True, exist_ok=True)
    install_backends(folder / "backends")


def command(settings: StackSettings, folder: Path, repository: Path) -> list[str]:
    """The server's command line; on loopback only, and with no model: `ModelLoads` asks for them."""
    ports = settings.ports
    return [
        str(wheel() / "bin" / "tritonserver"),
        f"--model-repository={plain(repository)}",
        "--model-control-mode=explicit",
        "--model-config-name=cpu",
        "--disable-auto-complete-config",
        f"--backend-directory={plain(folder) / 'backends'}",
        f"--cache-directory={plain(wheel()) / 'caches'}",
        *(f"--http-address={LOOPBACK}", f"--http-port={ports.triton_http}"),
        *(f"--grpc-address={LOOPBACK}", f"--grpc-port={ports.triton_grpc}"),
        *(f"--metrics-address={LOOPBACK}", f"--metrics-port={ports.triton_metrics}"),
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=5",
        # A version that cannot load must not take the server down: it is asked per model.
        "--exit-on-error=false",
        # Or a version on trial that does not load would make the server "not ready".
        "--strict-readiness=false",
    ]


def environment(threads: int) -> dict[str, str]:
    """What the server and its Python backends need; `threads` of one model instance."""
    libraries = [str(wheel().parents[1] / "nvidia_pytriton.libs"), str(shared_libpython())]
    # The stub takes the first python3 on PATH as its interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": path,
        "ULTRATHINK_TRITON_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore",
        # Its models import what is beside them, and nothing of the caller's.
        "PYTHONPATH": "",
    }


class Probe:
    """Asks over one connection, as long as it is answered over it: to connect costs more than to ask."""

    def __init__(self, address: str, folders: Sequence[Path] = (), loads: ModelLoads | None = None) -> None:
        """`folders` are those that the server may know by links, which somebody may clear away with a cache."""
        self._address, self._folders, self._loads = address, folders, loads
        self._client: grpcclient.InferenceServerClient | None = None

    def __call__(self) -> str:
        """The server's version; raises NotReady, and AtWork while it loads."""
        for folder in self._folders:
            plain(folder)
        client, self._client = self._client or grpcclient.InferenceServerClient(self._address), None
        try:
            if not client.is_server_ready(client_timeout=1.0):
                raise NotReady("the server says that it is not ready")
            index = client.get_model_repository_index(client_timeout=1.0)
            version = str(client.get_server_metadata(client_timeout=1.0).version)
            self._client = client
            self._raise_while_loading(index.models)
        except InferenceServerException as error:
            raise NotReady(error.message() or "no answer") from error
        finally:
            if self._client is None:
                client.close()
        return version

    def _raise_while_loading(self, known: Iterable[Any]) -> None:
        states = defaultdict[str, list[str]](list)
        for one in known:
            states[one.name].append(one.state)
        if self._loads is not None and (left := self._loads.left(states)):
            raise AtWork(f"loads {', '.join(left)}")


def served_alone(repository: Path) -> set[str]:
    """Released models that have a process of their own: an ensemble has no file, and no process."""
    found, names = ModelRepository(repository), set[str]()
    for name in found.names():
        # One whose configuration cannot be read is nobody's reason to end the others.
        with contextlib.suppress(ExportError):
            versions = found.serving(name).versions
            if versions and any(found.folder(name, max(versions)).glob("model.*")):
                names.add(name)
    return names


def decides_by(settings: StackSettings) -> str:
    """The model that the desk's gateway asks; "" where the stack has no gateway of its own."""
    name = "ULTRATHINK_GATEWAY_MODEL_NAME"
    asked = settings.desk.get(name) or TRADING_DECISION.name
    return "" if settings.profile == "servers" else asked


def released(repository: Path) -> list[str]:
    """What a restarted server must serve again: every model with a released version."""
    found, names = ModelRepository(repository), list[str]()
    for name in found.names():
        # One whose configuration cannot be read is nobody's reason to leave the others.
        with contextlib.suppress(ExportError, OSError):
            if found.serving(name).versions:
                names.append(name)
    return names
