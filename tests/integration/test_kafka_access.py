"""Kafka with passwords and permissions, as a stack gives them: a whole desk works, and everybody else is refused."""

from __future__ import annotations

import json

import httpx
import pytest
from typer.testing import CliRunner

from connectors.kafka import identity
from connectors.kafka.access import GROUP
from connectors.kafka.client import Consumer, Producer, TopicPartition
from connectors.kafka.cluster import check_cluster, members_of, require
from connectors.kafka.errors import translating
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import bounds
from gateway.adapters.kafka_transactions import TransactionalSink
from gateway.control.topic import send, told
from loadtest.open_loop.drive import Load, drive
from services.data.client import DataClient
from services.experiments.desk_control import KafkaExperiments, KafkaJournal
from services.experiments.desk_log import BESIDE_PACE, KafkaDecisions, KafkaDeskLog
from services.forensics.store.reading import opened
from stack.cli.main import app
from stack.processes.broker import running_broker
from stack.processes.data import running_data
from stack.processes.gateway import GatewayProcess, running_gateway
from stack.processes.own import OwnProcess, running
from stack.processes.settings import DATA_TOKEN, gateway_settings
from stack.servers.loopback import client
from stack.servers.ports import free_ports
from stack.servers.settings import ServerPorts, StackSettings
from stack.workflows.experiments.commanding import command, experiment_of
from stack.workflows.experiments.deciding import newest_start
from tests.stacks import running_stack
from tests.waiting import eventually
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.experiments.reading import parse
from trading.experiments.register import ExperimentWord

pytestmark = pytest.mark.slow
CLI = CliRunner()
DENIED = "give the user '{}' the permission"


@pytest.fixture(scope="module")
def secured(tmp_path_factory, stack, exported):
    """A stack of its own, which serves what the other has released."""
    home = tmp_path_factory.mktemp("secured")
    settings = StackSettings(
        profile="servers",
        home=home,
        ports=ServerPorts.automatic(),
        model_repository=stack.model_repository,
        kafka_security="sasl",
    )
    with running_stack(settings):
        yield settings


@pytest.fixture
def acting():
    """Who this process is; as before afterwards."""
    before = identity.role()
    yield identity.act_as
    identity.act_as(before)


def on_record(settings):
    """Decisions on the trail, as who reads it sees them."""
    try:
        with opened(settings.postgres_url("reader", "ultrathink")) as reader:
            return sum(reader.counts("decisions").values())
    except ConfigurationError:
        return 0


def test_a_whole_desk_works_with_what_each_role_may(secured):
    bootstrap = secured.kafka_bootstrap
    forensics = OwnProcess(secured, ("forensics", "run"), "forensics", {})
    with (
        running_broker(secured), running(forensics), running_data(secured) as data,
        # What is late is held: on a machine that has other work, nothing would come to the broker.
        running_gateway(secured, execution="broker", budget_ms="5000"),
    ):  # fmt: skip
        # A sender and a reader of their own, each under its own name.
        found = drive(Load(bootstrap, "simulate:regimes?seed=5&ticks=2000&symbols=3", "500/s", 2000, warm_up_s=1.0))
        assert (found.sent, found.missing, found.repeated) == (2000, 0, 0)
        assert any(bounds(bootstrap, TOPICS.fills, p)[1] for p in range(secured.partitions))
        eventually(lambda: on_record(secured) >= 2000)
        with DataClient(data.address, secured.secret(DATA_TOKEN)) as client:
            eventually(lambda: sum(one["ticks"] for one in client.symbols()) == 2000)
            some = next(client.decisions())
            # Made again by the data service, which may read ticks and nothing else.
            assert client.replay(some["decision_id"])["verdict"] == "same"
        assert CLI.invoke(app, ["gateway", "kill", "--reason", "drill"]).exit_code == 0
        stops = CLI.invoke(app, ["gateway", "stops", "--json"])
        assert [s["reason"] for s in json.loads(stops.output)] == ["drill"]
        assert CLI.invoke(app, ["gateway", "resume", "--reason", "drill over"]).exit_code == 0
        rubbish = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        rubbish.produce(TOPICS.ticks, b"rubbish", partition=0)
        assert rubbish.flush(10) == 0
        eventually(lambda: "malformed" in CLI.invoke(app, ["gateway", "dlq", "list"]).output)
        replayed = CLI.invoke(app, ["gateway", "dlq", "replay", "--reason", "malformed", "--json"])
        assert replayed.exit_code == 0, (replayed.output, replayed.exception)
    # Who may ask for it sees members, offsets and snapshots of the gateways, and all that was decided.
    asked = CLI.invoke(app, ["forensics", "rebind", "--dry-run", "--reason", "drill"])
    assert "nothing is committed, and no snapshot is kept, of another log" in str(asked.exception), asked.output


EXPERIMENT = """\
version: 1
name: secured
champion: {model: trading_decision, version: 1}
challengers: [{arm: other, model: trading_decision, version: 99}]
primary: {effect: 1}
"""


