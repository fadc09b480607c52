"""What may be asked of ticks and features, from memory where it is there and from the archive where it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from services.data.archive.history import NO_END, History, Span
from services.data.errors import Conflict, NotFound
from services.data.market.lived import EARLIER, LivedMarket, SymbolInfo
from services.data.rows import LivedRows
from trading.errors import ServiceUnavailable
from trading.features.definitions import FEATURE_VERSION, WARM_TICKS


class Question(Struct, frozen=True):
    """Features of a symbol as of a tick's offset, as of an event time (ns since 1970 UTC), or now.

    `partition` is needed only where a symbol's ticks lie in several.
    """

    symbol: str
    offset: int | None = None
    time_ns: int | None = None
    partition: int | None = None


class Answer(Struct, frozen=True):
    """A row, or the reason why there is none.

    Attributes:
        question: with the partition that was asked.
        row: one; None before the symbol's first tick.
        settled: whether no later tick can change the answer.
        complete: whether every tick of its partition was read, from its log's beginning: a gateway may know more.
        age_ns: how much older the row's state time is than what was asked; the wall clock where it was now.
    """

    question: Question
    row: LivedRows | None
    settled: bool
    complete: bool
    age_ns: int | None

    @property
    def reason(self) -> str | None:
        """Why there are no features; None where there are."""
        if self.row is None:
            return "no_tick_yet"
        return None if bool(self.row.warm[0]) else "warming_up"

    @property
    def message(self) -> str | None:
        """The same in words."""
        return {
            None: None,
            "no_tick_yet": f"{self.question.symbol} had no tick yet",
            "warming_up": f"features need {WARM_TICKS} ticks with a known price",
        }[self.reason]

    @property
    def feature_version(self) -> int:
        """Of the formulas."""
        return FEATURE_VERSION


class MarketQuestions:
    """Answers from a market that somebody else follows."""

    def __init__(
        self,
        market: LivedMarket,
        history: History,
        problem: Callable[[], str],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare.

        Args:
            market: in memory.
            history: on disk.
            problem: why the ticks are not followed; "" where they are.
            now_ns: wall clock.
        """
        self._market, self._history, self._problem, self._now_ns = market, history, problem, now_ns

    def symbols(self) -> list[SymbolInfo]:
        """All, by name."""
        return self._market.symbols()

    def problem(self) -> str:
        """Why the newest may be old; "" where it is not."""
        return self._problem()

    def positions(self) -> dict[int, int]:
        """Partition -> offset after the last message that is read."""
        return self._market.positions()

    def from_memory(self, asked: Question) -> Answer | None:
        """At once; None where the archive must be asked.

        Raises:
            NotFound: the symbol is not known.
            Conflict: its partition must be named, or the offset is not read yet.
        """
        question = self._placed(asked)
        partition = question.partition or 0
        if question.offset is None and question.time_ns is None:
            found = self._market.newest(question.symbol, partition)
        else:
            self._refuse_unread(question)
            found = self._market.as_of(question.symbol, partition, offset=question.offset, time_ns=question.time_ns)
        return None if found.place == EARLIER else self._answer(question, found.rows, settled=found.settled)

    def from_archive(self, asked: Question) -> Answer:
        """The same of what is on disk. Raises as `from_memory`, and ServiceUnavailable."""
        return next(self.from_archive_all([asked]))

    def from_archive_all(self, asked: Sequence[Question]) -> Iterator[Answer]:
        """Many at once, in their order. Raises as `from_archive`."""
        questions = [self._placed(one) for one in asked]
        spans = [
            Span(
                one.partition or 0, one.symbol, last_offset=NO_END if one.offset is None else one.offset,
                last_ns=NO_END if one.time_ns is None else one.time_ns,
            )
            for one in questions
        ]  # fmt: skip
        rows = self._history.last_of_all(spans)
        return iter([self._from_disk(one, row) for one, row in zip(questions, rows, strict=True)])

    def _from_disk(self, question: Question, row: LivedRows | None) -> Answer:
        known = self._market.info(question.symbol, question.partition or 0)
        if question.offset is not None:
            settled = True
        else:
            settled = question.time_ns is not None and known is not None and question.time_ns < known.state_time_ns
        return self._answer(question, row, settled=settled)

    def answer(self, asked: Question) -> Answer:
        """From wherever it is."""
        found = self.from_memory(asked)
        return self.from_archive(asked) if found is None else found

    def ticks(self, asked: Span, limit: int) -> LivedRows:
        """Rows of a span in the order of the log, at most `limit`. Raises NotFound, ServiceUnavailable."""
        known = self._market.info(asked.symbol, asked.partition)
        if known is not None and known.last_offset < asked.first_offset:
            # Nothing has come since: a tail asks so ten times a second.
            return LivedRows.empty()
        offsets, times = (asked.first_offset, asked.last_offset), (asked.first_ns, asked.last_ns)
        recent, begins = self._market.between(asked.symbol, asked.partition, offsets, times, limit)
        if asked.first_offset >= begins:
            return recent
        earlier = Span(
            asked.partition, asked.symbol, asked.first_offset, min(asked.last_offset, begins - 1), asked.first_ns,
            asked.last_ns,
        )  # fmt: skip
        old = self._history.first(earlier, limit)
        return LivedRows.joined([old, recent.cut(0, max(0, limit - len(old)))])

    def partition(self, symbol: str, partition: int | None) -> int:
        """Where a symbol's ticks lie. Raises NotFound, Conflict."""
        there = self._market.partitions(symbol)
        if not there:
            if (problem := self._problem()) and not self._market.symbols():
                raise ServiceUnavailable(f"no tick is read yet: {problem}")
            raise NotFound(f"no tick of symbol {symbol!r} was ever read: GET /v1/symbols lists those that were")
        if partition is None and len(there) > 1:
            raise Conflict(
                f"ticks of {symbol} lie in partitions {', '.join(map(str, there))}, each with features of its own: "
                "name one with partition=N"
            )
        if partition is not None and partition not in there:
            raise NotFound(f"partition {partition} has no ticks of {symbol}: those lie in {there[0]}")
        return there[0] if partition is None else partition

    def _placed(self, asked: Question) -> Question:
        partition = self.partition(asked.symbol, asked.partition)
        return Question(asked.symbol, asked.offset, asked.time_ns, partition)

    def _refuse_unread(self, question: Question) -> None:
        end = self._market.positions().get(question.partition or 0, 0)
        if question.offset is not None and question.offset >= end:
            raise Conflict(
                f"offset {question.offset} of partition {question.partition} is not read yet: it is read to {end}",
                retry_after_s=1,
            )

    def _answer(self, question: Question, row: LivedRows | None, *, settled: bool) -> Answer:
        age = None
        if row is not None and question.offset is None:
            now = self._now_ns() if question.time_ns is None else question.time_ns
            age = max(0, now - int(row.state_time_ns[0]))
        return Answer(question, row, settled, self._market.is_complete(question.partition or 0), age)
