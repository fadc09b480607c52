"""What versions are called in MLflow, and how it is reached: without what trains them."""

from __future__ import annotations

import logging

from connectors.mlflow import MlflowException, mlflow, silent, use

EXPERIMENT = "ultrathink"
CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous_champion"


def connect(uri: str) -> None:
    """Point MLflow at a server. Raises ServiceUnavailable when it does not answer."""
    use(uri)
    mlflow.set_system_metrics_sampling_interval(1)
    mlflow.set_system_metrics_samples_before_logging(1)
    try:
        mlflow.set_experiment(EXPERIMENT)
    except MlflowException as error:
        raise silent(uri, error) from error


def log_lost(what: str, error: MlflowException) -> None:
    """MLflow did not take something that is no reason to stop."""
    logging.getLogger(__name__).warning("MLflow did not take %s: %s", what, str(error)[:200])