def test_who_watches_experiments_may_do_what_that_takes_and_an_operator_commands_them(secured, acting):
    settings, port = gateway_settings(kafka_bootstrap=secured.kafka_bootstrap), free_ports(1)[0]
    watching = OwnProcess(
        secured, ("experiment", "run"), "experiments", {"ULTRATHINK_EXPERIMENTS_METRICS_PORT": str(port)}
    )

    def watched():
        try:
            text = client().get(f"http://127.0.0.1:{port}/metrics", timeout=5.0).text
        except httpx.HTTPError:
            return ""
        return [line for line in text.splitlines() if line.startswith("experiments_watched{")]

    with running(watching):
        for word in (
            ExperimentWord("create", "secured", parse(EXPERIMENT)), ExperimentWord("start", "secured"),
        ):  # fmt: skip
            command(settings, word, "drill", "me")
        # It has heard of it, and cannot load a version that there is not.
        eventually(lambda: watched() == ['experiments_watched{experiment="secured",where="shadow"} 0.0'])
        acting("experiments")
        bootstrap = secured.kafka_bootstrap
        control = KafkaExperiments(bootstrap, TOPICS.control)
        control.stop("secured", "it does harm")
        KafkaJournal(bootstrap, TOPICS.experiments).note("secured", "stopped", "it does harm")
        log = KafkaDeskLog(bootstrap, TOPICS, KafkaDecisions(bootstrap, TOPICS, {0: 0}, BESIDE_PACE))
        log.poll(1.0)
        # Whether a gateway has begun here or not: it may be read, or this raises.
        newest_start(bootstrap, TOPICS.starts, TOPICS.decisions)
        eventually(lambda: control.follow(0.1) + 1 and control.experiments()["secured"].state == "stopped")
        control.close()
        log.close()
        acting("operator")
        assert experiment_of(settings, "secured").said[-1].by == "experiments"
        eventually(lambda: watched() == [])


def move_offsets(bootstrap):
    """As if the gateways had decided less than they have."""
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "log_level": 0})
    try:
        with translating("the offsets cannot be moved"):
            member.commit(offsets=[TopicPartition(TOPICS.ticks, 0, 0)], asynchronous=False)
    finally:
        member.close()


@pytest.mark.parametrize(
    ("role", "what", "act"),
    [
        ("reader", "stops the desk", lambda b: send(b, TOPICS.control, told("drain", "", "x", "y"))),
        ("forensics", "stops the desk", lambda b: send(b, TOPICS.control, told("drain", "", "x", "y"))),
        ("sender", "reads decisions", lambda b: list(read_to_end(b, TOPICS.decisions, 0, 0))),
        ("sender", "looks at decisions", lambda b: bounds(b, TOPICS.decisions, 0)),
        ("broker", "knows of ticks", lambda b: require(b, TOPICS.ticks)),
        ("experiments", "knows of orders", lambda b: require(b, TOPICS.orders)),
        ("reader", "begins a gateway", lambda b: check_cluster(b, TOPICS)),
        # Ten seconds, as the sender's.
        pytest.param(
            "data",
            "reads decisions",
            lambda b: list(read_to_end(b, TOPICS.decisions, 0, 0)),
            marks=pytest.mark.slow,
        ),
        ("data", "stops the desk", lambda b: send(b, TOPICS.control, told("drain", "", "x", "y"))),
        ("operator", "moves the gateways", move_offsets),
        ("reader", "sees who decides", lambda b: members_of(b, GROUP)),
        ("broker", "decides", lambda b: TransactionalSink(b, TOPICS, "gateway", "x", "log", lambda _: None)),
    ],
)
def test_what_a_role_may_not_do_is_refused_with_a_sentence(secured, acting, role, what, act):
    acting(role)
    with pytest.raises(ServiceUnavailable, match=DENIED.format(role)):
        act(secured.kafka_bootstrap)


def refusal(secured, **environment):
    """What a gateway that does not start says."""
    process = GatewayProcess(secured, environment=environment)
    process.start()
    try:
        with pytest.raises(ServiceUnavailable) as said:
            process.wait_for_partitions()
    finally:
        process.kill()
    assert "Traceback" not in str(said.value)
    return str(said.value)


def test_a_gateway_with_another_password_says_whose_and_where(secured, tmp_path):
    (tmp_path / "kafka-gateway").write_text("wrong")
    said = refusal(secured, **{identity.SECRETS: str(tmp_path)})
    assert f"it refuses the user 'gateway': {tmp_path}/kafka-gateway must hold the right password" in said


def test_a_gateway_without_a_password_says_which_file_is_missing(secured, tmp_path):
    assert f"cannot be read from {tmp_path}/kafka-gateway" in refusal(secured, **{identity.SECRETS: str(tmp_path)})


def test_what_holds_passwords_is_its_owners_alone(secured):
    home = secured.absolute_home
    secret = [*(home / "secrets").iterdir(), home / "kafka" / "1" / "server.properties"]
    # A public key is everybody's; the folder is not.
    assert {oct(path.stat().st_mode & 0o777) for path in secret if path.suffix != ".pub"} == {"0o600"}
    assert oct((home / "secrets").stat().st_mode & 0o777) == "0o700"
