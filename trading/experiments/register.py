"""What the control topic says of experiments, and what holds after it. Pure; a function of the log alone.

What is not understood puts the champion back: it may have been a stop. What is refused changes nothing, and whoever
reads the log refuses the same, so that of two people who speak at once one is heard.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from trading.encoding import Count, Records
from trading.errors import BadRecord, ConfigurationError
from trading.experiments.assignment import CanaryArms, ShareStep, name_of, overlap
from trading.experiments.definition import ExperimentDefinition, ExperimentName
from trading.experiments.reading import check_definition

#: What is kept of what was refused.
MOST_REFUSED = 100
#: Whose word a stop by a guardrail is.
WATCHER = "experiments"
Act = Literal["create", "start", "ramp", "stop", "promote"]


class ExperimentWord(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a command asks of an experiment.

    Attributes:
        act: create makes it known; start begins its shadow; ramp gives challengers a share of a canary's units;
            stop ends it, and puts the champion back at once; promote says that a challenger was released.
        name: of the experiment.
        definition: of a create.
        share: of a ramp, of the units, of all challengers together.
        from_block: of a ramp, the first block that it holds for; its number since 1970.
        arm: of a promote, the challenger's.
        overridden: of a promote, whether it was released against what the experiment says.
    """

    act: Act
    name: ExperimentName
    definition: ExperimentDefinition | None = None
    share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    from_block: Count = 0
    arm: str = ""
    overridden: bool = False


