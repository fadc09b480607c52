"""The data service's questions to a real PostgreSQL: pages, books, and money that a broker's reports decide."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.data.trail.queries import TrailQuestions
from services.forensics.ports import LogName
from services.forensics.records import Record
from services.forensics.store.writer import TrailWriter
from tests.databases import fresh_database, migrated, running_postgres
from tests.trails import decisions
from trading.errors import ServiceUnavailable

BEGIN = datetime(2026, 11, 27, 12, tzinfo=UTC)
SPAN = (BEGIN, BEGIN + timedelta(hours=1))
SAMPLE = json.loads(next(decisions()))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    home = tmp_path_factory.mktemp("data-trail")
    home.chmod(0o755)
    with running_postgres(home) as settings:
        migrated(settings)
        yield settings


class Desk:
    """Writes what a desk would have published, and asks as the data service does."""

    def __init__(self, settings):
        self.writer = TrailWriter(settings.postgres_url("forensics", "ultrathink"), 5.0)
        self.questions = TrailQuestions(settings.postgres_url("reader", "ultrathink"))
        self.offsets = {}

    def store(self, kind, payload, topic_id="1", partition=0):
        name = LogName(f"{kind}-{topic_id}", partition, f"topic.{kind}")
        if name not in self.offsets:
            self.writer.open(name, kind)
        offset = self.offsets[name] = self.offsets.get(name, -1) + 1
        self.writer.store({name: [Record(offset, 2, 1_764_000_000_000, b"K", json.dumps(payload).encode())]})

    def decide(
        self, number, symbol, *, quantity=0.0, price=10.0, before=0.0, after=0.0, partition=0, topic_id="1", **more
    ):
        payload = {
            **SAMPLE, "decision_id": f"market.ticks-{partition}-{number}", "symbol": symbol,
            "event_time_ns": int((BEGIN + timedelta(seconds=number)).timestamp()) * 10**9,
            "action": "hold" if not quantity else "buy" if quantity > 0 else "sell", "quantity": quantity,
            "reference_price": price, "mid_price": price, "position_before": before, "position_after": after, **more,
        }  # fmt: skip
        self.store("decisions", payload, topic_id, partition)

    def report(self, number, kind="fill", quantity=0.0, price=10.0, fee=0.0, sequence=0, partition=0):
        self.store("fills", {
            "order_id": f"market.ticks-{partition}-{number}", "number": number, "sequence": sequence, "symbol": "ANY",
            "kind": kind, "quantity": quantity, "price": price, "fee": fee, "left": 0.0, "at_ns": 1, "reason": "",
        }, partition=partition)  # fmt: skip

    def profit(self, symbol):
        (found,) = self.questions.profit(*SPAN, symbol)
        return found

    def close(self):
        self.writer.close()
        self.questions.close()


@pytest.fixture
def desk(database):
    from connectors import postgres
    from services.forensics.kinds import KINDS

    with postgres.connect_url(database.postgres_url("ultrathink")) as connection:
        connection.execute(
            "TRUNCATE trail.alarms, trail.batches, trail.tiles, trail.retired, trail.logs, "
            + ", ".join(f"trail.{k.name}" for k in KINDS)
        )
    made = Desk(database)
    yield made
    made.close()


def test_without_a_broker_an_order_counts_as_filled_at_once(desk):
    desk.decide(0, "A", quantity=2.0, price=10.0, before=0.0, after=2.0)
    desk.decide(1, "A", quantity=-1.0, price=12.0, before=2.0, after=1.0)
    desk.decide(2, "A", price=11.0, before=1.0, after=1.0)
    found = desk.profit("A")
    # Bought two at 10, sold one at 12, one left at 11.
    assert (found["profit"], found["closing_position"], found["orders"], found["from_fills"]) == (
        3.0,
        1.0,
        2,
        False,
    )
    assert found["traded"] == 32.0


def test_an_order_that_the_broker_rejected_was_never_filled(desk):
    desk.decide(0, "A", quantity=10.0, price=10.0, after=10.0)
    desk.decide(1, "A", price=20.0, before=0.0, after=0.0)
    desk.report(0, "reject")
    found = desk.profit("A")
    assert (found["profit"], found["closing_position"], found["from_fills"], found["traded"]) == (
        0.0,
        0.0,
        True,
        0.0,
    )


def test_a_report_that_comes_twice_counts_once(desk):
    desk.decide(0, "A", quantity=1.0, price=10.0, after=1.0)
    desk.decide(1, "A", price=20.0, before=1.0, after=1.0)
    desk.report(0, quantity=1.0, price=10.0, fee=0.5)
    desk.report(0, quantity=1.0, price=10.0, fee=0.5)
    found = desk.profit("A")
    assert (found["profit"], found["closing_position"], found["fees"]) == (9.5, 1.0, 0.5)


def test_a_decision_in_two_logs_counts_once(desk):
    for topic_id in ("1", "2"):
        desk.decide(0, "A", quantity=1.0, price=10.0, after=1.0, topic_id=topic_id)
        desk.decide(1, "A", price=20.0, before=1.0, after=1.0, topic_id=topic_id)
    desk.report(0, quantity=1.0, price=10.0)
    assert (desk.profit("A")["profit"], desk.profit("A")["orders"]) == (10.0, 1)


def test_a_symbol_of_two_partitions_has_two_books(desk):
    desk.decide(0, "A", quantity=1.0, price=10.0, after=1.0, partition=0)
    desk.decide(1, "A", price=15.0, before=1.0, after=1.0, partition=0)
    desk.decide(0, "A", quantity=-2.0, price=10.0, after=-2.0, partition=1)
    desk.decide(1, "A", price=9.0, before=-2.0, after=-2.0, partition=1)
    assert desk.profit("A")["profit"] == 5.0 + 2.0
    assert {row["partition"]: row["position_after"] for row in desk.questions.newest("A")} == {0: 1.0, 1: -2.0}


def test_the_newest_of_a_topic_that_was_made_anew_is_the_new_ones(desk):
    desk.decide(5, "A", after=7.0, topic_id="1")
    desk.decide(0, "A", after=1.0, topic_id="2")
    desk.decide(0, "B", after=3.0, topic_id="2")
    assert {row["symbol"]: row["position_after"] for row in desk.questions.newest(None)} == {"A": 1.0, "B": 3.0}
    assert [row["symbol"] for row in desk.questions.newest("B")] == ["B"]
    assert desk.questions.newest("C") == []


def test_pages_go_through_all_logs_in_order_and_the_filters_hold(desk):
    for number in range(20):
        desk.decide(number, "AB"[number % 2], quantity=1.0 if number % 3 == 0 else 0.0, partition=number % 3)
    after, seen = (-1, -1), []
    while page := desk.questions.decisions(*SPAN, after, 3, {}):
        seen += [(row["log"], row["record_offset"]) for row in page]
        after = seen[-1]
    assert seen == sorted(set(seen))
    assert len(seen) == 20
    chosen = desk.questions.decisions(*SPAN, (-1, -1), 100, {"symbol": "A", "action": "buy"})
    assert {row["decision_id"].rpartition("-")[2] for row in chosen} == {"0", "6", "12", "18"}
    before = BEGIN + timedelta(seconds=5)
    assert len(desk.questions.decisions(BEGIN, before, (-1, -1), 100, {})) == 5
    assert desk.questions.decisions(BEGIN - timedelta(days=2), BEGIN, (-1, -1), 100, {}) == []
    places = desk.questions.places()
    assert sum(last + 1 for last in places.values()) == 20
    assert len(desk.questions.following((min(places), 0), 100, {})) == places[min(places)]


def test_decisions_are_found_by_the_experiment_and_the_arm_of_their_unit(desk):
    arms = [
        {"experiment": "fresh@7", "assigned": "newer"},
        {"experiment": "fresh@9", "assigned": "newer", "fallback": "timeout"},
        {"experiment": "fresh@9", "assigned": "champion"},
        {"experiment": "fresher@9", "assigned": "newer"},
    ]
    for number, told in enumerate([*arms, {}]):
        desk.decide(number, "A", **told)

    def found(**chosen):
        rows = desk.questions.decisions(*SPAN, (-1, -1), 100, chosen)
        return [(row["experiment"], row["assigned"], row["fallback"]) for row in rows]

    assert found() == [
        ("fresh@7", "newer", None), ("fresh@9", "newer", "timeout"), ("fresh@9", "champion", None),
        ("fresher@9", "newer", None), (None, None, None),
    ]  # fmt: skip
    assert found(experiment="fresh") == found()[:3]
    assert found(experiment="fresh", assigned="newer") == found()[:2]
    # A name holds no @: this is one share of it.
    assert found(experiment="fresh@9") == found()[1:3]
    assert found(experiment="fres") == []


def test_what_cannot_be_read_on_record_is_not_listed(desk):
    desk.store("decisions", {"no": "decision"})
    desk.decide(1, "A")
    assert [
        row["symbol"]
        for row in desk.questions.decisions(datetime(1969, 1, 1, tzinfo=UTC), SPAN[1], (-1, -1), 9, {})
    ] == ["A"]
    assert desk.questions.record("market.ticks-0-1")["record_offset"] == 1
    assert desk.questions.record("market.ticks-0-9") is None


def test_a_statement_that_takes_too_long_is_given_up(database):
    url = database.postgres_url("reader", "ultrathink")
    slow = TrailQuestions(url, statement_s=0.05)
    with pytest.raises(ServiceUnavailable, match="statement timeout"):
        slow._rows("SELECT pg_sleep(5)", {})
    slow.close()
    hung = TrailQuestions(url, connections=2, answer_s=0.2)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="did not answer"):
            hung._rows("SELECT pg_sleep(3)", {})
    with pytest.raises(ServiceUnavailable, match="it hangs"):
        hung.check()
    hung.close()


def test_a_database_without_a_trail_says_what_makes_one(database):
    questions = TrailQuestions(database.postgres_url("mlflow"))
    for ask in (questions.check, questions.models, questions.places):
        with pytest.raises(ServiceUnavailable, match="`ultrathink forensics run` makes it"):
            ask()
    questions.close()


def test_a_trail_of_an_older_version_says_what_renews_it(database):
    with fresh_database(database) as settings:
        migrated(settings, "0004")
        questions = TrailQuestions(settings.postgres_url("reader"))
        with pytest.raises(ServiceUnavailable, match="older version: `ultrathink forensics migrate` renews it"):
            questions.decisions(*SPAN, (-1, -1), 10, {})
        questions.close()


def test_minutes_add_up_to_what_was_decided(desk, database):
    from connectors import postgres

    for number in range(130):
        denied = number % 10 == 0
        verdict = {
            "outcome": "deny" if denied else "accept",
            "results": [
                {"rule": rule, "passed": not denied, "value": None, "limit": None, "headroom": None}
                for rule in ("leverage", "drawdown")
            ],
        }
        desk.decide(
            number, "AB"[number % 2], quantity=1.0 if number % 5 == 0 and not denied else 0.0, before=1.0,
            after=float(number), verdict={**SAMPLE["verdict"], **verdict} if SAMPLE["verdict"] else verdict,
        )  # fmt: skip
    with postgres.connect_url(database.postgres_url("reader", "ultrathink")) as connection:

        def rows(statement):
            return connection.execute(statement).fetchall()

        assert rows("SELECT sum(decisions)::int, sum(units)::int FROM trail.decisions_by_minute") == [(130, 13)]
        assert rows("SELECT minute, decisions::int FROM trail.latency_by_minute ORDER BY 1") == [
            (BEGIN + timedelta(minutes=k), n) for k, n in ((0, 60), (1, 60), (2, 10))
        ]
        assert rows("SELECT rule, sum(decisions)::int FROM trail.denials_by_minute GROUP BY 1 ORDER BY 1") == [
            ("drawdown", 13),
            ("leverage", 13),
        ]
        # Each book's last word of a minute: 58 and 59 of the first, at a mid of 10.
        assert rows("SELECT gross, net, books::int FROM trail.exposure_by_minute ORDER BY minute LIMIT 1") == [
            (1170.0, 1170.0, 2)
        ]
