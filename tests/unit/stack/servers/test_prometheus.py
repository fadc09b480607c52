"""A Prometheus that does not know an option is started without it: it would not start at all."""

from __future__ import annotations

import pytest

from stack.servers.prometheus import exemplars
from stack.watching.scraping import EXEMPLARS


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("echo 'prometheus, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0)'", [EXEMPLARS]),
        ("echo 'prometheus, version 3.5.0 (branch: HEAD)'", [EXEMPLARS]),
        ("echo 'prometheus, version 2.26.0 (branch: HEAD)' >&2", [EXEMPLARS]),
        ("echo 'prometheus, version 2.24.1+ds (branch: debian/sid)'", []),
        ("echo 'prometheus, version 1.8.2 (branch: HEAD)' >&2; exit 1", []),
        ("echo odd", []),
        ("exit 3", []),
    ],
)
def test_exemplars_are_kept_by_one_that_knows_them(tmp_path, told, wanted):
    program = tmp_path / "prometheus"
    program.write_text(f"#!/bin/sh\n{told}\n")
    program.chmod(0o755)
    assert exemplars(str(program)) == wanted


def test_one_that_is_not_there_has_no_options():
    assert exemplars("/nowhere/prometheus") == []
