"""Our options, checks and gates in Locust: importing this registers them with its events."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import psutil
from locust import events
from locust.runners import WorkerRunner

from loadtest.closed_loop.correction import Watch
from loadtest.closed_loop.page import extend
from loadtest.closed_loop.where import addresses, stack_here
from loadtest.errors import InvalidRun
from loadtest.judging.gates import EXIT_CODES, judge
from loadtest.judging.targets import DEFAULT, Target, read
from loadtest.measuring import preflight
from loadtest.measuring.result import RunResult
from loadtest.open_loop.child_process import brokers_here, ends_of
from loadtest.open_loop.rows import DEFAULT_SOURCE, shapes_of
from loadtest.report import fresh, rows, write_all
from loadtest.report.texts import COLUMNS
from loadtest.users import EndToEndUser
from loadtest.users.base import TIMEOUT_S, PacedUser, rows_of
from loadtest.users.end_to_end import DECISIONS, TICKS, DeskConnection
from loadtest.users.torchserve import TorchServeUser
from loadtest.users.triton_grpc import GrpcUser
from loadtest.users.triton_http import HttpUser
from trading.errors import UltraThinkError
from trading.history import open_source
from trading.models.rows import read_rows

#: Our part of a worker's report.
WATCHED = "ultrathink"
LONGEST = 60


class State:
    """Of this process's test."""

    watch = Watch()
    began = 0.0
    started_at = ""
    invalid = ""
    warm_up_s = 0.0


@events.init_command_line_parser.add_listener
def options(parser: Any) -> None:
    """Where the servers are, what is sent, and what judges."""
    # Locust listens everywhere by default; whoever wants that says --web-host or --master-bind-host.
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1")
    # Users end between two calls: one that is killed within a gRPC call leaves a channel that cannot be closed, and
    # the process hangs in closing it.
    parser.set_defaults(stop_timeout=TIMEOUT_S + 1.0)
    add, here = parser.add_argument, addresses(stack_here())
    add("--triton-grpc", default=here["triton_grpc"], env_var="ULTRATHINK_TRITON_GRPC", help="Triton's gRPC.")
    add("--triton-http", default=here["triton_http"], env_var="ULTRATHINK_TRITON_HTTP", help="Triton's HTTP.")
    add(
        "--torchserve-grpc", default=here["torchserve_grpc"], env_var="ULTRATHINK_TORCHSERVE_GRPC",
        help="TorchServe's gRPC for inference.",
    )  # fmt: skip
    add(
        "--torchserve-token-file", default=here["torchserve_token"], env_var="ULTRATHINK_TORCHSERVE_TOKEN_FILE",
        help="File with its token for inference.", include_in_web_ui=False,
    )  # fmt: skip
    add("--data-service", default=here["data_service"], env_var="ULTRATHINK_DATA_SERVICE", help="Its HTTP.")
    add(
        "--data-token", default="", env_var="ULTRATHINK_DATA_TOKEN", is_secret=True,
        help="For it, with the scope market; it is not shown on the page.",
    )  # fmt: skip
    add("--kafka", default=here["kafka"], env_var="ULTRATHINK_KAFKA", help="Kafka's bootstrap addresses.")
    add("--model", default="trading_decision", help="Which model: any that Triton serves.")
    add("--batch", type=int, default=8, help="Rows of a call.")
    add("--data", default=DEFAULT_SOURCE, help="A SOURCE of ticks and feature rows.")
    add("--rows", default="", help="Rows of a model's own: .npy, .npz, .csv or .parquet; else they are made up.")
    add("--shape", default="", help="A row's dims where the server leaves them open: NAME:DIM,DIM, spaces between.")
    add("--warm-up", type=float, default=3.0, help="Seconds at the beginning that do not count.")
    add("--targets", default=str(DEFAULT), help="YAML of targets.", include_in_web_ui=False)
    add("--results", default="", help="Folder for JSON, JUnit XML, Markdown and HTML.", include_in_web_ui=False)
    add("--allow-remote", action="store_true", help="Targets may be on another machine.", include_in_web_ui=False)
    add("--peak-users", type=int, default=20, help="Of a shape: its most users.")
    add("--shape-time", type=float, default=60.0, help="Of a shape: its length in seconds.")


