"""The orchestrator of this desk, and what it works with."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from stack.processes.own import PROGRAM
from stack.servers.settings import load
from stack.supervision.cgroups import find_groups
from stack.supervision.orphans import marker
from stack.workflows.asking import place_of_experiments
from stack.workflows.orchestrator.asked import RUN, check
from stack.workflows.orchestrator.latency import GatewayLatency
from stack.workflows.orchestrator.sensing import sensors_of
from trading.errors import ConfigurationError, ServiceUnavailable
from trainers import memory_budget
from trainers.orchestrator.admission import MB, Pool
from trainers.orchestrator.executors import kubernetes, local, manifests
from trainers.orchestrator.main import Wiring, run
from trainers.orchestrator.ports import Executor
from trainers.orchestrator.service import Surroundings
from trainers.orchestrator.settings import OrchestratorSettings
from trainers.orchestrator.store import Store

#: Of what is free at the start, where nobody says more.
SHARE = 0.6
#: What steps are marked as: with the orchestrator's own mark they would be ended with it.
STEPS = "orchestrator/steps"
BUILT = re.compile(r"[0-9a-f]{12}")


def serve(settings: OrchestratorSettings, listening: Callable[[int], None]) -> None:
    """Move the desk's runs on until SIGTERM or SIGINT; see `trainers.orchestrator.main.run`."""
    desk = GatewayLatency(settings.desk_metrics) if settings.desk_metrics else None
    # Sensors read what runs came to, as anybody may.
    with closing(Store(settings.postgres_url.get_secret_value())) as store:
        around = Surroundings(executor_of(settings), sensors_of(settings, store), desk, Served())
        run(settings, Wiring(around, check), listening)


def executor_of(settings: OrchestratorSettings) -> Executor:
    """Where steps run. Raises ConfigurationError."""
    if settings.executor == "kubernetes":
        if settings.job_template is None:
            raise ConfigurationError("ULTRATHINK_ORCHESTRATOR_JOB_TEMPLATE names no file: Jobs need a template")
        if not settings.memory_mb:
            raise ConfigurationError("ULTRATHINK_ORCHESTRATOR_MEMORY_MB: say what of the cluster steps may take")
        asked, namespace = kubernetes.from_within()
        pool = Pool(f"kubernetes {namespace}", settings.memory_mb, settings.gpu_memory_mb, settings.at_once)
        return kubernetes.KubernetesExecutor(pool, manifests.read_template(settings.job_template), asked, namespace)
    memory = settings.memory_mb or int(SHARE * memory_budget.available_bytes() / MB)
    pool = Pool(local.space_id(), memory, settings.gpu_memory_mb, settings.at_once, platform.node())
    home = load().absolute_home
    groups = find_groups(home / "orchestrator-steps")
    if groups is not None:
        # Those of steps that ended while nobody looked.
        groups.sweep()
    return local.LocalExecutor(
        pool, [str(PROGRAM), "orchestrator", "step"], settings.folder / "logs",
        {"ULTRATHINK_HOME": str(home), **marker(home, STEPS)}, groups,
    )  # fmt: skip


class Served:
    """Implements Keeping: MLflow knows of each version which run has made it, and the repository what was
    served.
    """

    def forget(self, dataset: str) -> None:
        """See Keeping."""
        folder = Path(dataset)
        # What a training builds itself is named by what it is made of.
        if folder.parent == load().absolute_home / "datasets" and BUILT.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)

    def kept(self) -> list[str]:
        """See Keeping. Raises ServiceUnavailable."""
        from exporters.errors import ExportError
        from exporters.release.journal import Journal
        from exporters.sources.registry import connect, tag_of_run

        place, mlflow_uri = place_of_experiments()
        repository, asked, found = place.repository, connect(mlflow_uri), set[str]()
        try:
            released = {(t.begun.model, t.begun.version) for t in Journal(repository.journal).transactions()}
            for name, version in released:
                # One that was pruned since is no reason to keep anything.
                if version in repository.versions(name):
                    runs = repository.lineage(name, version).run_ids
                    found |= {tag_of_run(asked, run, RUN) for run in runs.values() if run}
        except ExportError as error:
            raise ServiceUnavailable(f"what was released cannot be read: {error}") from error
        return sorted(found - {""})
