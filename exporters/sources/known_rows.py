"""Rows like those that a model was trained on, as far as it tells: where none were logged with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from exporters.formats.tensors import Array

ROWS = 256
#: Values that a column may have: those that it had, or its two ends.
Column = tuple[str, Array]


def known_rows(model: Any, features: int) -> Array | None:
    """Rows made up from what a fitted model remembers of its columns, float64 [256, features]; None for nothing.

    Args:
        model: scikit-learn's, XGBoost's or LightGBM's.
        features: how many columns it takes.
    """
    told = dict(columns_of(model, features))
    if not told:
        return None
    random = np.random.default_rng(11)
    rows = random.normal(0.0, 2.0, (ROWS, features))
    for column, (kind, values) in told.items():
        if kind == "values":
            rows[:, column] = random.choice(values, ROWS)
        else:
            rows[:, column] = random.uniform(values.min(), values.max(), ROWS)
    return rows


def columns_of(model: Any, features: int) -> Iterator[tuple[int, Column]]:
    """Each column that something tells of, by its number; of what a step makes of the rows nothing is known."""
    if hasattr(model, "steps"):
        yield from _of_steps([step for _, step in model.steps], features)
        return
    if hasattr(model, "transformers_") and hasattr(model, "_transformer_to_input_indices"):
        for name, step, _ in model.transformers_:
            at = model._transformer_to_input_indices.get(name, [])  # noqa: SLF001 - where its columns come from
            if not isinstance(step, str):
                yield from ((int(at[k]), column) for k, column in columns_of(step, len(at)))
        return
    for read in READERS:
        yield from read(model, features)
    for within in members(model):
        if getattr(within, "n_features_in_", features) == features:
            yield from columns_of(within, features)


def _of_steps(steps: list[Any], features: int) -> Iterator[tuple[int, Column]]:
    """Of a pipeline's steps the first tells, and those behind it as far as their columns are still the table's."""
    if not steps:
        return
    first, *later = steps
    if hasattr(first, "get_support"):
        kept = first.get_support(indices=True)
        yield from ((int(kept[k]), column) for k, column in _of_steps(later, len(kept)))
    elif first == "passthrough":
        yield from _of_steps(later, features)
    else:
        yield from columns_of(first, features)
        if type(first).__name__.endswith("Imputer"):
            yield from _of_steps(later, features)


def members(model: Any) -> list[Any]:
    """The estimators that an estimator asks with its own rows."""
    found = []
    for name in ("best_estimator_", "estimator_", "regressor_", "estimators_", "transformer_list"):
        inner = getattr(model, name, None)
        if inner is None:
            continue
        listed = list(np.ravel(np.array(inner, dtype=object))) if isinstance(inner, list | np.ndarray) else [inner]
        found += [one for one in listed if hasattr(one, "__dict__")]
    # Of a forest the first trees say enough.
    return found[:20]


def _ends(low: Any, high: Any) -> Iterator[tuple[int, Column]]:
    low, high = (np.ravel(np.asarray(end, np.float64)) for end in (low, high))
    for k, pair in enumerate(zip(low, high, strict=True)):
        if np.isfinite(pair).all():
            yield k, ("ends", np.array(pair))


def _fitted(model: Any, names: tuple[str, ...], features: int) -> list[Array] | None:
    """Attributes of a model, where all are arrays with a number a column."""
    found = [getattr(model, name, None) for name in names]
    if any(v is None or np.ndim(v) < 1 or np.shape(v)[-1] != features for v in found):
        return None
    return [np.asarray(v, np.float64) for v in found]


def _of_scalers(model: Any, features: int) -> Iterator[tuple[int, Column]]:
    name = type(model).__name__
    if name == "MinMaxScaler" and (found := _fitted(model, ("data_min_", "data_max_"), features)):
        yield from _ends(*found)
    if name == "MaxAbsScaler" and (found := _fitted(model, ("max_abs_",), features)):
        yield from _ends(-found[0], found[0])
    for scaler, middle in {"StandardScaler": "mean_", "RobustScaler": "center_"}.items():
        if name == scaler and (found := _fitted(model, (middle, "scale_"), features)):
            yield from _ends(found[0] - 3 * found[1], found[0] + 3 * found[1])


def _of_kept_rows(model: Any, features: int) -> Iterator[tuple[int, Column]]:
    for name in ("_fit_X", "X_train_", "support_vectors_", "cluster_centers_", "quantiles_"):
        if (found := _fitted(model, (name,), features)) and found[0].ndim == 2:
            yield from _ends(found[0].min(axis=0), found[0].max(axis=0))
    if type(model).__name__ == "PCA" and (found := _fitted(model, ("mean_", "components_"), features)):
        far = 3 * np.sqrt(model.noise_variance_ + (found[1] ** 2 * model.explained_variance_[:, None]).sum(axis=0))
        yield from _ends(found[0] - far, found[0] + far)
    if type(model).__name__ == "GaussianNB" and (found := _fitted(model, ("theta_", "var_"), features)):
        far = 3 * np.sqrt(found[1])
        yield from _ends((found[0] - far).min(axis=0), (found[0] + far).max(axis=0))


def _of_lists(model: Any, _: int) -> Iterator[tuple[int, Column]]:
    for k, values in enumerate(getattr(model, "bin_edges_", [])):
        yield k, ("ends", np.asarray(values, np.float64))
    for k, values in enumerate(getattr(model, "categories_", [])):
        if np.asarray(values).dtype.kind in "biuf":
            yield k, ("values", np.asarray(values, np.float64))


def _of_trees(model: Any, _: int) -> Iterator[tuple[int, Column]]:
    tree = getattr(model, "tree_", None)
    if tree is not None and hasattr(tree, "threshold"):
        splits = tree.children_left >= 0
        for column in np.unique(tree.feature[splits]):
            yield int(column), _around(tree.threshold[splits & (tree.feature == column)])
    mapper = getattr(model, "_bin_mapper", None)
    encoder = getattr(model, "_preprocessor", None)
    if encoder is not None and hasattr(model, "is_categorical_"):
        # The categories come first, in another order than the columns.
        for column, values in zip(
            np.flatnonzero(model.is_categorical_), encoder.named_transformers_["encoder"].categories_, strict=True
        ):
            yield int(column), ("values", np.asarray(values, np.float64))
    if mapper is not None and getattr(model, "_preprocessor", None) is None:
        for k, values in enumerate(mapper.bin_thresholds_):
            if len(values):
                yield k, _around(values)


def _of_lightgbm(model: Any, _: int) -> Iterator[tuple[int, Column]]:
    booster = getattr(model, "booster", None) or (model.booster_ if getattr(model, "fitted_", False) else None)
    if booster is None or not hasattr(booster, "dump_model"):
        return
    dumped: Mapping[str, Any] = booster.dump_model(num_iteration=1)
    for name, told in dumped["feature_infos"].items():
        column = dumped["feature_names"].index(name)
        if told.get("values"):
            yield column, ("values", np.asarray(told["values"], np.float64))
        else:
            yield column, ("ends", np.array([told["min_value"], told["max_value"]], np.float64))


def _around(values: Array) -> Column:
    """Between what splits a column, and as far again beyond."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ("ends", np.array([-1.0, 1.0]))
    wide = float(np.ptp(finite)) or max(abs(float(finite[0])), 1.0)
    return ("ends", np.array([finite.min() - wide / 2, finite.max() + wide / 2]))


READERS: tuple[Callable[[Any, int], Iterator[tuple[int, Column]]], ...] = (
    _of_scalers, _of_kept_rows, _of_lists, _of_trees, _of_lightgbm,
)  # fmt: skip
