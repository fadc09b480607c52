"""Where a plot cannot be written is said before the work."""

from __future__ import annotations

import pytest

from exporters.errors import ExportError
from exporters.plots import check_file


@pytest.mark.parametrize(("name", "words"), [
    ("x.foo", r"a plot is written as one of .*\.png"), ("x", "a plot is written as"),
    ("nowhere/x.png", "there is no folder"),
])  # fmt: skip
def test_what_is_no_place_for_a_plot_is_refused(tmp_path, name, words):
    with pytest.raises(ExportError, match=words):
        check_file(tmp_path / name)
    check_file(tmp_path / "x.PNG")
