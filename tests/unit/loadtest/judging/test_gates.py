"""Targets are read whole or refused; a run is held, missed or proves nothing, and its files say so."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from loadtest.judging.gates import EXIT_CODES, judge
from loadtest.judging.targets import Target, pick, read
from loadtest.measuring.result import load, save
from loadtest.report import fresh, junit, markdown, rows, write_all
from loadtest.report.files import unique
from tests.unit.loadtest.results import result_of
from trading.errors import ConfigurationError

TARGET = Target(
    p50_ms=10, p95_ms=15, p99_ms=20, p99_9_ms=30, max_error_ratio=0.01, min_achieved_ratio=0.99, min_samples=100,
    max_lag_ms=5,
)  # fmt: skip
GOOD = np.full(2000, 5.0)


def broken(result):
    return [c.name for c in result.checks if c.verdict != "held"]


def test_a_good_run_is_held():
    found = judge(result_of(GOOD), TARGET)
    assert (found.verdict, broken(found), EXIT_CODES[found.verdict]) == ("held", [], 0)
    assert len(found.checks) == 8


def slow_tail(share, ms):
    made = GOOD.copy()
    made[: int(len(made) * share)] = ms
    return made


@pytest.mark.parametrize(
    ("latencies", "given", "verdict", "names"),
    [
        (slow_tail(0.002, 35), {}, "missed", ["p99.9"]),
        (slow_tail(0.02, 25), {}, "missed", ["p99"]),
        (slow_tail(0.06, 18), {}, "missed", ["p95"]),
        (slow_tail(0.6, 12), {}, "missed", ["p50"]),
        (GOOD, {"lost": 40}, "missed", ["error ratio", "achieved over offered"]),
        (GOOD, {"repeated": 30}, "missed", ["error ratio"]),
        (GOOD, {"undecided": {"superseded": 30}}, "missed", ["error ratio"]),
        (GOOD, {"errors": {"refused": 30}}, "missed", ["error ratio"]),
        (GOOD, {"lag_ms": 6}, "invalid", ["generator lag p99"]),
        (GOOD[:90], {}, "invalid", ["samples", "achieved over offered"]),
        (slow_tail(0.6, 12), {"lag_ms": 6}, "invalid", ["generator lag p99", "p50"]),
    ],
)
def test_each_gate_can_break(latencies, given, verdict, names):
    found = judge(result_of(latencies, **given), TARGET)
    assert (found.verdict, broken(found)) == (verdict, names)
    assert EXIT_CODES[verdict] == {"missed": 1, "invalid": 2}[verdict]


def test_nothing_answered_is_invalid_and_not_fast():
    found = judge(result_of(GOOD, lost=len(GOOD)), TARGET)
    assert found.verdict == "invalid"
    assert {"answers", "p50", "p99"} <= set(broken(found))
    # The generator was in time, and that is known though nobody answered.
    assert found.lag.p99 == pytest.approx(0.1, rel=0.01)


def test_a_desk_that_fails_every_call_has_missed():
    found = judge(result_of(GOOD, lost=len(GOOD), errors={"refused": len(GOOD)}), TARGET)
    assert found.verdict == "missed"


def test_a_limit_that_is_left_out_does_not_judge():
    found = judge(result_of(np.full(200, 1e5)), Target(min_samples=1))
    assert [c.name for c in found.checks] == ["samples"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\ntargets: {a: {p98_ms: 3}}", "p98_ms"),
        ("version: 1\ntargets: {a: {p50_ms: -3}}", "p50_ms -3 is not above 0"),
        ("version: 1\ntargets: {a: {p50_ms: .nan}}", "p50_ms nan is not above 0"),
        ("version: 1\ntargets: {a: {p50_ms: 30, p99_ms: 20}}", "higher percentile has a lower limit"),
        ("version: 1\ntargets: {a: {max_error_ratio: 2}}", "max_error_ratio 2 is not within 0 and 1"),
        ("version: 1\ntargets: {a: {min_samples: 0}}", "min_samples 0"),
        ("version: 1\ntargets: {a: {p50_ms: fast}}", "Expected `float | null`"),
        ("version: 1\ntargets: {}", "has no targets"),
        ("version: 2\ntargets: {a: {}}", "version 2"),
        ("targets: {}", "version"),
        ("version: [", "line 1"),
        ("just text", "Expected `object`"),
    ],
)
def test_a_wrong_targets_file_is_a_sentence(tmp_path, text, says):
    path = tmp_path / "targets.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read(path)
    assert says in str(raised.value)
    assert str(path) in str(raised.value)


def test_targets_that_are_missing_name_those_there_are(tmp_path):
    with pytest.raises(ConfigurationError, match="no target 'nosuch': it has decision, triton, torchserve, grpc"):
        pick("nosuch")
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "absent.yaml")
    assert set(read()) >= {"decision", "triton", "grpc", "stream", "http-json", "http-binary", "end-to-end"}


def test_junit_has_a_case_a_check_and_tells_misses_from_invalid_runs():
    bad = judge(result_of(slow_tail(0.02, 25), lag_ms=6), TARGET)
    root = ET.fromstring(junit([judge(result_of(GOOD), TARGET), bad]))
    good_suite, bad_suite = root.findall("testsuite")
    assert (good_suite.get("tests"), good_suite.get("failures"), good_suite.get("errors")) == ("8", "0", "0")
    assert (bad_suite.get("failures"), bad_suite.get("errors")) == ("1", "1")
    assert [e.get("message") for e in bad_suite.iter("failure")] == ["p99: 25.01 ms, the goal is at most 20 ms"]
    assert "generator lag p99: 6" in next(bad_suite.iter("error")).get("message")


def test_markdown_has_each_goal_beside_its_figure_and_escapes_what_would_break_the_table():
    text = markdown([judge(result_of(GOOD), TARGET)])
    assert "| p99 | at most 20 ms | 5" in text
    assert "**held**" in text
    bad = markdown([result_of(GOOD, errors={"a|b": 3})])
    assert "| failed: a\\|b |" in bad


def test_files_of_a_run_are_all_there_and_read_back(tmp_path):
    result = judge(result_of(slow_tail(0.02, 25)), TARGET)
    report = write_all(tmp_path, [result])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["junit.xml", "report.html", "result.json", "summary.md"]
    again = load(tmp_path / "result.json")
    assert again == result
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "p99" in page
    assert '<td class="missed">missed</td>' in page
    assert "source a|b" in page


def test_what_was_not_measured_is_read_back_as_not_measured(tmp_path):
    nothing = judge(result_of(GOOD, lost=len(GOOD)), TARGET)
    save(tmp_path / "r.json", nothing)
    again = load(tmp_path / "r.json")
    assert np.isnan([again.latency.p50, again.service.max]).all()
    assert [c.verdict for c in again.checks] == [c.verdict for c in nothing.checks]
    assert write_all(tmp_path, [again]).is_file()


def test_a_verdict_does_not_outlive_its_run(tmp_path):
    write_all(tmp_path, [judge(result_of(GOOD), TARGET)])
    (tmp_path / "mine.txt").touch()
    fresh(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_several_runs_have_a_file_each(tmp_path):
    runs = [result_of(GOOD), result_of(GOOD), result_of(GOOD, target="grpc")]
    write_all(tmp_path, runs)
    assert {"decision.json", "decision-2.json", "grpc.json"} <= {p.name for p in tmp_path.iterdir()}
    assert unique(["a", "b", "a"]) == ["a", "b", "a-2"]


def test_what_is_no_result_is_a_sentence(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{}", '{"checks": 5}', "[1]", "no JSON"):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="is no result of a load test"):
            load(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "absent.json")
    save(path, result_of(GOOD))
    other = json.loads(path.read_text()) | {"format": 9}
    path.write_text(json.dumps(other))
    with pytest.raises(ConfigurationError, match="format 9"):
        load(path)


def test_an_html_report_escapes_what_servers_say(tmp_path):
    report = write_all(tmp_path, [result_of(GOOD, errors={"<script>alert(1)</script>": 2})])
    assert "<script>" not in report.read_text()


def test_rows_tell_what_was_not_decided():
    told = {name: measured for name, _, measured, _ in rows(result_of(GOOD, undecided={"superseded": 3}))}
    assert told["undecided: superseded"] == "3"
    assert told["achieved"].endswith("/s")
    assert msgspec.json.decode(msgspec.json.encode(result_of(GOOD)), type=dict)["latency"]["count"] == 2000
