"""An experiment on a series of gateways, watched by a process of its own: chaos hurts it, benchmarks measure it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.repository.repository import ModelRepository
from gateway.settings import GatewaySettings
from stack.processes.gateway import GatewayProcess, SeriesTopics
from stack.processes.own import OwnProcess
from stack.processes.settings import made
from stack.servers.loopback import client
from stack.servers.ports import free_ports
from stack.servers.settings import LOOPBACK, StackSettings
from stack.workflows.experiments.commanding import boundary, clocks, command, experiment_of
from trading.errors import ServiceUnavailable, UltraThinkError
from trading.experiments.definition import ExperimentDefinition, ServedModel
from trading.experiments.register import Experiment, ExperimentState, ExperimentWord
from trading.models.signature import TRADING_DECISION

WATCHED_S = 90.0


class HostedExperiment:
    """Started, ramped, watched and stopped without a person.

    Attributes:
        gateways: settings of the series' gateways.
        watching: the process that watches, to be hurt.
    """

    def __init__(
        self, settings: StackSettings, topics: SeriesTopics, definition: ExperimentDefinition, folder: Path
    ) -> None:
        """Prepare.

        Args:
            settings: of a stack that is up and serves the champion.
            topics: of the series whose ticks are divided.
            definition: of the experiment.
            folder: of the checkpoints.
        """
        self._definition, self._port = definition, free_ports(1)[0]
        servers = {
            "kafka_bootstrap": settings.kafka_bootstrap,
            "triton_url": settings.triton_grpc,
            "redis_url": settings.redis_url,
        }
        self.gateways = made(GatewaySettings, servers | topics.settings())
        gateway = {f"ULTRATHINK_GATEWAY_{name.upper()}": value for name, value in topics.settings().items()}
        own = {
            "FOLDER": str(folder),
            "EXPERIMENTS_TOPIC": topics.topics.experiments,
            "METRICS_PORT": str(self._port),
            "KEEP_S": "1.0",
        }
        environment = gateway | {f"ULTRATHINK_EXPERIMENTS_{name}": value for name, value in own.items()}
        self.watching = OwnProcess(settings, ("experiment", "run"), f"experiments-{topics.series}", environment)

    def begin(self) -> None:
        """Make it known, start it, and wait until it is watched. Raises UltraThinkError."""
        self.watching.start()
        self._say(ExperimentWord("create", self._definition.name, self._definition))
        self._say(ExperimentWord("start", self._definition.name))
        self.wait_until_watched()

    def ramp(self, share: float, lead_ns: int) -> int:
        """Give its challengers a share; the first block of it, which lies so far ahead. Raises UltraThinkError."""
        steps = self.now().steps
        block = boundary(self._definition, clocks(self.gateways), lead_ns).block
        block = max(block, steps[-1].from_block + 1 if steps else 0)
        self._say(ExperimentWord("ramp", self._definition.name, share=share, from_block=block))
        return block

    def stop(self) -> None:
        """Put the champion back. Raises UltraThinkError."""
        self._say(ExperimentWord("stop", self._definition.name))

    def wait_until_asked(self, gateway: GatewayProcess) -> None:
        """Until its challengers are loaded, and a gateway is connected to them. Raises ServiceUnavailable."""
        deadline = time.monotonic() + WATCHED_S
        while (told := asked(gateway).get(self._definition.name, ())) != ["closed"] * len(
            self._definition.challengers
        ):
            if time.monotonic() > deadline:
                name = self._definition.name
                raise ServiceUnavailable(f"{name}: its challengers are not asked: {'; '.join(told) or 'unknown'}")
            time.sleep(0.2)

    def close(self) -> None:
        """Put the champion back, and end its watcher, which unloads its challengers; whatever happens, it ends."""
        try:
            # Whatever it is: what failed before is to be told, and not that this cannot be done.
            with suppress(UltraThinkError):
                if self.now().state is ExperimentState.RUNNING:
                    self.stop()
            with suppress(UltraThinkError):
                self.watching.drain()
        finally:
            self.watching.kill()

    def now(self) -> Experiment:
        """As the log has it. Raises UltraThinkError."""
        return experiment_of(self.gateways, self._definition.name)

    def metrics(self) -> Mapping[str, float]:
        """Name with labels -> value; empty while the process does not answer."""
        with suppress(httpx.HTTPError):
            text = client().get(f"http://{LOOPBACK}:{self._port}/metrics", timeout=5.0).text
            lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in lines}
        return {}

    def wait_until_watched(self, *sides: str) -> None:
        """From these sides; none given are all. Raises ServiceUnavailable with the end of its log."""
        deadline = time.monotonic() + WATCHED_S
        sides = sides or (("desk", "shadow") if self._definition.kind == "canary" else ("shadow",))
        name = self._definition.name
        wanted = [f'experiments_watched{{experiment="{name}",where="{side}"}}' for side in sides]
        while not all(self.metrics().get(one) for one in wanted):
            if self.watching.ended() is not None or time.monotonic() > deadline:
                raise self.watching.failure(f"{name} is not watched")
            time.sleep(0.1)

    def _say(self, word: ExperimentWord) -> None:
        command(self.gateways, word, "nobody is asked: a trial", "a trial")


def asked(gateway: GatewayProcess) -> dict[str, list[str]]:
    """Experiment -> how a gateway is connected to each of its challengers; empty while it does not answer."""
    with suppress(httpx.HTTPError, ValueError, KeyError):
        status = client().get(f"http://{LOOPBACK}:{gateway.port}/status", timeout=5.0).json()
        return {one["experiment"]: list(one["challengers"].values()) for one in status["experiments"]}
    return {}


def champion_of(settings: StackSettings, model: str = TRADING_DECISION.name) -> ServedModel:
    """What is released of a model. Raises ServiceUnavailable where nothing is."""
    version = ModelRepository(settings.model_repository).serving(model).released
    if version is None:
        raise ServiceUnavailable(f"{model} has no released version")
    return ServedModel(model, version)


def new_challenger(settings: StackSettings) -> ServedModel:
    """The pipeline exported once more as one graph, which nobody serves. Raises ExportError."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    options = Options(settings.mlflow_uri, container, gpu, "challenger")
    repository = ModelRepository(settings.model_repository)
    published = export_pipeline(TRADING_DECISION.name, options, repository, lambda _: None, fuse=True)
    name = f"{TRADING_DECISION.name}_fused"
    return ServedModel(name, next(one.version for one in published if one.name == name))
