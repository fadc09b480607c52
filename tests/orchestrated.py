"""An orchestrator whose steps take no time: its processes are real, and so is PostgreSQL.

`python -m tests.orchestrated serve URL FOLDER` is one; `python -m tests.orchestrated step URL RUN FENCE` a step.
What a step does others can see: it makes a file that nobody has made, so that what was done twice is told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

from tests.waiting import eventually
from trading.errors import ConfigurationError, ServiceUnavailable
from trainers.orchestrator.cycle import KINDS, REJECT
from trainers.orchestrator.executors.local import own_reference
from trainers.orchestrator.step import StepRejected, run_step
from trainers.orchestrator.store import Store

TOKEN = "orchestrated"
POOL_MB = 6_000


def toy(context):
    """What the spec says of the step: how long it takes, and how it ends."""
    told, step = context.spec, context.run.step
    context.progress(f"toy {step}", 1, 2)
    time.sleep(told.get("work_s", 0.0))
    how = told.get("ends", {}).get(step, "done")
    if how == "memory" and context.run.divisor < told.get("fits_at", 2):
        raise MemoryError("a batch does not fit")
    if how == "away" and context.fence < told.get("back_at", 3):
        raise ServiceUnavailable("MLflow does not answer")
    if how == "wrong":
        raise ConfigurationError("the data are none")
    if how == "rejected":
        raise StepRejected("no edge")
    if how == "bug":
        raise KeyError("a fault of ours")
    if how == "exit":
        os._exit(9)
    context.check()
    made = Path(told["folder"]) / f"{context.run.id}.{step}"
    fresh = not made.exists()
    if fresh:
        made.touch()
    return {"fence": context.fence, "fresh": fresh, "divisor": context.run.divisor}


STEPS = {step: toy for steps in KINDS.values() for step in steps} | {REJECT: toy}


def serve(url, folder, memory_mb=POOL_MB, at_once=4, desk_port=0):
    """An orchestrator of toy steps; it yields to a desk whose metrics are at a port."""
    # Steps do not wait for what they do not need.
    from stack.workflows.orchestrator.latency import GatewayLatency
    from trainers.orchestrator.admission import Pool
    from trainers.orchestrator.executors import local
    from trainers.orchestrator.executors.local import LocalExecutor
    from trainers.orchestrator.main import Wiring, run
    from trainers.orchestrator.service import Surroundings
    from trainers.orchestrator.settings import OrchestratorSettings

    settings = OrchestratorSettings(
        postgres_url=url, port=0, token=TOKEN, folder=folder, nice=0, cool_down="1s", most_a_day=10_000
    )
    pool = Pool(local.space_id(), memory_mb, 0, at_once)
    command = [sys.executable, "-m", "tests.orchestrated", "step", url]
    executor = LocalExecutor(pool, command, Path(folder) / "logs")

    def listening(port):
        Path(folder, f"port-{os.getpid()}").write_text(str(port))

    desk = GatewayLatency(f"http://127.0.0.1:{desk_port}/metrics", 2.0) if desk_port else None
    run(settings, Wiring(Surroundings(executor, desk=desk), lambda _: None), listening)


class Orchestrator:
    """One as a process, that can be hurt."""

    def __init__(self, url, folder, *more):
        self.url, self.folder, self._more, self.process = url, Path(folder), more, None

    def start(self):
        with (self.folder / "orchestrator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.orchestrated", "serve", self.url, str(self.folder), *map(str, self._more)],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def port(self):
        path = self.folder / f"port-{self.process.pid}"
        return int(eventually(lambda: path.exists() and path.read_text(), 60))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(40) == 0, (self.folder / "orchestrator.log").read_text()[-2000:]


@contextmanager
def orchestrator(url, folder, *more):
    """Started, and ended."""
    one = Orchestrator(url, folder, *more).start()
    try:
        yield one
        one.end()
    finally:
        one.kill()


@contextmanager
def opened(url):
    """The store."""
    with closing(Store(url)) as store:
        yield store


def main():
    match sys.argv[1:]:
        case ["serve", url, folder, *more]:
            serve(url, folder, *map(int, more))
        case ["step", url, run_id, fence]:
            with opened(url) as store:
                raise SystemExit(run_step(store.runs, run_id, int(fence), STEPS, own_reference()))


if __name__ == "__main__":
    main()