@events.init.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Drop users of whom the tags left nothing; headless, check the targets before anything is started."""
    options = environment.parsed_options
    environment.user_classes = [u for u in environment.user_classes if chosen(u, options)]
    State.warm_up_s = options.warm_up
    if isinstance(environment.runner, WorkerRunner):
        return
    try:
        targets = check_options(environment)
        if environment.web_ui is not None:
            extend(environment.web_ui, lambda: judged_all(options, targets))
        if options.headless:
            check_users(environment)
    except UltraThinkError as error:
        print(f"error: {error}", file=sys.stderr)
        # Workers that --processes forked would wait a minute for a master that is gone.
        for worker in psutil.Process().children() if options.processes else ():
            worker.terminate()
        sys.exit(EXIT_CODES["invalid"])


def chosen(user: Any, options: Namespace) -> bool:
    """Whether the tags leave a user any task; one that lacks what he needs takes part only by his tag."""
    wanted, unwanted = set(options.tags or ()), set(options.exclude_tags or ())
    if not wanted and not all(getattr(options, name, "") for name in getattr(user, "needs", ())):
        return False
    tags: list[set[str]] = [getattr(t, "locust_tag_set", set()) for t in user.tasks]
    return any((not wanted or wanted & t) and not unwanted & t for t in tags)


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    """A test of the page begins: nothing is kept of the one before."""
    State.watch, State.invalid = Watch(), ""
    State.began, State.started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    options = environment.parsed_options
    State.warm_up_s = options.warm_up
    if options.headless or isinstance(environment.runner, WorkerRunner):
        return
    try:
        environment.proves_nothing = False
        check_users(environment)
    except UltraThinkError as error:
        environment.proves_nothing = True
        # The page shows it among the exceptions; a test that cannot say anything ends.
        State.invalid = str(error)
        print(f"error: {error}", file=sys.stderr)
        environment.runner.log_exception("local", f"the test proves nothing: {error}", "")
        gevent.spawn_later(0.2, environment.runner.stop)


def check_options(environment: Any) -> dict[str, Target]:
    """The targets, and what else can be known before anybody is asked.

    Raises ConfigurationError, or OSError's sentence as one.
    """
    options = environment.parsed_options
    targets = read(Path(options.targets))
    if not environment.user_classes:
        raise InvalidRun("no user is left: see the tags in docs/loadtest.md")
    for user in environment.user_classes:
        if issubclass(user, PacedUser) and user.target not in targets:
            raise InvalidRun(f"{options.targets} has no target {user.target!r}, which judges {user.__name__}")
    for name, least in (("batch", 1), ("warm_up", 0), ("peak_users", 1), ("shape_time", 1)):
        if getattr(options, name) < least:
            raise InvalidRun(f"--{name.replace('_', '-')} {getattr(options, name)}: at least {least}")
    # Whatever is wrong with what is sent is known before anybody is asked.
    shapes_of(options.shape.split())
    if options.rows:
        read_rows(Path(options.rows))
    else:
        open_source(options.data)
    if "//" not in options.triton_http:
        options.triton_http = f"http://{options.triton_http}"
    if options.results:
        fresh(Path(options.results), [u.target for u in environment.user_classes if issubclass(u, PacedUser)])
    return targets


def check_users(environment: Any) -> None:
    """The target is ours, answers and takes the rows. Raises InvalidRun, or SourceError."""
    options = environment.parsed_options
    for user in environment.user_classes:
        check_user(user, options)


def check_user(user: Any, options: Namespace) -> None:
    """What one kind of user needs. Raises InvalidRun."""
    remote = options.allow_remote
    if issubclass(user, GrpcUser):
        preflight.only_loopback(options.triton_grpc, allow_remote=remote)
        rows_of(preflight.check_grpc(options.triton_grpc, options.model, batch=options.batch), options)
    elif issubclass(user, HttpUser):
        preflight.only_loopback(options.triton_http, allow_remote=remote)
        rows_of(preflight.check_http(options.triton_http, options.model, batch=options.batch), options)
    elif issubclass(user, TorchServeUser):
        preflight.only_loopback(options.torchserve_grpc, allow_remote=remote)
        here = addresses(stack_here())
        own = options.torchserve_token_file == here["torchserve_token"]
        if own and options.torchserve_grpc != here["torchserve_grpc"]:
            raise InvalidRun(
                "--torchserve-grpc names another server: give the file with its --torchserve-token-file"
            )
        with closing(user.infer_of(options)) as infer:
            rows_of(preflight.check_torchserve(infer, options.model, batch=options.batch), options)
    elif issubclass(user, EndToEndUser):
        preflight.only_loopback(options.kafka, allow_remote=remote)
        brokers_here(options.kafka, allow_remote=remote)
        for topic in (TICKS, DECISIONS):
            ends_of(options.kafka, topic)


@events.request.add_listener
def note(
    name: str, response_time: float, exception: Exception | None, context: dict[str, Any] | None = None, **_: Any
) -> None:
    """Every request after the warm-up; events.request runs in the process of the user."""
    at_s = time.monotonic() - State.began - response_time / 1e3 - State.warm_up_s
    if at_s >= 0.0:
        gap_ns = int((context or {}).get("gap_s", 0.0) * 1e9)
        error = "" if exception is None else sentence(exception)
        lag_ns = int((context or {}).get("lag_s", 0.0) * 1e9)
        State.watch.add(name, int(response_time * 1e6), gap_ns, lag_ns, at_s, error)


def sentence(error: Exception) -> str:
    """Without what differs from one request to the next."""
    return (str(error) or type(error).__name__).splitlines()[0][:160]


@events.report_to_master.add_listener
def report(data: dict[str, Any], **_: Any) -> None:
    """A worker's part."""
    data[WATCHED] = State.watch.take()


