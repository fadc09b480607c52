"""Rows that a person gives in a file: what is read, and what is refused rather than read wrongly."""

from __future__ import annotations

import zipfile

import numpy as np
import pandas as pd
import pytest

from trading.errors import ConfigurationError
from trading.models.rows import arranged, cast, in_order, read_rows

NUMBERS = np.arange(12.0).reshape(3, 4) + 0.5
BIG = 2**53 + 1


def refused(path, says):
    with pytest.raises(ConfigurationError, match=says):
        read_rows(path)


def test_a_heading_that_pandas_counts_is_no_row_and_is_not_guessed_about(tmp_path):
    pd.DataFrame(NUMBERS).to_csv(tmp_path / "counted.csv", index=False)
    refused(tmp_path / "counted.csv", "0, 1, 2, 3, may be a heading without names or a row")
    pd.DataFrame(NUMBERS).to_csv(tmp_path / "bare.csv", index=False, header=False)
    assert np.array_equal(read_rows(tmp_path / "bare.csv").arrays[""], NUMBERS)
    pd.DataFrame(NUMBERS).set_axis([str(k) for k in range(4)], axis=1).to_parquet(tmp_path / "counted.parquet")
    found = read_rows(tmp_path / "counted.parquet")
    assert np.array_equal(found.arrays[""], NUMBERS)
    assert found.columns == ()


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "zip"])
def test_a_damaged_file_is_a_sentence_wherever_it_is_damaged(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "npz":
        np.savez_compressed(path, x=np.random.default_rng(1).normal(size=(200, 4)))
    elif kind == "npy":
        np.save(path, NUMBERS)
    elif kind == "parquet":
        pd.DataFrame(np.random.default_rng(1).normal(size=(200, 4)), columns=list("abcd")).to_parquet(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.txt", "words")
    whole, chance, seen = path.read_bytes(), np.random.default_rng(7), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for at in chance.integers(6, len(whole), 4):
            damaged[at] = chance.integers(0, 256)
        path.write_bytes(bytes(damaged[: chance.integers(7, len(whole) + 1)]))
        try:
            read_rows(path)
        except ConfigurationError:
            seen += 1
    assert seen > 20


def test_whole_numbers_that_double_precision_changes_are_refused(tmp_path):
    (tmp_path / "ids.csv").write_text(f"id,x\n{BIG},1.5\n2,2.5\n")
    refused(tmp_path / "ids.csv", "column 'id' holds whole numbers beyond 2\\^53")
    (tmp_path / "ids.csv").write_text(f"id,x\n{BIG - 1},1.5\n,2.5\n")
    found = read_rows(tmp_path / "ids.csv").arrays[""]
    assert (found[0, 0], np.isnan(found[1, 0])) == (2.0**53, True)
    (tmp_path / "ids.csv").write_text(f"id,x\n{BIG},1.5\n,2.5\n")
    refused(tmp_path / "ids.csv", "column 'id' holds whole numbers beyond 2\\^53")
    np.save(tmp_path / "ids.npy", np.array([[BIG]]))
    assert read_rows(tmp_path / "ids.npy").arrays[""][0, 0] == BIG


@pytest.mark.parametrize(
    ("array", "dtype", "says"),
    [
        ([1.5], "int64", "other numbers"), ([np.nan], "int32", "other numbers"), ([300], "uint8", "other numbers"),
        ([1e39], "float32", "beyond float32"), ([1e6], "float16", "beyond float16"), ([BIG], "float64", "2\\^53"),
        ([2], "bool", "other numbers"),
    ],
)  # fmt: skip
def test_numbers_that_a_dtype_has_not_are_refused(array, dtype, says):
    with pytest.raises(ConfigurationError, match=says):
        cast(np.array(array), np.dtype(dtype), "x")


def test_what_is_not_finite_stays_so_and_rounding_is_allowed():
    found = cast(np.array([np.inf, np.nan, 0.1]), np.dtype(np.float32), "x")
    assert (found[0], np.isnan(found[1]), found[2]) == (np.inf, True, np.float32(0.1))
    assert cast(np.array([2**24 + 1]), np.dtype(np.float32), "x")[0] == 2**24


def test_a_table_is_put_into_the_order_of_a_models_columns(tmp_path):
    (tmp_path / "rows.csv").write_text("b,a,c\n2,1,3\n")
    rows = read_rows(tmp_path / "rows.csv")
    assert arranged(in_order(rows, ["a", "b"]), ["input"])[0].tolist() == [[1.0, 2.0]]
    assert in_order(rows, []) is rows
    with pytest.raises(ConfigurationError, match="has no column 'd', which the model was trained on"):
        in_order(rows, ["a", "d"])
