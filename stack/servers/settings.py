"""Where the stack lives and listens. Every value: a flag, ULTRATHINK_* in the environment, or the default."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from connectors.kafka.identity import CA, SECRETS
from stack.servers.given import BesideAll, BrokerPorts, Port
from stack.servers.ports import free_ports
from trading.errors import ConfigurationError
from trading.files import write_atomically

LOOPBACK = "127.0.0.1"
DEFAULT_HOME = Path(".ultrathink")
#: Of models, in the home folder: Triton's, and TorchServe's.
REPOSITORY, TORCHSERVE_REPOSITORY = "model_repository", "torchserve_repository"
#: In the folder of secrets: TorchServe's token for those that only ask.
INFERENCE_TOKEN = "torchserve-inference"  # noqa: S105 - a file's name
FOLDERS_OF_MODELS = frozenset({"model_repository", "torchserve_repository"})
#: The settings of a stack that was started, in its home folder.
STORED = "stack.json"


#: What we have told this process, in place of a person.
_told: dict[str, str] = {}


#: What is meant to run; each has what stands before it.
Profile = Literal["servers", "desk", "full"]


class ServerPorts(BaseModel):
    """TCP ports on loopback; the defaults are what each program uses elsewhere."""

    model_config = ConfigDict(frozen=True)

    kafka: BrokerPorts = (9092, 9093, 9094)
    kafka_controller: BrokerPorts = (19092, 19093, 19094)
    redis: Port = 6379
    postgres: Port = 5432
    mlflow: Port = 5000
    triton_http: Port = 8000
    triton_grpc: Port = 8001
    triton_metrics: Port = 8002
    prometheus: Port = 9090
    gateway_metrics: Port = 9108
    forensics_metrics: Port = 9109
    broker_metrics: Port = 9110
    metrics: Port = 9111
    experiments_metrics: Port = 9112
    alertmanager: Port = 9095
    data: Port = 8010
    orchestrator: Port = 8030
    stack: Port = 8040
    torchserve_http: Port = 8080
    torchserve_management: Port = 8081
    torchserve_metrics: Port = 8082
    torchserve_grpc: Port = 7070
    torchserve_grpc_management: Port = 7071

    @classmethod
    def automatic(cls) -> Self:
        """Free ports, for tests and for a second stack on the same machine."""
        names = [n for n in cls.model_fields if not n.startswith("kafka")]
        ports = free_ports(6 + len(names))
        return cls(
            kafka=tuple(ports[0:3]),
            kafka_controller=tuple(ports[3:6]),
            **dict(zip(names, ports[6:], strict=True)),
        )


class StackSettings(BaseSettings):
    """What `stack up` starts. Stored in the home folder, so that every command finds the stack."""

    model_config = SettingsConfigDict(
        env_prefix="ULTRATHINK_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    home: Path = DEFAULT_HOME
    profile: Profile = Field(
        default="desk",
        description="servers; desk: gateway, broker, trail and data service too; full: all there is",
    )
    beside: BesideAll = Field(default=(), description="servers beside those of the profile: torchserve")
    desk: dict[str, str] = Field(
        default={}, description="variables of our own processes, ULTRATHINK_GATEWAY_* and such"
    )
    brokers: int = Field(default=1, ge=1, le=3)
    partitions: int = Field(default=4, ge=1, le=256)
    #: Not the checkout's: there lie the configurations that are committed, and a release would change them.
    model_repository: Path = Field(
        default_factory=lambda given: given["home"].expanduser().resolve() / REPOSITORY,
        description="folder that Triton serves",
    )
    torchserve_repository: Path = Field(
        default_factory=lambda given: given["home"].expanduser().resolve() / TORCHSERVE_REPOSITORY,
        description="folder of what TorchServe serves; its model store lies beside it",
    )
    torchserve_workers: int = Field(default=2, ge=1, description="of a model: with two one may die unnoticed")
    ports: ServerPorts = ServerPorts()
    kafka_security: Literal["none", "sasl"] = Field(
        default="none", description="sasl: every client of Kafka has a password and just what its role needs"
    )
    kafka_extra: dict[str, str] = Field(default={}, description="lines for server.properties that override ours")
    least_disk_mb: int = Field(
        default=1024, ge=0, description="left on the home folder's disk; below it the desk reduces"
    )
    alert_webhook: str = Field(default="", description="address that Alertmanager tells; empty: nobody is told")
    log_mb: int = Field(default=20, ge=1, description="of one log; then it is put aside, and five such are kept")
    log_days: float = Field(default=14.0, gt=0, description="after which what was put aside is deleted")
    triton_threads: int = Field(default=1, ge=1, description="CPU threads of one model instance")

    @model_validator(mode="after")
    def _has_a_port_for_each_broker(self) -> Self:
        for name in ("kafka", "kafka_controller"):
            given = getattr(self.ports, name)
            if len(given) < self.brokers:
                raise ValueError(
                    f"ports.{name} is {', '.join(map(str, given))}, and brokers is {self.brokers}: name a port for "
                    f"each, as in ULTRATHINK_PORTS__{name.upper()}=9092,9093,9094"
                )
        return self

    @model_validator(mode="after")
    def _has_no_port_twice(self) -> Self:
        held: dict[int, str] = {}
        for name, value in self.ports:
            for port in value[: self.brokers] if isinstance(value, tuple) else (value,):
                if port in held:
                    raise ValueError(f"port {port} is given to {held[port]} and to {name}: name another for one")
                held[port] = name
        return self

    @property
    def absolute_home(self) -> Path:
        """The home folder, resolved."""
        return self.home.expanduser().resolve()

    @property
    def kafka_bootstrap(self) -> str:
        """Comma-separated broker addresses."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self.ports.kafka[: self.brokers])

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking address."""
        return f"http://{LOOPBACK}:{self.ports.mlflow}"

    @property
    def triton_grpc(self) -> str:
        """Triton's gRPC address, without a scheme."""
        return f"{LOOPBACK}:{self.ports.triton_grpc}"

    def secret(self, name: str) -> str:
        """A password that `stack up` made for this home folder."""
        path = self.absolute_home / "secrets" / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error.strerror}): start the stack first, `ultrathink stack up`"
            ) from error

    @property
    def redis_url(self) -> str:
        """Redis with its password."""
        return f"redis://:{self.secret('redis')}@{LOOPBACK}:{self.ports.redis}/0"

    def postgres_url(self, role: str, database: str = "") -> str:
        """A database as a role sees it; without a name the one that it owns, which bears its own."""
        password = self.secret(f"postgres-{role}")
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.ports.postgres}/{database or role}"

    def tell_clients(self, *, alone: bool = False) -> None:
        """Where this process, and what it starts, finds Kafka's passwords, if a person told it no other place.

        With `alone` it connects to this stack and to no other cluster, and what a person told of one is forgotten.
        """
        if alone:
            for name in (SECRETS, CA):
                os.environ.pop(name, None)
        told = os.environ.get(SECRETS)
        if told is not None and told != _told.get(SECRETS):
            return
        if self.kafka_security == "sasl":
            os.environ[SECRETS] = _told[SECRETS] = os.fspath(self.absolute_home / "secrets")
        elif told is not None:
            # Of another stack, or of before it was switched off.
            del os.environ[SECRETS]

    def save(self) -> None:
        """Write the settings where `load` finds them."""
        write_atomically(self.absolute_home / STORED, self.model_dump_json(indent=2), mode=0o600)


