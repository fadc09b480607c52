"""docs/support.md, from the table."""

from __future__ import annotations

from collections import Counter

from exporters.formats.scikit_steps import LIGHTGBM, XGBOOST
from tests.conformance.cases import Case, Exact, Refused
from tests.conformance.table import CASES

HEAD = """# What can be exported

A row is a model that was trained, logged, exported and asked, beside its own library in Python, about rows that it
knows and rows that nobody would send on purpose: missing and infinite values, denormals, zeros of either sign, whole
numbers, numbers of a million, the value of each of its trees' splits with the numbers on either side. `make test` runs
them all. *exact*: bit for bit. *within 1e-5*: no answer is further from the library's than that share of the row's
largest number, or of the usual one where that is more. *refused*: nothing is published, and the sentence holds the
words. No row is published and wrong.

What a file does not say cannot be kept: MLflow saves an XGBoost estimator without its `missing=`, so that one trained
with `missing=0.0` is served as MLflow loads it, with NaN for what is missing. And rows that were not logged are made up
from what a model remembers: a linear model, or a forest behind a scaler, remembers little, so log an `input_example`.

To add a kind, add a row to `tests/conformance`, then `python -m tests.conformance`.
"""


def text() -> str:
    """The page."""
    ends = Counter(
        "refused" if isinstance(c.ends, Refused) else "exact" if isinstance(c.ends, Exact) else "within"
        for c in CASES
    )
    parts = [
        HEAD,
        f"{len(CASES)} rows: {ends['exact']} exact, {ends['within']} within a bound, {ends['refused']} refused.\n",
    ]
    parts.append(yardstick())
    for library in dict.fromkeys(c.library for c in CASES):
        parts.append(f"## {library}\n\n| model | with | ends |\n| --- | --- | --- |")
        parts[-1] += "".join(
            f"\n| {c.kind} | {escaped(c.options)} | {escaped(str(c.ends))} |" for c in CASES if c.library == library
        )
        parts[-1] += "\n"
    return "\n".join(parts)


def escaped(words: str) -> str:
    """Within a cell."""
    return words.replace("|", "\\|").replace("*", "\\*")


def yardstick() -> str:
    """How much of what the converters know has a row."""
    known, covered = scikit_classes()
    served = {c.kind for c in CASES if not isinstance(c.ends, Refused)}
    read, batches, answered, runtime = NODE_TESTS
    return f"""## Measured by what others test

- skl2onnx converts {len(known)} classes of scikit-learn that take a table of numbers: {len(known & covered)} have a row here, alone, as a
  pipeline's step or within another, and {len(known & covered & alone_or_within())} of those are served in some form.
- Of XGBoost's and LightGBM's estimators of scikit-learn's kind {len(set(XGBOOST) & served)} of {len(XGBOOST)} and {len(set(LIGHTGBM) & served)} of {len(LIGHTGBM)} are served.
- ONNX's own tests of its operators: {read:,} are of opsets that Triton 25.03 reads. In {batches} every tensor has the same first
  axis, so that it can be a batch's once it is free; {answered} of them are served and answer as the test says, {runtime} as ONNX
  Runtime does where it does not (DFT of opset 19), none otherwise. The others are refused with a sentence: for a fixed
  batch axis, no axis but the batch's, types that are no numbers, or answers that depend on the rows beside them.
"""


#: Tests read, that can be batches, served as they say, served as the runtime answers: `test_conformance.py` counts them.
NODE_TESTS = (1120, 538, 300, 4)


def alone_or_within() -> set[str]:
    """What rows that are not refused name."""
    return {word for case in CASES if served(case) for word in words_of(case)}


def words_of(case: Case) -> set[str]:
    """The classes that a row may name."""
    return {word.strip("(),") for word in f"{case.kind} {case.options}".split()}


#: What reads text, lists or sparse rows, or is no estimator that is fitted.
OTHERS = {
    "CountVectorizer", "TfidfVectorizer", "TfidfTransformer", "DictVectorizer", "FeatureHasher", "LabelEncoder",
    "LabelBinarizer", "CastTransformer", "CastRegressor", "ReplaceTransformer", "_ConstantPredictor",
    "KernelCenterer", "KNeighborsTransformer", "NearestNeighbors",
}  # fmt: skip


def scikit_classes() -> tuple[set[str], set[str]]:
    """What skl2onnx knows of scikit-learn, and what the table's rows name."""
    from skl2onnx._supported_operators import sklearn_operator_name_map

    known = {c.__name__ for c in sklearn_operator_name_map if c.__module__.startswith("sklearn.")} - OTHERS
    words = {
        word.strip("(),") for c in CASES if c.library == "scikit-learn" for word in f"{c.kind} {c.options}".split()
    }
    return known, words & known


def served(case: Case) -> bool:
    """Whether it is not refused."""
    return not isinstance(case.ends, Refused)
