"""The service over HTTP, on a market in memory and a trail of a few rows."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from services.data.api.app import DataService, application
from services.data.api.cache import AnswerCache
from services.data.api.guard import Guard
from services.data.api.jobs import Jobs
from services.data.api.live import DecisionTail, Tails, TickTail, to_places
from services.data.api.tokens import SCOPES, Tokens, give_out, take_back
from services.data.bootstrap import TrailWatch, health
from services.data.errors import Unprocessable
from services.data.market.questions import MarketQuestions
from services.data.observing import Metrics
from tests.local_client import LocalClient
from tests.unit.services.data.fakes import BEGIN_NS, FakeTickLog, messages_of, some_ticks
from tests.unit.services.data.market.test_following import Desk, truth
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.features.definitions import FEATURES

SECOND = 1_000_000_000
TICKS = some_ticks(600)
MOMENT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def decision(number, symbol="A"):
    return {
        "log": 1, "record_offset": number, "decision_id": f"market.ticks-0-{number}", "symbol": symbol, "event_time": MOMENT,
        "action": "buy", "reason": "target", "quantity": 1.0, "reference_price": 10.0, "mid_price": 10.0,
        "position_before": 0.0, "position_after": 1.0, "target_position": 0.5, "model_name": "m", "model_version": "1",
        "variant": "champion", "trading_state": "active", "limits_version": "v", "outcome": "accept",
        "broken_rules": ["a", "b"], "decided_at": MOMENT, "latency_us": 1.5, "trace_id": "",
        "experiment": None, "assigned": None, "fallback": None,
    }  # fmt: skip


class FakeTrail:
    """A trail of some decisions; `down` says that PostgreSQL is."""

    def __init__(self, count=7):
        self.rows, self.down, self.asked = [decision(n) for n in range(count)], False, 0

    def _answer(self):
        self.asked += 1
        if self.down:
            raise ServiceUnavailable("PostgreSQL at 127.0.0.1:1 does not answer")

    def check(self):
        self._answer()

    def decisions(self, since, until, after, limit, chosen):
        self._answer()
        return [r for r in self.rows if (r["log"], r["record_offset"]) > after and chosen.items() <= r.items()][
            :limit
        ]

    def places(self):
        self._answer()
        return {1: len(self.rows) - 1}

    def following(self, after, limit, chosen):
        self._answer()
        return [r for r in self.rows if r["record_offset"] > after[1]][:limit]

    def record(self, decision_id):
        self._answer()
        for row in self.rows:
            if row["decision_id"] == decision_id:
                return {"log": 1, "topic": "t", "partition": 0, "record_offset": 3, "value": b'{"quantity":1.50}'}
        return None

    def newest(self, symbol):
        self._answer()
        return [
            {**self.rows[-1], "partition": 0, "regime_probabilities": {"bull": 0.7, "bear": 0.2, "sideways": 0.1}}
        ]

    def profit(self, since, until, symbol):
        self._answer()
        return []

    def models(self):
        self._answer()
        return [], [{"model": "m", "version": "1", "variant": "champion", "symbols": 1}]

    def limits(self):
        self._answer()


class FakeEvidence:
    def proof(self, decision_id):
        if decision_id.endswith("-3"):
            raise ConfigurationError("not signed yet")
        return {"form": "proof"}

    def replay(self, decision_id, progress):
        progress(1, 2)
        return {"verdict": "same"}


class FakeAnalyses:
    def what_if(self, decision_id, limits, model, progress):
        if limits == "bad":
            raise ConfigurationError("limits is refused, 1 error")
        return {"recorded": {}, "what_if": {"limits": limits, "model": model}}

    def simulate(self, limits, most_ticks, progress):
        if limits == "fault":
            raise RuntimeError("a fault of ours")
        return {"changed": 0}


class FakeRemote:
    """Redis in memory; `down` says that it is."""

    def __init__(self):
        self.kept, self.down = {}, False

    async def get(self, key):
        if self.down:
            raise ServiceUnavailable("no Redis")
        return self.kept.get(key)

    async def set(self, key, value, seconds):
        if self.down:
            raise ServiceUnavailable("no Redis")
        self.kept[key] = value


class Service:
    def __init__(
        self, folder, *, requests_per_s=10_000, most_at_once=64, memory_rows=10**9, remote=None, cache_bytes=10**7
    ):
        self.desk = Desk(folder / "archive", FakeTickLog({0: messages_of(TICKS)}), memory_rows)
        self.desk.read_all()
        self.desk.follower.flush()
        self.tokens = folder / "tokens.json"
        self.token = give_out(self.tokens, "all", list(SCOPES))
        self.trail, self.metrics, self.jobs, self.tails = FakeTrail(), Metrics(), Jobs(), Tails(2)
        market = MarketQuestions(self.desk.market, self.desk.history, lambda: self.desk.follower.problem)
        service = DataService(
            market, self.trail, FakeEvidence(), FakeAnalyses(), self.jobs, self.tails,
            lambda: health(market, self.desk.follower.lost, self.watch.problem()),
            lambda: self.metrics.follows(market.positions(), market.problem()), self.metrics.registry, 31,
        )  # fmt: skip
        self.watch = TrailWatch(self.trail.check)
        self.source = "id-1"
        self.app = application(service)
        self.guard = Guard(
            self.app, Tokens(self.tokens), AnswerCache(cache_bytes, remote, 10**6, self.metrics.looked), self.metrics,
            lambda: self.source,
            requests_per_s=requests_per_s, most_at_once=most_at_once, most_body=100_000,
        )  # fmt: skip
        self.client = LocalClient(self.guard, {"Authorization": f"Bearer {self.token}"})

    def get(self, path, status=200, **more):
        found = self.client.get(path, **more)
        assert found.status_code == status, found.text
        return found

    def close(self):
        self.client.close()
        self.jobs.close()
        self.watch.close()
        self.desk.follower.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Service(tmp_path_factory.mktemp("data"))
    yield made
    made.close()


def test_features_as_of_anything_are_the_gateways_bytes(service):
    rows, times = truth(TICKS)
    for k in range(300, 600, 37):
        symbol = TICKS[k].symbol
        path = f"/v1/features/{'%2E%2E' if symbol == '..' else symbol}"
        told = service.get(path, params={"offset": k}).json()
        assert np.array([told["features"][name] for name in FEATURES], np.float32).tobytes() == rows[k].tobytes()
        assert (told["offset"], told["state_time_ns"], told["feature_version"]) == (k, times[k], 1)
        asked = times[k] + 5
        told = service.get(path, params={"at": asked}).json()
        assert told["state_time_ns"] <= asked
        assert told["age_ns"] == asked - told["state_time_ns"]
    moment = datetime.fromtimestamp((BEGIN_NS + 400 * SECOND) // SECOND, UTC)
    one = service.get("/v1/features/A", params={"at": moment.isoformat()}).json()
    assert one == service.get("/v1/features/A", params={"at": BEGIN_NS + 400 * SECOND}).json()


def test_what_is_not_known_is_null_with_its_reason_never_zero(service):
    told = service.get("/v1/features/A", params={"at": BEGIN_NS - 10**12}).json()
    assert (told["features"], told["reason"], told["offset"]) == (None, "no_tick_yet", None)
    told = service.get("/v1/features/A", params={"offset": 20}).json()
    assert (told["features"], told["reason"]) == (None, "warming_up")
    assert "64 ticks" in told["message"]
    assert "no tick of symbol 'NOPE'" in service.get("/v1/features/NOPE", 404).json()["error"]["message"]
    assert "not read yet" in service.get("/v1/features/A", 409, params={"offset": 600}).json()["error"]["message"]


def test_a_batch_answers_each_of_its_questions(service):
    asked = [
        {"symbol": "A"},
        {"symbol": "NOPE"},
        {"symbol": "A", "at": "rubbish"},
        {"symbol": "B/C", "offset": 500},
    ]
    found = service.client.post("/v1/features", json={"questions": asked}).json()["items"]
    assert [one["error"] and one["error"]["code"] for one in found] == [None, "not_found", "unprocessable", None]
    assert found[3]["answer"]["offset"] <= 500
    for wrong in ([], [{"symbol": "A"}] * 1001, [{"symbol": "A", "offset": -1}], [{"symbol": ""}]):
        assert service.client.post("/v1/features", json={"questions": wrong}).status_code == 422


def test_pages_follow_one_another_without_a_gap(service):
    seen, path = [], "/v1/ticks?symbol=B/C&limit=17"
    while path:
        found = service.get(path)
        seen += [one["offset"] for one in found.json()["items"]]
        path = found.links.get("next", {}).get("url")
    assert seen == [k for k, tick in enumerate(TICKS) if tick.symbol == "B/C"]
    rows, path = [], "/v1/decisions?limit=3"
    while path:
        found = service.get(path)
        rows += [one["record_offset"] for one in found.json()["items"]]
        assert (found.json()["next"] is None) == ("next" not in found.links)
        path = found.links.get("next", {}).get("url")
    assert rows == list(range(7))


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("/v1/ticks?symbol=A&limit=50", 13),
        ("/v1/decisions", 26),
        ("/v1/symbols", 6),
        ("/v1/positions", 8),
        ("/v1/regimes", 8),
        ("/v1/pnl", 10),
        ("/v1/models", 7),
    ],
)
def test_a_list_says_the_same_in_every_format(service, path, columns):
    items = service.get(path).json()["items"]
    lines = service.get(path, headers={"Accept": "application/x-ndjson"}).content.splitlines()
    assert [json.loads(line) for line in lines] == items
    told = service.get(path, headers={"Accept": "application/vnd.apache.arrow.stream"})
    with pa.ipc.open_stream(told.content) as reader:
        table = reader.read_all()
    assert (table.num_rows, table.num_columns) == (len(items), columns)
    for name in set(table.schema.names) & {"offset", "symbol", "bid", "quantity", "broken_rules"}:
        assert table.column(name).to_pylist() == [one[name] for one in items]
    text = service.get(path, headers={"Accept": "text/csv;q=0.9, image/png"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.read_csv(io.BytesIO(text.content)).num_rows == len(items)
    assert "application/json" in service.get(path, 406, headers={"Accept": "image/png"}).json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/ticks", "symbol"),
        ("/v1/ticks?symbol=A&limit=10001", "limit"),
        ("/v1/ticks?symbol=A&cursor=rubbish", "cursor"),
        ("/v1/ticks?symbol=A&cursor=LTE6MQ", "cursor"),
        ("/v1/ticks?symbol=A&since=yesterday", "since='yesterday' is no time"),
        ("/v1/features/A?at=1&offset=1", "two questions"),
        ("/v1/features/A?at=99999999999999999999", "no time"),
        ("/v1/features/A?at=9000000000000000000", "between February 1970 and 2200"),
        ("/v1/features/A?offset=-1", "offset"),
        ("/v1/decisions?since=2026-01-01&until=2026-06-01", "31 days"),
        ("/v1/decisions?since=2026-06-01&until=2026-01-01", "does not lie before"),
        ("/v1/decisions?symbol=%00", "characters"),
        ("/v1/decisions?action=hodl", "action"),
        ("/v1/decisions?reason=because", "reason"),
        ("/v1/features/A?ofset=5", "ofset is no parameter"),
        ("/v1/symbols?x=1", "it takes none"),
        ("/v1/features/A?at=1584316800", "nanoseconds since 1970"),
        ("/v1/ticks?symbol=A&since=2022-12-20&until=2022-12-01", "does not lie before"),
    ],
)
def test_a_wrong_value_is_named(service, path, says):
    assert says in service.get(path, 422).json()["error"]["message"]


def test_paths_that_are_not_there(service):
    assert service.get("/v1/nothing", 404).json()["error"]["code"] == "not_found"
    assert service.client.post("/v1/symbols").status_code == 405
    assert service.get("/v1/decisions/market.ticks-0-99", 404).json()["error"]["code"] == "not_found"
    assert service.get("/v1/jobs/none", 404).json()["error"]["code"] == "not_found"
    assert service.get("/v1/features/A?partition=3", 404).json()["error"]["code"] == "not_found"


def test_a_decision_comes_with_its_bytes_its_proof_and_its_replay(service):
    told = service.get("/v1/decisions/market.ticks-0-2")
    # Byte for byte: a number is not written anew.
    assert b'"decision":{"quantity":1.50}' in told.content
    assert (told.json()["proof"], told.json()["replay"]) == ({"form": "proof"}, None)
    assert service.get("/v1/decisions/market.ticks-0-3").json()["proof_problem"] == "not signed yet"
    service.get("/v1/decisions/market.ticks-0-2/replay", 404)
    begun = service.client.post("/v1/decisions/market.ticks-0-2/replay")
    assert begun.status_code == 202
    assert waited(service, begun.headers["location"])["result"] == {"verdict": "same"}
    assert service.get("/v1/decisions/market.ticks-0-2/replay").json()["state"] == "done"
    fresh = service.get("/v1/decisions/market.ticks-0-2", headers={"Cache-Control": "no-cache"}).json()
    assert fresh["replay"] == {"verdict": "same"}


def waited(service, path):
    deadline = time.monotonic() + 10
    while (found := service.get(path).json())["state"] not in {"done", "failed"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_work_in_the_background_ends_with_a_result_or_a_sentence(service):
    def asked(path, **content):
        begun = service.client.post(path, json=content)
        assert begun.status_code == 202, begun.text
        return waited(service, begun.headers["location"])

    done = asked("/v1/what-if", decision_id="market.ticks-0-2", model="m/1")
    assert done["result"]["what_if"]["model"] == "m/1"
    assert (
        asked("/v1/what-if", decision_id="market.ticks-0-2", limits="bad")["problem"]
        == "limits is refused, 1 error"
    )
    failed = asked("/v1/limits/simulate", limits="fault")
    assert failed["state"] == "failed"
    assert "RuntimeError" in failed["problem"]
    assert service.client.post("/v1/what-if", json={"decision_id": "market.ticks-0-2"}).status_code == 422
    assert service.client.post("/v1/what-if", json={"decision_id": "x", "model": "m/1"}).status_code == 404


def test_states_of_the_desk(service):
    assert service.get("/v1/positions").json()["items"][0]["value"] == 10.0
    assert service.get("/v1/regimes").json()["items"][0]["regime"] == "bull"
    assert service.get("/v1/models").json()["deciding"][0]["model"] == "m"
    assert set(service.get("/v1/limits").json().values()) == {None}


def test_who_may_ask_what(service):
    none = httpx.Headers({"Authorization": ""})
    assert service.get("/v1/symbols", 401, headers=none).headers["www-authenticate"] == "Bearer"
    assert (
        service.get("/v1/symbols", 401, headers={"Authorization": "Bearer wrong"}).json()["error"]["code"]
        == "unauthorized"
    )
    market = {"Authorization": f"Bearer {give_out(service.tokens, 'market', ['market'])}"}
    service.guard._tokens._looked_s = 0.0
    service.get("/v1/symbols", headers=market)
    for path in ("/v1/decisions", "/v1/limits", "/v1/positions", "/v1/jobs/x", "/v1/decisions/tail"):
        assert "has no scope" in service.get(path, 403, headers=market).json()["error"]["message"]
    decisions = {"Authorization": f"Bearer {give_out(service.tokens, 'd', ['decisions'])}"}
    service.guard._tokens._looked_s = 0.0
    for path in ("/v1/what-if", "/v1/limits/simulate", "/v1/decisions/market.ticks-0-2/replay"):
        assert service.client.post(path, json={}, headers=decisions).status_code == 403
    take_back(service.tokens, "market")
    service.guard._tokens._looked_s = 0.0
    service.get("/v1/symbols", 401, headers=market)
    for path in ("/v1/health", "/metrics", "/openapi.json"):
        service.get(path, headers=none)


def test_a_file_of_tokens_that_cannot_be_read_lets_nobody_in(tmp_path):
    made = Service(tmp_path)
    made.get("/v1/symbols")
    made.tokens.write_text("{")
    made.guard._tokens._looked_s = 0.0
    assert "holds no tokens" in made.get("/v1/symbols", 401).json()["error"]["message"]
    with pytest.raises(ConfigurationError, match="holds no tokens"):
        Tokens(made.tokens)
    made.close()


def test_too_much_is_refused(tmp_path):
    made = Service(tmp_path, requests_per_s=5)
    seen = [made.client.get("/v1/symbols") for _ in range(12)]
    refused = [one for one in seen if one.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    time.sleep(1.1)
    assert made.client.post("/v1/features", content=b"x" * 100_001).status_code == 413
    chunks = (b"x" * 60_000 for _ in range(2))
    assert made.client.post("/v1/features", content=chunks).status_code == 413
    made.guard._rooms["trail"].left = 0
    time.sleep(1.1)
    assert "in work" in made.get("/v1/positions", 429).json()["error"]["message"]
    # Whoever asks the market is not kept out by those who wait for the trail.
    made.get("/v1/symbols")
    made.guard._rooms["market"].left = 0
    assert "in work" in made.get("/v1/symbols", 429).json()["error"]["message"]
    made.close()


def test_what_cannot_change_is_kept_and_every_parameter_counts(tmp_path):
    remote = FakeRemote()
    made = Service(tmp_path, remote=remote, memory_rows=60)
    looks = made.metrics._looks

    def found():
        return {one: looks.labels(one)._value.get() for one in ("memory", "redis", "none")}

    one = made.get("/v1/features/A?offset=300").json()
    assert made.get("/v1/features/A?offset=300").json() == one
    assert found() == {"memory": 1, "redis": 0, "none": 1}
    assert made.get("/v1/features/A?offset=200").json() != one
    made.guard._cache._kept.clear()
    assert made.get("/v1/features/A?offset=300").json() == one
    assert found() == {"memory": 1, "redis": 1, "none": 2}
    # Redis gone: the same, slower.
    remote.down = True
    made.guard._cache._kept.clear()
    assert made.get("/v1/features/A?offset=300").json() == one
    assert made.get("/v1/features/B/C?offset=300").json()["symbol"] == "B/C"
    # What is not settled is asked anew.
    before = found()["memory"]
    made.get("/v1/features/A")
    made.get("/v1/features/A")
    assert found()["memory"] == before
    # So is a refusal.
    made.get("/v1/features/A?offset=600", 409)
    made.get("/v1/features/A?offset=600", 409)
    assert found()["memory"] == before
    made.close()


def test_redis_is_never_filled(tmp_path):
    remote = FakeRemote()
    made = Service(tmp_path, remote=remote)
    made.guard._cache._remote_bytes = 10_000
    for k in range(300, 400):
        made.get(f"/v1/features/A?offset={k}")
    assert sum(map(len, remote.kept.values())) <= 10_000
    assert len(remote.kept) > 3
    made.close()


def test_memory_is_bounded(tmp_path):
    made = Service(tmp_path, cache_bytes=5000)
    for k in range(300, 340):
        made.get(f"/v1/features/A?offset={k}")
    assert 0 < made.guard._cache._bytes <= 5000
    made.close()


def test_postgresql_gone_the_live_part_answers(tmp_path):
    made = Service(tmp_path)
    made.trail.down = True
    assert made.get("/v1/features/A").json()["features"] is not None
    for path in (
        "/v1/decisions",
        "/v1/positions",
        "/v1/pnl",
        "/v1/regimes",
        "/v1/models",
        "/v1/limits",
        "/v1/decisions/x-0-1",
    ):
        told = made.get(path, 503)
        assert "PostgreSQL" in told.json()["error"]["message"]
        assert told.headers["retry-after"] == "1"
    told = made.get("/v1/health").json()
    assert told["ok"]
    assert {part["name"]: part["ok"] for part in told["parts"]} == {
        "ticks": True,
        "history": True,
        "postgresql": False,
    }
    made.desk.follower._log_problem = "no broker"
    assert not made.get("/v1/health", 503).json()["ok"]
    assert made.get("/v1/features/A").json()["features"] is not None
    made.close()


def test_a_tail_gives_what_comes_and_resumes(service):
    market = MarketQuestions(service.desk.market, service.desk.history, lambda: "")
    mine = [k for k, tick in enumerate(TICKS) if tick.symbol == "A"]
    tail = TickTail(market, "A", 0, mine[-3])
    found = tail.look()
    assert [item["offset"] for _, item in found] == mine[-2:]
    assert tail.look() == []
    trail = FakeTrail(5)
    tail = DecisionTail(trail, {}, None)
    assert tail.look() == []
    trail.rows += [decision(5), decision(6)]
    cursors = [cursor for cursor, _ in tail.look()]
    assert len(cursors) == 2
    resumed = DecisionTail(trail, {}, to_places(cursors[0]))
    assert [item["record_offset"] for _, item in resumed.look()] == [6]
    # What is stored between the two questions is told once.
    trail.places = lambda: {1: 7}
    trail.rows += [decision(7), decision(8), decision(9)]
    assert [item["record_offset"] for _, item in tail.look()] == [7, 8, 9]
    trail.places = lambda: {1: 9}
    assert tail.look() == []
    with pytest.raises(Unprocessable):
        to_places("rubbish")


def test_a_tail_over_http_is_ndjson_or_events_and_ends_with_the_server_that_feeds_it(tmp_path):
    made = Service(tmp_path)
    made.trail.down = True
    told = made.get("/v1/decisions/tail", headers={"Accept": "text/event-stream"})
    assert told.text.startswith(": begins\n\nevent: problem\ndata: {")
    told = made.get("/v1/decisions/tail")
    assert json.loads(told.text)["error"]["code"] == "unavailable"
    made.tails.left = 0
    made.get("/v1/decisions/tail", 429)
    made.close()


def test_a_tail_that_resumes_with_several_logs_loses_none(service):
    trail = FakeTrail(4)
    other = [{**decision(n), "log": 2} for n in range(3)]
    trail.places = lambda: {1: len(trail.rows) - 1, 2: len(other) - 1}
    trail.following = lambda after, limit, chosen: [
        r for r in (trail.rows if after[0] == 1 else other) if r["record_offset"] > after[1]
    ]
    tail = DecisionTail(trail, {}, None)
    assert tail.look() == []
    trail.rows.append(decision(4))
    ((cursor, _),) = tail.look()
    other += [{**decision(n), "log": 2} for n in (3, 4)]
    trail.rows.append(decision(5))
    told = DecisionTail(trail, {}, to_places(cursor)).look()
    assert [(item["log"], item["record_offset"]) for _, item in told] == [(1, 5), (2, 3), (2, 4)]


def test_a_token_that_is_taken_back_ends_its_tails(tmp_path):
    made = Service(tmp_path)
    token = give_out(made.tokens, "watcher", ["market"])
    made.guard._tokens._looked_s = 0.0
    asked = {"Authorization": f"Bearer {token}"}

    def take_it():
        time.sleep(0.5)
        take_back(made.tokens, "watcher")

    thread = threading.Thread(target=take_it)
    thread.start()
    told = made.get("/v1/ticks/tail?symbol=A", headers=asked)
    thread.join()
    assert json.loads(told.text.splitlines()[-1])["error"]["code"] == "unauthorized"
    assert made.tails.left == 2
    made.close()


@pytest.mark.parametrize(
    "path",
    ["/v1/limits/simulate", "/v1/what-if", "/v1/decisions/market.ticks-0-2/replay", "/v1/symbols", "/v1/ticks"],
)
@pytest.mark.parametrize("trick", ["%0A", "%0D", "%00", "/", "//", "%2F", "/.", "?"])
def test_no_way_to_write_a_path_gets_around_a_scope(service, path, trick):
    if not hasattr(service, "narrow"):
        service.narrow = give_out(service.tokens, "narrow", ["decisions"])
        service.guard._tokens._looked_s = 0.0
    narrow = {"Authorization": f"Bearer {service.narrow}"}
    for method in ("GET", "POST"):
        told = service.client.request(
            method, path + trick, headers=narrow, **({"json": {}} if method == "POST" else {})
        )
        if path.endswith("/replay") and method == "GET" and told.status_code == 200:
            # Whoever may read decisions may read what became of one.
            continue
        assert told.status_code in {403, 404, 405, 422}, (method, path + trick, told.status_code)


def test_parameters_and_headers_that_come_twice_are_not_mistaken(tmp_path):
    made = Service(tmp_path)

    def symbol_of(query):
        return {item["symbol"] for item in made.get(f"/v1/ticks?{query}&limit=2").json()["items"]}

    for _ in range(2):
        assert symbol_of("symbol=A&symbol=B/C") == {"B/C"}
        assert symbol_of("symbol=B/C&symbol=A") == {"A"}
    twice = httpx.Headers([("Accept", "text/csv"), ("Accept", "application/json;q=0.1")])
    assert made.get("/v1/ticks?symbol=A&limit=2", headers=twice).headers["content-type"].startswith("text/csv")
    assert made.get("/v1/ticks?symbol=A&limit=2", headers={"Accept": "application/json"}).json()["items"]
    made.close()


def test_answers_of_another_log_are_not_taken_from_redis(tmp_path):
    remote = FakeRemote()
    first = Service(tmp_path / "a", remote=remote)
    first.get("/v1/features/A?offset=300")
    second = Service(tmp_path / "b", remote=remote)
    second.source = "id-2"
    looks = second.metrics._looks
    second.get("/v1/features/A?offset=300")
    assert looks.labels("redis")._value.get() == 0
    # While it is not known what log it is, nothing is kept.
    second.source = ""
    before = dict(remote.kept)
    second.get("/v1/features/A?offset=301")
    assert remote.kept == before
    first.close()
    second.close()


def test_lengths_that_no_number_holds_are_too_long(service):
    told = service.client.post("/v1/features", content=b"{}", headers={"Content-Length": "0" * 5000 + "2"})
    assert told.status_code == 413


def test_whoever_is_slow_to_ask_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr("services.data.api.sent.BODY_S", 0.2)
    made = Service(tmp_path, most_at_once=1)

    async def slow():
        yield b"{"
        await asyncio.sleep(1.0)
        yield b"}"

    async def ask():
        return await made.client._http.post("/v1/features", content=slow())

    waiting = asyncio.run_coroutine_threadsafe(ask(), made.client._loop)
    made.get("/v1/symbols")
    assert waiting.result(10).status_code == 408
    made.close()


def test_a_service_that_ends_does_not_wait_for_what_hangs():
    jobs, hang = Jobs(), threading.Event()
    jobs.start("x", "", lambda told: hang.wait(60) and {})
    later = jobs.start("y", "", lambda told: {})
    began = time.monotonic()
    import services.data.api.jobs as module

    module.CLOSE_S, before = 0.2, module.CLOSE_S
    jobs.close()
    module.CLOSE_S = before
    assert time.monotonic() - began < 5
    hang.set()
    assert later.state in {"waiting", "failed"}


def test_a_trail_that_hangs_is_told_and_waited_for_by_nobody():
    hang = threading.Event()
    watch = TrailWatch(lambda: hang.wait(60) and None)
    assert watch.problem() == "it has not answered yet"
    watch._asked_s -= 10
    assert "has not answered" in watch.problem()
    hang.set()
    time.sleep(0.1)
    assert watch.problem() == ""
    watch.close()


def test_a_refusal_is_told_by_the_very_look_that_met_it():
    refused = []

    def check():
        if refused:
            raise ServiceUnavailable("refused")

    watch = TrailWatch(check)
    assert watch.problem() == ""
    refused.append(1)
    assert watch.problem() == "refused"
    refused.clear()
    assert watch.problem() == ""
    watch.close()


@pytest.mark.parametrize("symbol", ["A", "B/C", "..", ".", "A/../B", "/AB", "A:B-1_x"])
def test_a_clients_question_is_about_the_symbol_that_it_names(symbol):
    from urllib.parse import unquote

    from services.data.client import in_path

    url = httpx.URL(f"http://local/v1/features/{in_path(symbol)}")
    assert unquote(url.raw_path.decode()) == f"/v1/features/{symbol}"
    assert url.raw_path.count(b"/") == 3
