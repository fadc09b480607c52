"""What decides the desk now, and what of an experiment would come to nothing there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from connectors.kafka.cluster import require
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import read_to_end
from gateway.settings import GatewaySettings
from stack.workflows.experiments.commanding import newest_decisions
from trading.errors import BadRecord, ConfigurationError
from trading.experiments.definition import ExperimentDefinition, ServedModel
from trading.models.serving import GatewayStart, read_start

#: Of the desk's symbols so many are named.
MOST_NAMED = 8


def decides(settings: GatewaySettings) -> ServedModel | None:
    """What the gateway asks that began last, or followed a release last; None where none has.

    Raises ServiceUnavailable.
    """
    start = newest_start(settings.kafka_bootstrap, settings.topics.starts, settings.decisions_topic)
    if start is None or not (start.model_version.isascii() and start.model_version.isdigit()):
        return None
    return ServedModel(start.model_name, int(start.model_version))


def deciding_since(settings: GatewaySettings) -> tuple[ServedModel, int] | None:
    """What decides the desk now, and since when without another between, in ns of wall time; None where nothing
    does.

    Raises ServiceUnavailable.
    """
    found: tuple[ServedModel, int] | None = None
    for start in starts(settings.kafka_bootstrap, settings.topics.starts, settings.decisions_topic):
        if not (start.model_version.isascii() and start.model_version.isdigit()):
            found = None
            continue
        model = ServedModel(start.model_name, int(start.model_version))
        if found is None or found[0] != model:
            found = (model, start.at_ns)
    return found


def refuse_other_champion(definition: ExperimentDefinition, settings: GatewaySettings) -> None:
    """Raise ConfigurationError where something else than an experiment's champion decides; ServiceUnavailable."""
    if why := objection(definition, decides(settings)):
        raise ConfigurationError(why)


def objection(definition: ExperimentDefinition, now: ServedModel | None) -> str:
    """Why nothing of an experiment would count where this decides; "" where it would, or nobody knows."""
    if now is None or now == definition.champion:
        return ""
    return (
        f"the desk is decided by {now}, and the champion of {definition.name} is {definition.champion}: nothing of "
        f"it would count. Name {now} as the champion, or have {definition.champion} decide first (`ultrathink "
        "export release`; another model: ULTRATHINK_GATEWAY_MODEL_NAME)"
    )


def doubts(definition: ExperimentDefinition, seen: Sequence[str]) -> list[str]:
    """What nobody need refuse, and a person should know before days have passed.

    Args:
        definition: of the experiment.
        seen: symbols of the newest decisions; empty where nothing was decided yet.
    """
    champion = definition.champion.model
    found = [
        f"{one.arm} can be compared, and not promoted: it is {one.served}, and a release of {one.model} changes "
        f"nothing for a desk that is decided by {champion}; export it as a version of {champion}"
        for one in definition.challengers
        if one.model != champion
    ]
    if seen and definition.symbols and not set(definition.symbols) & set(seen):
        wanted, there = (", ".join(sorted(set(one))[:MOST_NAMED]) for one in (definition.symbols, seen))
        found.append(f"none of the newest decisions is about {wanted}: they are about {there}")
    return found


def symbols_of(settings: GatewaySettings) -> list[str]:
    """That the newest decisions are about. Raises ServiceUnavailable."""
    return sorted({d.symbol for found in newest_decisions(settings).values() for d in found})


def newest_start(bootstrap: str, topic: str, decisions_topic: str) -> GatewayStart | None:
    """What the gateway that began last said of itself, by the log: clocks differ. None where none has.

    Raises ServiceUnavailable.
    """
    newest = deque(starts(bootstrap, topic, decisions_topic), maxlen=1)
    return newest[0] if newest else None


def starts(bootstrap: str, topic: str, decisions_topic: str) -> Iterator[GatewayStart]:
    """Of all gateways that write these decisions, in the log's order. Raises ServiceUnavailable."""
    require(bootstrap, topic)
    for messages in read_to_end(bootstrap, topic, 0, 0):
        for message in messages:
            with suppress(BadRecord):
                found = read_start(as_bytes(message.value()))
                if found.decisions_topic == decisions_topic:
                    yield found
