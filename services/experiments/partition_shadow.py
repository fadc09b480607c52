"""A partition's ticks decided by every arm, each on a book of its own, and summed by block of event time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from services.experiments.arm_book import ArmAnswers, ArmBook, ArmDump, ArmOutcome, SharedTicks
from services.experiments.virtual_units import VirtualRows, VirtualState, VirtualUnits
from trading.arrays import Int64Array
from trading.decision.columns import TickColumns
from trading.decision.schema import CODES, Decision, Reason
from trading.errors import ConfigurationError
from trading.events import PartitionEvents
from trading.experiments.definition import CHAMPION, ExperimentDefinition
from trading.features.engine import FeatureEngine
from trading.features.kernel import FLOAT_WIDTH, INT_WIDTH
from trading.market import MID, Tick, TickBatch
from trading.models.signature import REGIMES
from trading.replay.published import Published, held_of, quota_of, targets_of
from trading.risk.limits import LimitSet
from trading.risk.trading_state import SEVERITY, TradingState
from trading.state.applied import CommandLog
from trading.state.log import LoggedMessage

#: What the live path had no time for, or found no server for, no arm decides: none would have been asked there.
LIVE = tuple(
    CODES[reason]
    for reason in (Reason.DEADLINE, Reason.SUPERSEDED, Reason.PREDICTOR_TIMEOUT, Reason.PREDICTOR_UNAVAILABLE)
)
#: What each arm has of its own.
NO_ROWS, NO_HOLDS, NO_TARGETS = np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0)
#: As such a tick is held in every arm: an error of none.
LATE = CODES[Reason.DEADLINE]


class DecidedTick(NamedTuple):
    """A tick where it lies, and what the desk decided of it."""

    message: LoggedMessage
    tick: Tick
    published: Published

    @property
    def decision(self) -> Decision:
        """Read."""
        return self.published.decision


class BlockOutcome(Struct, frozen=True):
    """What became of every arm in a block of a partition.

    Attributes:
        partition: of the ticks.
        block: number of the block since 1970.
        capital: of each arm's book, in money.
        arms: the champion's, and each challenger's in its order.
        virtual: of a canary: money that the champion's book earned in each arm's units.
        regimes: of how many rows each regime was the likeliest, as the champion's model saw it.
    """

    partition: int
    block: int
    capital: float
    arms: tuple[ArmOutcome, ...]
    virtual: tuple[float, ...] = ()
    regimes: tuple[int, ...] = ()


class PartitionDump(Struct, frozen=True, array_like=True):
    """A copy of what a partition has come to, features' state as bytes of int64 and float64 [symbols, .]."""

    partition: int
    first: int | None
    block: int
    control_to: int
    symbols: list[str]
    ints: bytes
    floats: bytes
    arms: list[ArmDump]
    regimes: list[int]
    virtual: VirtualState | None = None


class ChampionChanged(ConfigurationError):
    """The desk is decided by another version than the experiment's champion."""


class _Key(NamedTuple):
    """What ticks that are decided at once have in common."""

    block: int
    state: TradingState
    control_to: int
    quota: str


