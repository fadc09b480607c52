"""What became of the longest tests is told by name, and one that failed fails all."""

from __future__ import annotations

import json
import sys

import pytest

from tests import long

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase file="tests/e2e/test_a.py" classname="tests.e2e.test_a" name="test_one[x]" time="61.26"/>
<testcase file="tests/e2e/test_a.py" classname="tests.e2e.test_a" name="test_two" time="121.0"><{}/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("part", "end"), [("failure", "failed"), ("error", "failed"), ("skipped", "skipped"), ("system-out", "passed")]
)
def test_each_is_told_the_longest_first(tmp_path, part, end):
    (tmp_path / "report.xml").write_text(REPORT.format(part))
    assert long.ends(tmp_path / "report.xml") == [
        {"test": "tests/e2e/test_a.py::test_two", "end": end, "seconds": 121.0},
        {"test": "tests/e2e/test_a.py::test_one[x]", "end": "passed", "seconds": 61.3},
    ]


def test_pytest_runs_what_is_marked_and_one_that_fails_fails_all(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  long: x\n")
    tests = "@pytest.mark.long\ndef test_a():\n    pass\n@pytest.mark.long\ndef test_b():\n    assert False\n"
    (tmp_path / "test_x.py").write_text(f"import pytest\n{tests}def test_c():\n    assert False\n")
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    assert long.main(["--json"]) == 1
    assert sorted(one["end"] for one in json.loads(capsys.readouterr().out)["tests"]) == ["failed", "passed"]


def test_what_was_skipped_proves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  long: x\n")
    tests = (
        "@pytest.mark.long\ndef test_a():\n    pass\n@pytest.mark.long\ndef test_b():\n    pytest.skip('no GPU')\n"
    )
    (tmp_path / "test_x.py").write_text(f"import pytest\n{tests}")
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    assert long.main(["--json"]) == 1
    assert sorted(one["end"] for one in json.loads(capsys.readouterr().out)["tests"]) == ["passed", "skipped"]
