"""Two configurations of the gateway, loaded in turns on the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct, structs

from loadtest.errors import InvalidRun
from loadtest.measuring.result import RunResult
from loadtest.open_loop.drive import Load, drive
from stack.processes.gateway import running_gateway
from stack.servers.settings import StackSettings
from stack.workflows.loadtest.load_target import place_of
from stack.workflows.sandbox import sandbox
from trading.errors import ConfigurationError, ServiceUnavailable

ROOT = Path(__file__).resolve().parents[3]
#: What the gateway's settings call it, where ours is shorter.
NAMES = {"model": "model_name"}


class Configuration(Struct, frozen=True):
    """A configuration: settings of the gateway, how many brokers, and which commit ("": the code as it is)."""

    text: str
    gateway: dict[str, str]
    brokers: int = 1
    commit: str = ""

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """Read "model=trading_decision_fused,delivery=at-least-once,brokers=3,commit=HEAD~1", or "default".

        Raises ConfigurationError.
        """
        brokers, commit, given = 1, "", {}
        for part in () if text == "default" else text.split(","):
            name, equals, value = part.strip().partition("=")
            if not equals or not name or not value:
                raise ConfigurationError(
                    f"{part!r} of {text!r}: expected NAME=VALUE (model, delivery, brokers, commit, or a setting of "
                    "the gateway), default, or a result.json"
                )
            if name == "brokers":
                if value not in {"1", "3"}:
                    raise ConfigurationError(f"brokers={value}: expected 1 or 3")
                brokers = int(value)
            elif name == "commit":
                commit = value
            else:
                given[NAMES.get(name, name)] = value
        unknown = set(given) - known_settings()
        if unknown:
            raise ConfigurationError(f"{text!r}: the gateway has no setting {', '.join(sorted(unknown))}")
        return cls(text, given, brokers, commit)


def known_settings() -> set[str]:
    """Names of the gateway's settings."""
    from gateway.settings import GatewaySettings

    return set(GatewaySettings.model_fields)


@contextmanager
def code_of(commit: str) -> Iterator[dict[str, str]]:
    """Environment in which the gateway is that of a commit, compiled; removed at the end.

    Raises ConfigurationError for a commit that is not there.
    """
    if not commit:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="ultrathink-commit-") as folder:
        tree = Path(folder) / "tree"
        done = git("worktree", "add", "--detach", os.fspath(tree), commit)
        if done.returncode:
            raise ConfigurationError(f"commit={commit}: {(done.stderr.strip().splitlines() or ['git failed'])[-1]}")
        try:
            environment = {"PYTHONPATH": os.fspath(tree)}
            compiled = subprocess.run(
                [sys.executable, "-m", "gateway.precompile"],
                cwd=tree,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            if compiled.returncode:
                raise ConfigurationError(f"commit={commit} does not compile: {compiled.stderr.strip()[-300:]}")
            yield environment
        finally:
            git("worktree", "remove", "--force", os.fspath(tree))


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In this repository."""
    return subprocess.run(["git", "-C", os.fspath(ROOT), *arguments], capture_output=True, text=True, check=False)


#: What a stack of its own takes to come up with models exported, a gateway to come and go, and another commit's
#: code to compile; seconds, on two cores.
SET_UP_S, GATEWAY_S, COMPILE_S = 60.0, 6.0, 60.0


def seconds_of_turns(sides: Sequence[Configuration], load: Load, turns: int) -> float:
    """About how long `in_turns` takes."""
    desks = len({side.brokers for side in sides})
    run_s = load.warm_up_s + (load.duration_s or 0.0) + GATEWAY_S
    return desks * (SET_UP_S + run_s) + COMPILE_S * sum(bool(side.commit) for side in sides) + 2 * turns * run_s


def order(turns: int) -> list[int]:
    """A B B A A B B A …: neither side is always first, and a slow change of the machine hurts both alike."""
    return [(k + 1) // 2 % 2 for k in range(2 * turns)]


def in_turns(
    sides: Sequence[Configuration],
    load: Load,
    turns: int,
    show: Callable[[str], None],
) -> tuple[list[RunResult], list[RunResult]]:
    """Run both sides `turns` times each.

    Args:
        sides: A and B. Both decide on the same stack, unless they differ in brokers: then each has its own, both up
            all the time.
        load: what is sent; its bootstrap is set.
        turns: of each side; before them each desk is loaded once unmeasured, for a new broker compiles itself.
        show: told what is going on.

    Raises:
        ConfigurationError: a side cannot be configured so.
        InvalidRun: a desk does not come up, or nothing comes of a run.
    """
    found: tuple[list[RunResult], list[RunResult]] = ([], [])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ultrathink-compare-")))
        code = [stack.enter_context(code_of(side.commit)) for side in sides]
        try:
            desks: dict[int, StackSettings] = {}
            for side in sides:
                if side.brokers not in desks:
                    home = folder / f"home-{side.brokers}"
                    desks[side.brokers] = stack.enter_context(sandbox(home, brokers=side.brokers, show=show))
            for brokers, settings in desks.items():
                show(f"warming up the desk with {brokers} broker{'s' * (brokers > 1)}")
                with running_gateway(settings):
                    drive(structs.replace(load, bootstrap=settings.kafka_bootstrap))
            for number, k in enumerate(order(turns)):
                side, settings = sides[k], desks[sides[k].brokers]
                show(f"run {number + 1} of {2 * turns}: {'AB'[k]} ({side.text})")
                with running_gateway(settings, environment=code[k], **side.gateway):
                    place = place_of(settings)
                    found[k].append(
                        drive(
                            structs.replace(load, bootstrap=place.bootstrap),
                            servers=place.servers,
                            settings={"side": side.text, "turn": str(len(found[k]) + 1)},
                        )
                    )
        except ServiceUnavailable as error:
            raise InvalidRun(str(error)) from error
    return found