class PartitionShadow:
    """Moves the arms' books of a partition by its ticks, in the order of their log."""

    def __init__(
        self,
        partition: int,
        experiment: ExperimentDefinition,
        limits: LimitSet,
        commands: CommandLog,
        rebalance_band: float,
        first_block: int | None = None,
    ) -> None:
        """Empty books.

        Args:
            partition: of the ticks.
            experiment: whose arms they are.
            limits: before any command.
            commands: where limits and resets are read from.
            rebalance_band: of the desk's gateways.
            first_block: the first that counts; ticks before it only tell where the market stands. None: the first
                that is seen whole, the one after that of the first tick.
        """
        self._partition, self._experiment, self._commands = partition, experiment, commands
        self._engine = FeatureEngine()
        self._books = [ArmBook(limits, rebalance_band, experiment.costs) for _ in experiment.arms]
        self._first, self._block, self._control_to = first_block, -1, 0
        self._virtual = VirtualUnits(experiment) if experiment.kind == "canary" else None
        self._regimes = np.zeros(len(REGIMES), np.int64)

    def dump(self) -> PartitionDump:
        """A copy."""
        symbols, ints, floats = self._engine.dump()
        return PartitionDump(
            self._partition, self._first, self._block, self._control_to, symbols, ints.tobytes(), floats.tobytes(),
            [book.dump() for book in self._books], self._regimes.tolist(),
            None if self._virtual is None else self._virtual.state,
        )  # fmt: skip

    def load(self, dump: PartitionDump) -> None:
        """Go on from a copy. Raises ValueError and ConfigurationError where it is of another version."""
        n = len(dump.symbols)
        ints = np.frombuffer(dump.ints, np.int64).reshape(n, INT_WIDTH)
        floats = np.frombuffer(dump.floats, np.float64).reshape(n, FLOAT_WIDTH)
        self._engine = FeatureEngine.load(dump.symbols, ints, floats)
        self._first, self._block, self._control_to = dump.first, dump.block, dump.control_to
        for book, found in zip(self._books, dump.arms, strict=True):
            book.load(found)
        self._regimes = np.array(dump.regimes, np.int64)
        if self._virtual is not None and dump.virtual is not None:
            self._virtual.state = dump.virtual

    @property
    def block(self) -> int:
        """The one that goes on; negative before the first tick."""
        return self._block

    def take(self, rows: Sequence[DecidedTick], answers: Mapping[str, ArmAnswers]) -> Iterator[BlockOutcome]:
        """Decide n ticks; the blocks that they ended.

        Args:
            rows: in the order of their log, from where the last ones ended.
            answers: of each arm, the champion's too.

        Raises:
            ChampionChanged: the first tick of a block that counts which another version than the champion decided.
            ServiceUnavailable: the commands cannot be read.
        """
        decisions = [row.decision for row in rows]
        late = np.isin(held_of(decisions), LIVE)
        found = [answers[arm] for arm in self._experiment.arms]
        everyone = [one._replace(held=np.where(late, np.int8(LATE), one.held)) for one in found]
        begin = 0
        for key, group in groupby(zip(self._keys(rows), rows, strict=True), lambda one: one[0]):
            mine = [row for _, row in group]
            end = begin + len(mine)
            if self._first is None:
                self._first = key.block + 1
            if key.block != self._block:
                if self._counts:
                    yield self._close()
                self._block = key.block
            self._decide(key, mine, [one.part(begin, end) for one in everyone])
            begin = end

    def pass_to(self, block: int) -> Iterator[BlockOutcome]:
        """No tick has come for long while others had some: what lies before `block` has ended here, too."""
        if self._block < block:
            if self._counts:
                yield self._close()
            self._block = block

    @property
    def _counts(self) -> bool:
        """Whether the block that goes on is told of."""
        return self._first is not None and self._block >= self._first

    def _keys(self, rows: Sequence[DecidedTick]) -> list[_Key]:
        # Time does not go back: a tick that comes late is of the block that it comes in.
        block, length, found = self._block, self._experiment.block_ns, []
        for row in rows:
            d = row.decision
            block = max(block, d.event_time_ns // length)
            found.append(_Key(block, d.trading_state, d.control_to, repr(quota_of(row.published))))
        return found

    def _decide(self, key: _Key, rows: Sequence[DecidedTick], answers: Sequence[ArmAnswers]) -> None:
        self._take_commands(key.control_to)
        batch = TickBatch.from_ticks([row.tick for row in rows])
        found = self._engine.update(batch)
        if not self._counts:
            return
        decisions = [row.decision for row in rows]
        refuse_other_champion(self._experiment, decisions)
        ticks = TickColumns(
            rows=NO_ROWS,
            numbers=np.array([row.message.offset for row in rows], np.int64),
            event_time_ns=found.event_time_ns,
            quote_time_ns=found.quote_time_ns,
            sent_ns=np.array([row.message.sent_ns for row in rows], np.int64),
            market=found.market,
            # As the desk's features were: these here have seen less.
            warm=np.array([d.warm for d in decisions], np.bool_),
            held=NO_HOLDS,
            targets=NO_TARGETS,
        )
        self._regimes += regimes_of(decisions)
        quota = self._quota(rows[0].published)
        shared = SharedTicks(batch.symbols, ticks, SEVERITY[key.state], quota)
        out, *_ = [book.decide(shared, mine) for book, mine in zip(self._books, answers, strict=True)]
        if self._virtual is not None:
            book, length = self._books[0].book, self._experiment.block_ns
            rates = book.tables.positions.rate[book.rows(batch.symbols)]
            mine = VirtualRows(decisions, found.market[:, MID], rates, out.quantities, out.prices)
            self._virtual.take(mine, key.block * length, (key.block + 1) * length)

    def _quota(self, published: Published) -> float:
        """What every arm may expose: its share of the desk's limit, or what had been reserved, if that is more.

        More is reserved as the desk's own book needs it: another book would have been given more, too.
        """
        limits, reserved = self._books[0].book.limits, quota_of(published)
        whole = limits.book.max_desk_notional
        # Where nobody knew what was reserved nobody may take more: NaN stays.
        return reserved if whole is None or math.isnan(reserved) else max(reserved, whole / limits.books)

    def _take_commands(self, control_to: int) -> None:
        if control_to > self._control_to:
            found = self._commands.commands(self._control_to, control_to)
            self._control_to = control_to
            for book in self._books:
                book.take(PartitionEvents(found, control_to, [], 0))

    def _close(self) -> BlockOutcome:
        capital = float(self._books[0].book.tables.account[0].capital)
        virtual = () if self._virtual is None else self._virtual.close()
        arms = tuple(book.close() for book in self._books)
        regimes, self._regimes = tuple(self._regimes.tolist()), np.zeros(len(REGIMES), np.int64)
        return BlockOutcome(self._partition, self._block, capital, arms, virtual, regimes)


def recorded_answers(decisions: Sequence[Decision]) -> ArmAnswers:
    """What the model that decided said, as it was recorded."""
    return ArmAnswers(targets_of(decisions), held_of(decisions))


def regimes_of(decisions: Sequence[Decision]) -> Int64Array:
    """Rows by their likeliest regime, int64 [regimes], of those that the champion's model saw."""
    known = [d.regime_probabilities for d in decisions if d.regime_probabilities and not of_challenger(d)]
    likeliest = np.array(known, np.float64).reshape(-1, len(REGIMES)).argmax(axis=1)
    return np.bincount(likeliest, minlength=len(REGIMES)).astype(np.int64)


def of_challenger(decision: Decision) -> bool:
    """Whether an experiment's challenger decided it, in the champion's place."""
    return decision.assigned not in {"", CHAMPION} and not decision.fallback and decision.model_version != ""


def refuse_other_champion(experiment: ExperimentDefinition, decisions: Sequence[Decision]) -> None:
    """Raise ChampionChanged where another version decided."""
    champion = experiment.champion
    for d in decisions:
        told = (d.model_name, d.model_version)
        # Who could not be asked has no version; and of a unit that was another's nothing is known.
        if d.model_version and not of_challenger(d) and told != (champion.model, str(champion.version)):
            raise ChampionChanged(
                f"{d.decision_id} was decided by {d.model_name}/{d.model_version}, and the experiment's {CHAMPION} "
                f"is {champion}: what came before it counts, what comes after needs another experiment"
            )