def from_environment(**given: Any) -> StackSettings:
    """Flags that were given, then the environment, then the defaults. Raises ConfigurationError."""
    try:
        return StackSettings(**{k: v for k, v in given.items() if v is not None})
    except (ValidationError, SettingsError) as error:
        raise ConfigurationError(f"a setting or ULTRATHINK_* variable is wrong: {reason(error)}") from error


class _Given(StackSettings):
    """Of what is given alone."""

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing of the environment, which may say something else, or what nobody understands."""
        return (sources["init_settings"],)


def checked(values: dict[str, Any]) -> StackSettings:
    """Settings of these values and the defaults. Raises ValidationError."""
    return StackSettings.model_construct(**dict(_Given(**values)))


def reason(error: Exception) -> str:
    """What is wrong with a setting, and with which."""
    first = error.errors()[0] if isinstance(error, ValidationError) else None
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]])) if first else str(error)


def home_folder() -> Path:
    """The home folder that is meant, whatever lies in it."""
    return Path(os.environ.get("ULTRATHINK_HOME") or DEFAULT_HOME).expanduser().resolve()


def load(home: Path | None = None) -> StackSettings:
    """Settings of the stack in a home folder, or the defaults where none was started.

    Of one that was started nothing is taken from the environment but where it lies: what is wrong with the rest
    keeps nobody from stopping it. Raises ConfigurationError.
    """
    place = home_folder() if home is None else home.expanduser().resolve()
    if not is_started(place):
        return from_environment(home=home)
    found = stored(place)
    found.tell_clients()
    return found


def stored(home: Path) -> StackSettings:
    """What was kept in a home folder. Raises ConfigurationError."""
    path = home / STORED
    try:
        kept = json.loads(path.read_bytes())
        if not isinstance(kept, dict):
            raise TypeError(f"it holds {type(kept).__name__}, no settings")
        return checked({**kept, "home": home, "ports": with_new_ports(kept.get("ports") or {})})
    except (ValidationError, TypeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {reason(error)}. Mend it, or take it away: `ultrathink stack up` writes it "
            "anew, from its flags and ULTRATHINK_* variables"
        ) from error


def with_new_ports(kept: dict[str, Any]) -> dict[str, Any]:
    """Ports of a version that had fewer, and the defaults of the others, moved where one is taken by those."""
    found = dict(kept)
    for name, field in ServerPorts.model_fields.items():
        if name not in found and isinstance(port := field.default, int):
            taken = {p for value in found.values() for p in (value if isinstance(value, list) else [value])}
            found[name] = next(p for p in range(port, 65536, 100) if p not in taken)
    return found


def differences(kept: StackSettings, wanted: StackSettings) -> list[str]:
    """What two stacks of one home folder differ in, for people: names, what is kept and what is wanted."""
    before, after = kept.model_dump(mode="json"), wanted.model_dump(mode="json")
    found = []
    for name in before.keys() - {"home"}:
        if name == "ports":
            pairs = [(f"ports.{k}", before[name][k], after[name][k]) for k in before[name]]
        elif name == "desk":
            pairs = [
                (k, before[name].get(k, "not set"), after[name].get(k, "not set"))
                for k in before[name] | after[name]
            ]
        elif name == "alert_webhook":
            pairs = [(name, "one address", "another")] if before[name] != after[name] else []
        else:
            pairs = [(name, before[name], after[name])]
        found += [f"{what} is {old}, asked for is {new}" for what, old, new in pairs if old != new]
    return sorted(found)


def chosen(**given: Any) -> StackSettings:
    """What was given now, by flag or environment; else what was chosen when the stack was first started here.

    So whoever starts a stack anew, from wherever, need not know how it was started. Raises ConfigurationError.
    """
    told = from_environment(**given)
    if not is_started(told.absolute_home):
        return told.model_copy(
            update={name: getattr(told, name).expanduser().resolve() for name in FOLDERS_OF_MODELS}
        )
    kept = load(told.home)
    changes = {name: getattr(told, name) for name in told.model_fields_set - {"home", "ports"}}
    if "desk" in changes:
        # One at a time; an empty value takes back what was chosen before.
        changes["desk"] = {name: value for name, value in {**kept.desk, **told.desk}.items() if value}
    for name in FOLDERS_OF_MODELS & changes.keys():
        changes[name] = getattr(told, name).expanduser().resolve()
    ports = {name: getattr(told.ports, name) for name in told.ports.model_fields_set}
    merged = {**kept.model_dump(), **changes, "ports": {**kept.ports.model_dump(), **ports}}
    try:
        return checked(merged)
    except ValidationError as error:
        raise ConfigurationError(
            f"{reason(error)}; the rest is what {kept.absolute_home / STORED} keeps of the stack's first start"
        ) from error


def is_started(home: Path) -> bool:
    """Whether a stack was started in a home folder, and its settings are kept there."""
    return (home / STORED).is_file()


def free_disk_mb(path: Path) -> int:
    """Free space of the nearest folder that exists, in MB."""
    while not path.exists():
        path = path.parent
    return int(psutil.disk_usage(os.fspath(path)).free // 2**20)