class ExperimentState(StrEnum):
    """Where an experiment stands."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class Said(Struct, frozen=True):
    """Who did what: a command as it lies in the log, wall time in ns since 1970."""

    offset: int
    act: str
    by: str
    reason: str
    at_ns: int
    share: float = 0.0
    from_block: int = 0
    arm: str = ""
    overridden: bool = False


class Refused(Struct, frozen=True):
    """A command that changed nothing, and why not."""

    offset: int
    why: str
    by: str
    at_ns: int


class Experiment(Struct, frozen=True):
    """An experiment as it stands.

    Attributes:
        definition: of it.
        state: where it stands.
        steps: shares of its units since it was started last.
        said: all that was ever commanded of it, in order.
    """

    definition: ExperimentDefinition
    state: ExperimentState
    steps: tuple[ShareStep, ...] = ()
    said: tuple[Said, ...] = ()

    @property
    def share(self) -> float:
        """Of the units, that challengers have, or will have from the newest step's block on."""
        return self.steps[-1].share if self.steps and self.state is ExperimentState.RUNNING else 0.0

    @property
    def last_stop(self) -> Said | None:
        """What it was stopped by; None where it is not stopped."""
        stopped = self.state is ExperimentState.STOPPED
        return next((said for said in reversed(self.said) if said.act == "stop"), None) if stopped else None

    def arm_of(self, symbol: str, event_time_ns: int) -> tuple[str, int] | None:
        """The arm of a tick's unit, and the offset of the command that gave it; None where nothing is divided."""
        found = self.arms.arm_of(symbol, event_time_ns // self.definition.block_ns)
        return None if found is None else (self.definition.arms[found[0]], found[1])

    @property
    def arms(self) -> CanaryArms:
        """How its units are divided."""
        d = self.definition
        return CanaryArms(d.name, d.salt or "", d.block_ns, len(d.challengers), frozenset(d.symbols), self.steps)


def start_of(experiment: Experiment) -> int:
    """The offset of the command that it was started by last; negative where it was not."""
    return max((said.offset for said in experiment.said if said.act == "start"), default=-1)


class _Named(Struct):
    name: Any = ""


_words, _named = Records(ExperimentWord), Records(_Named)


def read_word(text: str) -> ExperimentWord:
    """What a command's value asks. Raises BadRecord for what is not understood."""
    word = _words.read(text)
    if (word.act == "create") is not (word.definition is not None):
        raise BadRecord("a definition belongs to a create, and to nothing else")
    if word.definition is not None:
        if word.definition.name != word.name:
            raise BadRecord(f"{word.name} is created with the definition of {word.definition.name}")
        try:
            check_definition(word.definition)
        except ConfigurationError as error:
            raise BadRecord(str(error)) from None
    return word


class ExperimentRegister:
    """Every experiment that the log knows.

    Attributes:
        experiments: by name, in the order in which they were created.
        refused: commands that changed nothing; the newest of them.
    """

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.experiments: Mapping[str, Experiment] = {}
        self.refused: tuple[Refused, ...] = ()
        #: Of experiments that are no more, too.
        self._salts: dict[str, str] = {}

    def take(self, offset: int, text: str, by: str, reason: str, at_ns: int) -> str:
        """Take the next command; why it changed nothing, "" where it did.

        Args:
            offset: in the control topic.
            text: the command's value.
            by, reason, at_ns: who gave it, why and when.
        """
        try:
            word = read_word(text)
        except BadRecord as error:
            why = self._put_back(offset, text, f"{error}", by, at_ns)
        else:
            why = self.why_not(word)
        if why:
            self.refused = (*self.refused[1 - MOST_REFUSED :], Refused(offset, why, by, at_ns))
            return why
        said = Said(
            offset, word.act, by, reason, at_ns, word.share, word.from_block, word.arm, word.overridden
        )  # fmt: skip
        self._put(word.name, self._after(word, said))
        return ""

    def refused_of(self, at_ns: int, by: str) -> str:
        """Why a command changed nothing; "" where it did, or is not there."""
        return next((one.why for one in self.refused if (one.at_ns, one.by) == (at_ns, by)), "")

    def stop_all(self, offset: int, reason: str, by: str, at_ns: int) -> None:
        """The champion decides everything from now on."""
        for name, one in self.experiments.items():
            if one.state is ExperimentState.RUNNING:
                said = Said(offset, "stop", by, reason, at_ns)
                self._put(name, replace(one, state=ExperimentState.STOPPED, said=(*one.said, said)))

    def _after(self, word: ExperimentWord, said: Said) -> Experiment:
        if word.definition is not None:
            self._salts[word.definition.salt or ""] = word.name
            return Experiment(word.definition, ExperimentState.CREATED, (), (said,))
        one = self.experiments[word.name]
        one = replace(one, said=(*one.said, said))
        if word.act == "start":
            # Steps of an earlier start must not hold again.
            return replace(one, state=ExperimentState.RUNNING, steps=())
        if word.act == "stop":
            return replace(one, state=ExperimentState.STOPPED)
        if word.act == "ramp":
            return replace(one, steps=(*one.steps, ShareStep(word.from_block, word.share, said.offset)))
        return one

    def why_not(self, word: ExperimentWord) -> str:
        """Why a command would change nothing now; "" where it would."""
        one = self.experiments.get(word.name)
        if word.definition is not None:
            if one is not None:
                return f"{word.name} is an experiment already: give this one another name"
            salt = word.definition.salt
            if salt is not None and salt in self._salts:
                had = f"{self._salts[salt]} has had the salt {salt}"
                return f"{had}: the same units would be treated again; give this one another salt"
            return ""
        if one is None:
            return unknown(word.name, self.experiments)
        return {"start": self._not_started, "ramp": not_ramped, "stop": not_stopped, "promote": not_promoted}[
            word.act
        ](one, word)

    def _not_started(self, one: Experiment, _: ExperimentWord) -> str:
        if one.state is ExperimentState.RUNNING:
            return f"{one.definition.name} runs already"
        return self.divided(one.definition.symbols) if one.definition.kind == "canary" else ""

    def divided(self, symbols: Sequence[str]) -> str:
        """Which experiment divides the units of these symbols, empty for all, by now; "" where none does."""
        for other in canaries(self.experiments):
            shared = overlap(symbols, other.definition.symbols)
            if shared is not None:
                which = f"units of {', '.join(shared[:5])}" if shared else "all units"
                return (
                    f"{other.definition.name} runs, and divides {which}, too: stop it, or give them other symbols"
                )
        return ""

    def _put(self, name: str, one: Experiment) -> None:
        # Replaced, never changed: others may be reading it.
        self.experiments = {**self.experiments, name: one}

    def _put_back(self, offset: int, text: str, why: str, by: str, at_ns: int) -> str:
        """Of what is not understood: it may be about any experiment, and may be a stop."""
        reason = f"a command that this version does not understand: {why}"
        try:
            name = _named.read(text).name
        except BadRecord:
            name = ""
        one = self.experiments.get(name) if isinstance(name, str) else None
        if one is None:
            self.stop_all(offset, reason, by, at_ns)
        elif one.state is ExperimentState.RUNNING:
            said = Said(offset, "stop", by, reason, at_ns)
            self._put(name, replace(one, state=ExperimentState.STOPPED, said=(*one.said, said)))
        return reason


def unknown(name: str, known: Collection[str]) -> str:
    """Of an experiment that there is not."""
    near = difflib.get_close_matches(name, known, 1)
    way = f"did you mean {near[0]}?" if near else f"there is {', '.join(known) or 'none'}"
    return f"{name!r} is no experiment of this desk: {way}"


def dividing(experiments: Mapping[str, Experiment]) -> tuple[Experiment, ...]:
    """Those whose challengers have, or will have, a share of the units."""
    return tuple(one for one in experiments.values() if one.state is ExperimentState.RUNNING and one.steps)


def canaries(experiments: Mapping[str, Experiment]) -> tuple[Experiment, ...]:
    """Those that run, and may be given a share of the units."""
    return tuple(
        one
        for one in experiments.values()
        if one.state is ExperimentState.RUNNING and one.definition.kind == "canary"
    )


class ExperimentHistory:
    """How experiments stood after each command, for who decides again what names one."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._register = ExperimentRegister()
        self._stood: dict[str, Experiment] = {}

    def take(self, offset: int, text: str, by: str, reason: str, at_ns: int) -> None:
        """Take the next command; see ExperimentRegister."""
        before = self._register.experiments
        self._register.take(offset, text, by, reason, at_ns)
        for name, one in self._register.experiments.items():
            if one is not before.get(name):
                self._stood[name_of(name, offset)] = one

    def assigned(self, experiment: str, symbol: str, event_time_ns: int) -> str:
        """The arm that the experiment which a decision names gave a tick's unit to; "" where it did to none."""
        one = self._stood.get(experiment)
        found = None if one is None else one.arm_of(symbol, event_time_ns)
        if one is None or found is None or experiment != name_of(one.definition.name, found[1]):
            return ""
        return found[0]


def not_ramped(one: Experiment, word: ExperimentWord) -> str:
    """Why an experiment's share does not change; "" where it does."""
    name = one.definition.name
    if one.definition.kind != "canary":
        return f"{name} is a shadow: its challengers decide nothing; make a canary of another name"
    if one.state is not ExperimentState.RUNNING:
        return f"{name} is {one.state}: start it first"
    if not 0.0 <= word.share <= 1.0:
        return f"a share of {word.share:g}: expected one of 0 to 1, as 0.25"
    if one.steps and word.from_block <= one.steps[-1].from_block:
        return (
            f"{name} has a share of {one.steps[-1].share:g} from block {one.steps[-1].from_block} on: another one "
            f"from block {word.from_block} would move units that were treated"
        )
    return ""


def not_stopped(one: Experiment, _: ExperimentWord) -> str:
    """Why an experiment does not stop; "" where it does."""
    if one.state is ExperimentState.RUNNING:
        return ""
    return f"{one.definition.name} is {one.state}: there is nothing to stop"


def not_promoted(one: Experiment, word: ExperimentWord) -> str:
    """Why a promotion is none; "" where it is."""
    arms = [challenger.arm for challenger in one.definition.challengers]
    if word.arm in arms:
        return ""
    return f"{word.arm!r} is no challenger of {one.definition.name}: it has {', '.join(arms)}"
