"""Whether an experiment's models are there, take and give what the desk's do, and learned from shorter spans."""

from __future__ import annotations

from contextlib import closing

from exporters.errors import ExportError
from exporters.release.triton_client import TritonServer
from exporters.repository.lineage import Lineage
from exporters.sources.registry import connect, param_of_run
from stack.workflows.asking import ModelPlace, signature_of
from trading.errors import ConfigurationError
from trading.experiments.definition import ExperimentDefinition, ServedModel
from trading.spans import span_text

#: The parameter of a training's run that says how far its labels look ahead, in ns.
HORIZON = "horizon_ns"


def check_models(definition: ExperimentDefinition, place: ModelPlace, mlflow_uri: str) -> None:
    """Refuse an experiment whose models cannot be compared.

    Args:
        definition: of it.
        place: where its models lie.
        mlflow_uri: who knows how far a model's labels look ahead.

    Raises:
        ConfigurationError: a version is unknown, differs from the desk's models, cannot be asked as the experiment
            asks, or has learned from labels that look further ahead than a block.
        ServiceUnavailable: Triton or MLflow does not answer.
    """
    with closing(TritonServer(place.address)) as triton:
        for arm, model in definition.models.items():
            ready = model.version in triton.ready(model.model)
            try:
                lineage = lineage_of(place, model)
            except ExportError as error:
                if ready:
                    # Served from elsewhere: the gateway looks at its tensors when it connects.
                    continue
                raise ConfigurationError(f"{arm}: {model} is neither served nor to be loaded: {error}") from error
            check_contract(arm, model, lineage)
            if (
                definition.kind == "canary"
                and lineage.contract.steps
                and not ready
                and model != definition.champion
            ):
                raise ConfigurationError(
                    f"{arm}: {model} is an ensemble, of which no copy can be loaded beside what is served: export "
                    "it with --fuse, and name that, or release it"
                )
            check_horizon(definition, arm, lineage, mlflow_uri)


def lineage_of(place: ModelPlace, model: ServedModel) -> Lineage:
    """Where a version comes from. Raises ExportError for one that is not there, or was changed."""
    signature_of(model.model, str(model.version))
    return place.repository.verified_lineage(model.model, model.version)


def check_contract(arm: str, model: ServedModel, lineage: Lineage) -> None:
    """Raise ConfigurationError where a version does not take and give what the desk's models do."""
    its, ours = lineage.contract, signature_of(model.model, str(model.version))
    if its.feature_version != ours.feature_version:
        raise ConfigurationError(
            f"{arm}: {model} was made for feature version {its.feature_version}, and the desk computes version "
            f"{ours.feature_version}: export it again"
        )
    if (its.inputs, its.outputs) != (ours.inputs, ours.outputs):
        names = [[t.name for t in side] for side in (its.inputs, its.outputs)]
        raise ConfigurationError(
            f"{arm}: {model} makes {names[1]} of {names[0]}, and the desk's models make "
            f"{[t.name for t in ours.outputs]} of {[t.name for t in ours.inputs]}"
        )


def check_horizon(definition: ExperimentDefinition, arm: str, lineage: Lineage, mlflow_uri: str) -> None:
    """Raise ConfigurationError where a block is shorter than what the model's labels look ahead.

    What a trade was good for is known after the horizon: outcomes of shorter blocks are mostly noise, and their
    dependence reaches over many of them.
    """
    runs = sorted({run for run in lineage.run_ids.values() if run})
    client = connect(mlflow_uri) if runs else None
    for run in runs:
        told = "" if client is None else param_of_run(client, run, HORIZON)
        if told.isdigit() and int(told) > definition.block_ns:
            raise ConfigurationError(
                f"{arm}: a block of {definition.block} is shorter than the {span_text(int(told))} that the labels "
                f"of its training look ahead (MLflow run {run}): make blocks at least as long"
            )
