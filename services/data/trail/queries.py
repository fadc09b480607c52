"""The trail's answers: rows of PostgreSQL as plain values by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec

from connectors import postgres
from connectors.addresses import shown
from services.data.trail import statements
from services.data.trail.statements import DECISION_COLUMNS, FILTERS
from services.data.workers import Workers
from trading.control import read_command, read_limits
from trading.errors import BadRecord, ServiceUnavailable
from trading.models.signature import REGIMES

Row = dict[str, Any]
#: How long a connection is waited for.
WAIT_S = 1.0
OLDER_TRAIL = "the trail is of an older version: `ultrathink forensics migrate` renews it"
NO_TRAIL = "there is no trail in the database yet: `ultrathink forensics run` makes it"


class TrailQuestions:
    """Asked by several threads; every method may raise ServiceUnavailable."""

    def __init__(self, url: str, connections: int = 8, *, statement_s: float = 5.0, answer_s: float = 6.0) -> None:
        """Nothing is connected yet.

        Args:
            url: of the database, as the role that may read.
            connections: at once.
            statement_s: a question that takes longer is given up by PostgreSQL.
            answer_s: a server that hangs gives nothing up: it is not waited for any longer.

        Raises:
            ConfigurationError: a wrong address.
        """
        self._statement_s, self._answer_s = statement_s, answer_s
        self._pool = postgres.open_pool(url, connections)
        #: Which database, without who asks.
        self.name = shown(url)
        self._workers, self._connections = Workers(connections, "trail"), connections
        #: Questions that nobody waits for any more, and that are not answered.
        self._hanging: set[Future[list[tuple[Any, ...]]]] = set()

    def decisions(
        self, since: datetime, until: datetime, after: tuple[int, int], limit: int, chosen: Mapping[str, str]
    ) -> list[Row]:
        """Decisions in the order of their logs, each with its `log`.

        Args:
            since, until: of event time; `until` is not in it.
            after: log and offset of the last one that is known; (-1, -1) begins.
            limit: how many at most.
            chosen: values of any of `statements.FILTERS`.
        """
        filters = " ".join(FILTERS[name] for name in chosen)
        values = {"since": since, "until": until, "log": after[0], "offset": after[1], "limit": limit, **chosen}
        return named(self._rows(statements.DECISIONS.format(filters=filters), values))

    def places(self) -> dict[int, int]:
        """Log of decisions -> its last offset that is on record."""
        return {int(row[0]): int(row[1]) for row in self._rows(statements.NEWEST_PLACES, {})}

    def following(self, after: tuple[int, int], limit: int, chosen: Mapping[str, str]) -> list[Row]:
        """Decisions of a log that follow an offset."""
        filters = " ".join(FILTERS[name] for name in chosen)
        values = {"log": after[0], "offset": after[1], "limit": limit, **chosen}
        return named(self._rows(statements.FOLLOWING.format(filters=filters), values))

    def record(self, decision_id: str) -> Row | None:
        """Where a decision lies, and its bytes as `value`; None where it is not on record."""
        for log, offset, value, topic, partition in self._rows(statements.RECORD, {"id": decision_id}):
            return {
                "log": log, "topic": topic, "partition": partition, "record_offset": offset, "value": bytes(value),
            }  # fmt: skip
        return None

    def newest(self, symbol: str | None) -> list[Row]:
        """The newest decision of every symbol and partition, with its `partition` and `regime_probabilities`."""
        rows = self._rows(statements.NEWEST, {"symbol": symbol})
        found = named([row[:-2] for row in rows])
        for one, row in zip(found, rows, strict=True):
            one["regime_probabilities"], one["partition"] = regimes_in(bytes(row[-2] or b"")), row[-1]
        return found

    def profit(self, since: datetime, until: datetime, symbol: str | None) -> list[Row]:
        """Profit of a span by symbol, marked to the mid at both ends, in the symbol's quote currency."""
        names = ("symbol", "since", "until", "opening_position", "closing_position", "orders", "traded", "fees",
                 "from_fills", "profit")  # fmt: skip
        rows = self._rows(statements.PROFIT, {"since": since, "until": until, "symbol": symbol})
        return [dict(zip(names, row, strict=True)) for row in rows]

    def models(self) -> tuple[list[Row], list[Row]]:
        """The last word on every version of a model, and what the newest decisions were made by."""
        names = ("model", "version", "action", "step", "at", "by", "reason")
        deciding = ("model", "version", "variant", "symbols")
        return (
            [dict(zip(names, row, strict=True)) for row in self._rows(statements.MODELS, {})],
            [dict(zip(deciding, row, strict=True)) for row in self._rows(statements.DECIDING, {})],
        )

    def limits(self) -> Row | None:
        """Those that were set last, by whom and why; None where nobody has set any."""
        for offset, value in self._rows(statements.LIMITS, {}):
            try:
                command = read_command(bytes(value))
            except BadRecord as error:
                raise ServiceUnavailable(f"the limits on record cannot be read: {error}") from error
            try:
                told, problem = msgspec.to_builtins(read_limits(command.value)), None
            except BadRecord as error:
                told, problem = None, str(error)
            return {
                "offset": offset, "by": command.by, "reason": command.reason, "at_ns": command.at_ns,
                "limits": told, "problem": problem,
            }  # fmt: skip
        return None

    def check(self) -> None:
        """Whether it answers, and has a trail."""
        self._rows("SELECT FROM trail.batches LIMIT 1", {})

    def close(self) -> None:
        """Disconnect."""
        self._workers.close()
        self._pool.close(timeout=1.0)

    @contextmanager
    def _connection(self) -> Iterator[postgres.Connection]:
        # The pool commits as it takes a connection back: that may fail too.
        with postgres.translating("the trail cannot be read"), postgres.pooled(self._pool, WAIT_S) as connection:
            yield connection

    def _rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        if len(self._hanging) >= self._connections:
            raise ServiceUnavailable(f"PostgreSQL has not answered {len(self._hanging)} questions: it hangs")
        asked = self._workers.submit(lambda: self._ask(statement, values))
        try:
            return asked.result(self._answer_s)
        except ServiceUnavailable as error:
            if postgres.is_no_table(error.__cause__):
                raise ServiceUnavailable(NO_TRAIL) from error
            if postgres.is_no_column(error.__cause__):
                raise ServiceUnavailable(OLDER_TRAIL) from error
            raise
        except TimeoutError:
            if not asked.cancel():
                self._hanging.add(asked)
                asked.add_done_callback(self._hanging.discard)
            raise ServiceUnavailable(f"PostgreSQL did not answer within {self._answer_s:g} s") from None

    def _ask(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            connection.execute(
                f"SET LOCAL statement_timeout = {int(self._statement_s * 1000)}; SET LOCAL timezone = 'UTC'"
            )
            return connection.execute(statement, values or None).fetchall()


def named(rows: Sequence[tuple[Any, ...]]) -> list[Row]:
    """Rows with the decisions' columns."""
    return [dict(zip(("log", *DECISION_COLUMNS), row, strict=True)) for row in rows]


def regimes_in(value: bytes) -> dict[str, float]:
    """Regime -> probability, as a decision says it; empty where no model answered."""
    try:
        told = json.loads(value).get("regime_probabilities", [])
    except (ValueError, AttributeError):
        return {}
    return dict(zip(REGIMES, told, strict=True)) if len(told) == len(REGIMES) else {}
