"""A client of the data service.

from services.data.client import DataClient

with DataClient("http://127.0.0.1:8010", token) as data:
    data.features("BTCUSDT").values
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
from msgspec import Struct

from services.data import errors
from services.data.errors import Refused
from trading.arrays import Float32Array
from trading.errors import ServiceUnavailable
from trading.features.definitions import FEATURES

ADDRESS = "http://127.0.0.1:8010"
ARROW, NDJSON = "application/vnd.apache.arrow.stream", "application/x-ndjson"
#: Status -> what is raised for it.
RAISED = {
    kind.status: kind
    for kind in (
        Refused, errors.Unauthorized, errors.Forbidden, errors.NotFound, errors.NotAcceptable,
        errors.TooSlow, errors.Conflict,
        errors.TooLarge, errors.Unprocessable, errors.TooMany, errors.Unavailable,
    )
}  # fmt: skip
POLL_S = 0.1


class FeatureVector(Struct, frozen=True):
    """Features of a symbol, or the reason why there are none.

    Attributes:
        symbol, partition: whose.
        offset, event_time_ns, state_time_ns: of the tick, and what the features know; None before the first.
        age_ns: how much older that is than what was asked, or than now.
        feature_version: of the formulas.
        settled: whether no later tick can change it.
        complete: whether every tick of its partition was read; where not, a gateway may know more.
        values: float32 [32], the same bits as the gateway saw; None with a `reason`.
        reason: no_tick_yet or warming_up; None where there are values.
    """

    symbol: str
    partition: int
    offset: int | None
    event_time_ns: int | None
    state_time_ns: int | None
    age_ns: int | None
    feature_version: int
    settled: bool
    complete: bool
    values: Float32Array | None
    reason: str | None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """As it was answered."""
        features = told["features"]
        values = None if features is None else np.array([features[name] for name in FEATURES], np.float32)
        named = {name: told[name] for name in cls.__struct_fields__ if name != "values"}
        return cls(**named, values=values)


class DataClient:
    """Asks one data service; may be used by several threads.

    What is refused is raised as an error of `services.data.errors` with the service's own message; where nothing
    answers, as ServiceUnavailable.
    """

    def __init__(
        self, address: str = ADDRESS, token: str = "", *, timeout_s: float = 10.0, retries: int = 2
    ) -> None:
        """Connects when it is first asked.

        Args:
            address: of the service.
            token: that `ultrathink data token` gave out.
            timeout_s: of an answer.
            retries: how often it is asked again after a 429, when the service says.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout_s, trust_env=False)
        self._address, self._retries = address, retries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._http.close()

    def symbols(self) -> list[dict[str, Any]]:
        """Symbols whose ticks were read."""
        return list(self._items("/v1/symbols", {}))

    def features(
        self, symbol: str, *, at: str | int | None = None, offset: int | None = None, partition: int | None = None
    ) -> FeatureVector:
        """Features now; or as of a time (ISO 8601, or ns since 1970 UTC), or as of an offset of the ticks."""
        asked = {"at": at, "offset": offset, "partition": partition}
        found = FeatureVector.of(self._get(f"/v1/features/{in_path(symbol)}", asked))
        if found.symbol != symbol:
            raise Refused(f"{symbol} was asked for, and {found.symbol} answered")
        return found

    def feature_batch(self, questions: Sequence[dict[str, Any]]) -> list[FeatureVector | Refused]:
        """At most 1,000 questions, `{"symbol": ..., "at": ...}`; each gets its vector or its error."""
        found = self._post("/v1/features", {"questions": list(questions)})["items"]
        return [
            FeatureVector.of(one["answer"]) if one["error"] is None else Refused(one["error"]["message"])
            for one in found
        ]

    def ticks(self, symbol: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """Ticks of a symbol, page after page; `since`, `until`, `partition` and `limit` as in the API."""
        return self._items("/v1/ticks", {"symbol": symbol, **asked})

    def ticks_table(self, symbol: str, **asked: Any) -> Any:
        """One page of ticks as an Arrow table."""
        return self._table("/v1/ticks", {"symbol": symbol, **asked})

    def decisions(self, **asked: Any) -> Iterator[dict[str, Any]]:
        """Decisions, page after page.

        `since`, `until`, `symbol`, `action`, `reason`, `outcome`, `experiment` and `assigned` as in the API.
        """
        return self._items("/v1/decisions", asked)

    def decisions_table(self, **asked: Any) -> Any:
        """One page of decisions as an Arrow table."""
        return self._table("/v1/decisions", asked)

    def decision(self, decision_id: str) -> dict[str, Any]:
        """A decision with its evidence and its proof."""
        return self._get(f"/v1/decisions/{in_path(decision_id)}", {})

    def replay(self, decision_id: str, progress: Callable[[int, int], None] = lambda *_: None) -> dict[str, Any]:
        """Have a decision made again, and wait for the verdict."""
        return self._wait(self._post(f"/v1/decisions/{in_path(decision_id)}/replay", None), progress)

    def positions(self) -> list[dict[str, Any]]:
        """Where every symbol stands."""
        return list(self._items("/v1/positions", {}))

    def pnl(self, **asked: Any) -> list[dict[str, Any]]:
        """Profit of a span by symbol."""
        return list(self._items("/v1/pnl", asked))

    def regimes(self) -> list[dict[str, Any]]:
        """What the model said of regimes last."""
        return list(self._items("/v1/regimes", {}))

    def models(self) -> dict[str, Any]:
        """Versions released, and those that decide."""
        return self._get("/v1/models", {})

    def limits(self) -> dict[str, Any]:
        """The limits that were set last."""
        return self._get("/v1/limits", {})

    def what_if(
        self, decision_id: str, *, limits: str | None = None, model: str | None = None,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> dict[str, Any]:  # fmt: skip
        """A decision under other limits (YAML) or by another model (NAME/VERSION)."""
        asked = {"decision_id": decision_id, "limits": limits, "model": model}
        return self._wait(self._post("/v1/what-if", asked), progress)

    def simulate(
        self, limits: str, *, most_ticks: int = 100_000, progress: Callable[[int, int], None] = lambda *_: None
    ) -> dict[str, Any]:
        """What other limits (YAML) would have done to the recorded decisions."""
        asked = {"limits": limits, "most_ticks": most_ticks}
        return self._wait(self._post("/v1/limits/simulate", asked), progress)

    def tail_decisions(self, symbol: str | None = None) -> Iterator[dict[str, Any]]:
        """Decisions as they are put on record, without end."""
        return self._tail("/v1/decisions/tail", {"symbol": symbol})

    def tail_ticks(self, symbol: str, partition: int | None = None) -> Iterator[dict[str, Any]]:
        """Ticks of a symbol as they come, without end."""
        return self._tail("/v1/ticks/tail", {"symbol": symbol, "partition": partition})

    def health(self) -> dict[str, Any]:
        """What answers, and what cannot be answered; also where the service says that it is not well."""
        try:
            found: dict[str, Any] = self._http.get("/v1/health").json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._silent(error) from error
        return found

    def _get(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", path, params=given(asked)).json()
        return found

    def _post(self, path: str, content: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("POST", path, json=content).json()
        return found

    def _table(self, path: str, asked: dict[str, Any]) -> Any:
        answered = self._ask("GET", path, params=given(asked), headers={"Accept": ARROW})
        with pa.ipc.open_stream(answered.content) as reader:
            return reader.read_all()

    def _items(self, path: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            found = self._get(path, {**asked, "cursor": cursor})
            yield from found["items"]
            cursor = found.get("next")
            if cursor is None:
                return

    def _tail(self, path: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream(
                "GET", path, params=given(asked), headers={"Accept": NDJSON}, timeout=httpx.Timeout(10, read=30)
            ) as answered:
                if not answered.is_success:
                    answered.read()
                    raise refusal(answered)
                for line in answered.iter_lines():
                    if line.strip():
                        item = json.loads(line)
                        if "error" in item and "symbol" not in item:
                            raise errors.Unavailable(item["error"]["message"])
                        yield item
        except httpx.HTTPError as error:
            raise self._silent(error) from error

    def _wait(self, job: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
        while job["state"] in {"waiting", "running"}:
            time.sleep(POLL_S)
            job = self._get(f"/v1/jobs/{job['job']}", {})
            progress(job["done"], job["total"])
        if job["state"] == "failed":
            raise Refused(job["problem"])
        result: dict[str, Any] = job["result"]
        return result

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        for left in range(self._retries, -1, -1):
            try:
                answered = self._http.request(method, path, **more)
            except httpx.HTTPError as error:
                raise self._silent(error) from error
            if answered.status_code == errors.TooMany.status and left:
                time.sleep(float(answered.headers.get("retry-after", "1")))
                continue
            if not answered.is_success:
                raise refusal(answered)
            return answered
        raise AssertionError("a loop with no end")

    def _silent(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"the data service at {self._address} does not answer ({error}): `ultrathink data serve` starts it"
        )


def in_path(name: str) -> str:
    """A name as one part of a path: neither a slash nor dots in it lead elsewhere."""
    return quote(name, safe="").replace(".", "%2E")


def given(asked: dict[str, Any]) -> dict[str, Any]:
    """Without what was left out."""
    return {name: value for name, value in asked.items() if value is not None}


def refusal(answered: httpx.Response) -> Refused:
    """What the service said."""
    try:
        message = answered.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {answered.status_code}: {answered.text[:200]}"
    return RAISED.get(answered.status_code, Refused)(message)