@events.worker_report.add_listener
def gather(data: dict[str, Any], **_: Any) -> None:
    """The master's sum."""
    State.watch.merge(data.get(WATCHED, {}))


@events.test_stop.add_listener
def end(**_: Any) -> None:
    """Threads of the client library end with the test."""
    DeskConnection.close_all()


@events.quitting.add_listener
def verdict(environment: Any, **_: Any) -> None:
    """Judge each kind of request, on the master only: a worker sees a part."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    if State.invalid:
        environment.process_exit_code = EXIT_CODES["invalid"]
        return
    results = judged_all(options, read(Path(options.targets)))
    for result in results:
        print(f"\n{result.target}: {result.verdict}")
        print_table(rows(result))
    if not results:
        print("no request was made after the warm-up: nothing is proven", file=sys.stderr)
        environment.process_exit_code = EXIT_CODES["invalid"] if options.headless else 0
        return
    if options.results:
        print(f"report: {write_all(Path(options.results), results)}")
    environment.process_exit_code = max(EXIT_CODES[r.verdict] for r in results)


def judged_all(options: Namespace, targets: dict[str, Target]) -> list[RunResult]:
    """What was seen so far, of each kind of request."""
    return [judged(name, options, targets) for name in sorted(State.watch.names)]


def judged(name: str, options: Namespace, targets: dict[str, Target]) -> RunResult:
    """One kind's result; a name without a target is shown, and not judged."""
    settings = {"model": options.model, "batch": str(options.batch), "data": options.data}
    result = State.watch.result(name, started_at=State.started_at, warm_up_s=options.warm_up, settings=settings)
    return judge(result, targets[name]) if name in targets else result


def print_table(body: list[tuple[str, str, str, str]]) -> None:
    """Columns as wide as they need to be; sentences are cut, the report has them whole."""
    table = [COLUMNS, *((name if len(name) < LONGEST else name[:LONGEST] + "…", *rest) for name, *rest in body)]
    widths = [max(len(row[k]) for row in table) for k in range(len(COLUMNS))]
    for row in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
