"""Who is champion, who would be, and what is recorded of the change."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from connectors.mlflow import MlflowClient, MlflowException, brief, mlflow
from trading.errors import ConfigurationError, ServiceUnavailable
from trainers.registry.aliases import CHALLENGER, CHAMPION, PREVIOUS, log_lost

if TYPE_CHECKING:
    from trainers.models.regime_teacher import Teacher


class Candidate(Struct, frozen=True):
    """A registered version with its evidence: tags of the version, metrics and tags of its run."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]
    metrics: dict[str, float]
    run_tags: dict[str, str]


# ---- promotion --------------------------------------------------------------------------------------------------


def candidate(name: str, reference: str) -> Candidate | None:
    """A version by alias or number, with its evidence; None where there is none.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    client = MlflowClient()
    try:
        if reference.isdigit():
            version = client.get_model_version(name, reference)
        else:
            version = client.get_model_version_by_alias(name, reference)
        run_id = str(version.run_id)
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise ServiceUnavailable(f"MLflow did not tell of {name}@{reference}: {str(error)[:300]}") from error
    return Candidate(
        name, str(version.version), run_id, dict(version.tags), dict(run.data.metrics), dict(run.data.tags)
    )


def known(name: str, version: str) -> Candidate:
    """A version. Raises ConfigurationError where it is gone; ServiceUnavailable."""
    found = candidate(name, version)
    if found is None:
        raise ConfigurationError(f"MLflow has no version {version} of {name} any more")
    return found


def parameter(version: Candidate, name: str) -> str:
    """Of the run that trained a version; "" where it has none. Raises ServiceUnavailable."""
    try:
        return str(MlflowClient().get_run(version.run_id).data.params.get(name, ""))
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow does not tell of run {version.run_id}: {brief(error)}") from error


def tagged(name: str, tags: Mapping[str, str]) -> Candidate | None:
    """The newest version of a model that has all of these tags; None where none has.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    client = MlflowClient()
    asked = " and ".join([f"name = '{name}'", *(f"tag.`{key}` = '{value}'" for key, value in tags.items())])
    try:
        found = client.search_model_versions(asked, max_results=1, order_by=["version_number DESC"])
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not tell of {name}: {str(error)[:300]}") from error
    return candidate(name, str(found[0].version)) if found else None


def tell(name: str, version: str, tags: Mapping[str, str]) -> None:
    """Put tags on a version. Raises ConfigurationError where there is none of it any more; ServiceUnavailable."""
    client = MlflowClient()
    try:
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value[:5_000])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ConfigurationError(f"MLflow has no version {version} of {name} any more") from error
        raise ServiceUnavailable(f"MLflow did not take what became of {name}: {str(error)[:300]}") from error


def promote(chosen: list[Candidate], record: Mapping[str, str]) -> None:
    """Give versions the alias `champion`, keep the ones before as `previous_champion`, and record it on all.

    Raises:
        ServiceUnavailable: MLflow refused or went away; what was moved is moved back, or named where it cannot be.
    """
    client = MlflowClient()
    before = {(one.name, alias): candidate(one.name, alias) for one in chosen for alias in (CHAMPION, PREVIOUS)}
    try:
        for one in chosen:
            for key, value in record.items():
                client.set_model_version_tag(one.name, one.version, key, value[:5_000])
        for one in chosen:
            old = before[one.name, CHAMPION]
            client.set_registered_model_alias(one.name, CHAMPION, one.version)
            if old is not None and old.version != one.version:
                client.set_registered_model_alias(one.name, PREVIOUS, old.version)
    except BaseException as error:
        stuck = restore(client, before)
        told = f"; by hand: {', '.join(stuck)}" if stuck else "; the aliases are as they were"
        if isinstance(error, MlflowException):
            raise ServiceUnavailable(f"MLflow did not take the promotion: {str(error)[:300]}{told}") from error
        if stuck:
            raise ServiceUnavailable(f"the promotion was interrupted{told}") from error
        raise


def restore(client: MlflowClient, before: Mapping[tuple[str, str], Candidate | None]) -> list[str]:
    """Move aliases back; returns what could not be, as a person would say it."""
    stuck = []
    for (name, alias), old in before.items():
        try:
            if old is not None:
                client.set_registered_model_alias(name, alias, old.version)
            elif alias in client.get_registered_model(name).aliases:
                client.delete_registered_model_alias(name, alias)
        except MlflowException:
            stuck.append(f"{name}@{alias} was {old.version if old else 'not set'}")
    return stuck


def record_decision(name: str, tags: Mapping[str, str], table: Mapping[str, Any]) -> str:
    """A run that says what was decided about a promotion, granted or refused; returns its id."""
    try:
        with mlflow.start_run(run_name=name, tags={"kind": "promotion", **tags}, log_system_metrics=False) as run:
            mlflow.log_dict(dict(table), "gates.json")
            return str(run.info.run_id)
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not record the decision: {str(error)[:300]}") from error


def record_outcome(run_id: str, outcome: str) -> None:
    """How a promotion that was begun has ended."""
    try:
        MlflowClient().set_tag(run_id, "outcome", outcome)
    except MlflowException as error:
        log_lost(f"that the promotion {run_id} {outcome}", error)


def teacher_in_service() -> Teacher | None:
    """The champion's teacher, else the challenger's, so that regimes keep their names; None where there is none."""
    for alias in (CHAMPION, CHALLENGER):
        found = candidate("regime_detection", alias)
        if found is None:
            continue
        try:
            return teacher_of(found)
        except (ConfigurationError, ServiceUnavailable):
            continue  # a version without one, from before there were any
    return None


def teacher_of(version: Candidate) -> Teacher:
    """The teacher that a version of regime_detection was taught by.

    Raises:
        ConfigurationError: it has none.
        ServiceUnavailable: MLflow does not answer.
    """
    # What only asks who is champion does without what trains.
    from trainers.walk_forward import from_plain

    named = f"{version.name} {version.version}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                run_id=version.run_id, artifact_path="teacher.json", dst_path=folder
            )
            return from_plain(json.loads(Path(path).read_bytes()))
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise ConfigurationError(f"{named} has no teacher: {brief(error)}") from error
        raise ServiceUnavailable(f"MLflow does not give the teacher of {named}: {brief(error)}") from error
    except (OSError, ValueError) as error:
        # Of artefacts that are not there MLflow's own store says so as of a file.
        raise ConfigurationError(f"{named} has no teacher: {brief(error)}") from error


def take_back(before: list[Candidate], taken: Mapping[str, str], record: Mapping[str, str]) -> None:
    """Give the alias `champion` back to versions, and have none called the previous one that was taken back; where
    somebody else is champion by now, that stays.

    Raises:
        ServiceUnavailable: MLflow refused or went away: the same again goes on from there.
    """
    client = MlflowClient()
    try:
        for one in before:
            now, older = candidate(one.name, CHAMPION), candidate(one.name, PREVIOUS)
            if now is not None and now.version not in {one.version, str(taken.get(one.name, ""))}:
                continue
            for key, value in record.items():
                client.set_model_version_tag(one.name, one.version, key, value[:5_000])
            client.set_registered_model_alias(one.name, CHAMPION, one.version)
            if older is not None and older.version in {one.version, str(taken.get(one.name, ""))}:
                client.delete_registered_model_alias(one.name, PREVIOUS)
    except MlflowException as error:
        raise ServiceUnavailable(f"MLflow did not take what was taken back: {brief(error)}") from error
