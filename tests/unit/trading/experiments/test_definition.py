"""An experiment is taken whole, or refused with what is wrong and where."""

from __future__ import annotations

import math

import msgspec
import pytest

from trading.errors import ConfigurationError
from trading.experiments import definition, reading
from trading.experiments.definition import CHAMPION, Challenger, ServedModel
from trading.experiments.reading import parse

WHOLE = """\
version: 1
name: fresh-regimes
champion: {model: trading_decision_fused, version: 3}
challengers:
  - {arm: fresh, model: trading_decision_fused, version: 4}
  - {arm: slow, model: trading_decision, version: 3}
primary: {effect: 0.2}
block: 5m
guardrails:
  - {metric: denial_rate, tolerance: 0.05, at_once: 0.5}
  - {metric: drawdown, tolerance: 50}
"""


def test_what_is_written_is_taken():
    found = parse(WHOLE)
    assert found.champion == ServedModel("trading_decision_fused", 3)
    assert found.challengers[1] == Challenger("slow", "trading_decision", 3)
    assert found.arms == (CHAMPION, "fresh", "slow")
    assert found.block_ns == 300_000_000_000
    assert (found.kind, found.alpha, found.planned_blocks, found.at_least.blocks) == ("shadow", 0.05, 1000, 100)
    assert [rail.one_block for rail in found.guardrails] == [0.5, 50.0]
    assert definition.GuardedMetric("turnover", 5.0).one_block == math.inf
    # As a record carries it.
    assert msgspec.json.decode(msgspec.json.encode(found), type=definition.ExperimentDefinition) == found


def test_its_schema_names_every_field():
    told = definition.json_schema()["$defs"]["ExperimentDefinition"]
    assert set(told["properties"]) == set(definition.ExperimentDefinition.__struct_fields__)
    assert told["additionalProperties"] is False


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("version: 1\n", "version: 2\n", "line 1: version: 2: expected 1"),
        ("version: 1\n", "", "line 1: version is missing"),
        ("fresh-regimes", "Fresh Regimes", "line 2: name: "),
        ("fresh-regimes", '"fresh\\n"', "line 2: name: "),
        ("version: 3}\nch", "version: 0}\nch", "line 3: champion.version: 0: expected a whole number of at least 1 and of at most 999,999,999"),
        ("version: 3}\nch", "version: three}\nch", "line 3: champion.version: three: expected a whole number of at least 1"),
        ("arm: slow", "arm: fresh", "line 6: fresh is an arm already"),
        ("arm: slow", "arm: champion", "line 6: champion is what the desk's own decisions are counted under"),
        ("trading_decision, version: 3", "trading_decision_fused, version: 3", "line 6: trading_decision_fused/3 is the champion"),
        ("trading_decision, version: 3", "trading_decision_fused, version: 4", "line 6: trading_decision_fused/4 is a challenger already"),
        ("trading_decision, version: 3", "../etc, version: 3", 'line 6: challengers.2.model: "../etc": expected letters, digits, - and _, a letter first'),
        ("effect: 0.2", "effect: 0", "line 7: primary.effect: 0: expected a number above 0 and below 1e+12"),
        ("effect: 0.2", "effect: .nan", "line 7: primary.effect: nan: expected a number above 0"),
        ("effect: 0.2", "effect: .inf", "line 7: primary.effect: inf: expected a number above 0"),
        ("effect: 0.2", "efect: 0.2", "line 7: primary: efect is no field here: did you mean effect?"),
        ("effect: 0.2", "effect: 0.2, metric: sharpe", "line 7: primary.metric: sharpe: expected net_bps"),
        ("block: 5m", "block: soon", "line 8: 'soon' is no span of time"),
        ("block: 5m", "block: 50ms", "line 8: a block of 50ms: expected one of 100ms to 7d"),
        ("block: 5m", "block: 8d", "line 8: a block of 8d: expected one of 100ms to 7d"),
        ("block: 5m", "kind: canary", "line 8: a canary needs a salt"),
        ("block: 5m", "kind: blue", "line 8: kind: blue: expected one of canary, shadow"),
        ("block: 5m", "salt: some-salt-of-it", "line 8: salt is for a canary"),
        ("block: 5m", "steps: [0.5]", "line 8: steps is for a canary"),
        ("block: 5m", "symbols: [A]", "line 8: symbols is for a canary"),
        ("block: 5m", "kind: canary\nsalt: short", "line 9: salt: short: expected a text of 8 to 64 letters, digits"),
        ("block: 5m", "kind: canary\nsalt: long-enough\nsymbols: [A, A]", "line 10: A is listed twice"),
        ("block: 5m", "kind: canary\nsalt: long-enough\nsymbols: ['A B']", 'line 10: symbols.1: "A B": expected letters, digits, dots'),
        ("block: 5m", "kind: canary\nsalt: long-enough\nsteps: [0.5, 1.5]", "line 10: steps.2: 1.5: expected a number above 0 and of at most 1"),
        ("block: 5m", "kind: canary\nsalt: long-enough\nsteps: [0.5, 0.5]", "line 10: 0.5 is not above the step before it"),
        ("block: 5m", "share: 1.5", "line 8: share is no field here: expected some of version, name, champion"),
        ("block: 5m", "alpha: 0", "line 8: alpha: 0: expected a number of at least 0.0001 and of at most 0.2"),
        ("block: 5m", "planned_blocks: 5", "line 8: planned_blocks: 5: expected a whole number of at least 100"),
        ("block: 5m", "at_least: {blocks: 5}", "line 8: at_least.blocks: 5: expected a whole number of at least 100"),
        ("block: 5m", "at_least: {span: 5}", "line 8: at_least.span: 5: expected a span of time with its unit, as 10m"),
        ("block: 5m", "costs: {fee_bps: -1}", "line 8: costs.fee_bps: -1: expected a number of at least 0"),
        ("metric: drawdown", "metric: denial_rate", "line 11: denial_rate is guarded already"),
        ("metric: drawdown", "metric: p99_ms", "line 11: p99_ms is of a canary"),
        ("metric: drawdown", "metric: p95", "line 11: guardrails.2.metric: p95: expected one of denial_rate, drawdown, error_rate, flip_rate, p99_ms, turnover"),
        ("block: 5m", "alpha: 5%", 'line 8: alpha: "5%": expected a number of at least 0.0001 and of at most 0.2; write 0.05 for 5%'),
        ("block: 5m", "block: 600", "line 8: block: 600: expected a span of time with its unit, as 10m"),
        ("block: 5m", "planed_blocks: 500", "line 8: planed_blocks is no field here: did you mean planned_blocks?"),
        ("block: 5m", "at_least: 5", "line 8: at_least: 5: expected {blocks: …, span: …}"),
        ("champion: {model: trading_decision_fused, version: 3}", "champion: x/5", 'line 3: champion: "x/5": expected {model: …, version: …}'),
        ("tolerance: 0.05", "tolerance: 1.5", "line 10: 1.5: a denial_rate is a share, and never above 1"),
        ("at_once: 0.5", "at_once: 0.01", "line 10: 0.01 of a single block is less than the tolerance of all, 0.05"),
        ("effect: 0.2", "effect: " + "9" * 5000, f"line 7: '{'9' * 60}…' cannot be read: it has too many digits"),
        ("block: 5m", f"at_least: {{span: {'9' * 400}d}}", "line 8: '9999"),
        ("tolerance: 50", "tolerance: -1", "line 11: guardrails.2.tolerance: -1: expected a number of at least 0"),
        (WHOLE, "- 1", "line 1: [1]: expected {version: …, name: …, champion: …, challengers: …, primary: …}"),
        (WHOLE, "a: b: c", "line 1: no YAML"),
        (WHOLE, WHOLE + "block: 6m\n", "line 12: block is given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(old, new, told):
    assert old in WHOLE
    with pytest.raises(ConfigurationError) as caught:
        parse(WHOLE.replace(old, new, 1), "some.yaml")
    assert str(caught.value).startswith(f"some.yaml, {told}")


def test_numbers_are_taken_as_people_write_them():
    assert parse(WHOLE.replace("block: 5m", "alpha: 1e-3")).alpha == 0.001
    assert parse(WHOLE.replace("effect: 0.2", "effect: 2E-1")).primary.effect == 0.2


def test_challengers_are_some_and_not_too_many():
    with pytest.raises(ConfigurationError, match=r"line 4: challengers: \[\]: expected a list of 1 to 8"):
        parse("version: 1\nname: a\nchampion: {model: m, version: 1}\nchallengers: []\nprimary: {effect: 1}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for name, content, told in (
        ("none.yaml", None, "none.yaml is no file"),
        ("odd.yaml", b"\xff\xfe", "odd.yaml is no text in UTF-8: save it as such"),
        ("empty.yaml", b"# nothing\n", "empty.yaml is empty"),
        ("large.yaml", b"#" * 1_000_001, "large.yaml is larger than 1,000,000 bytes"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=told):
            reading.read(tmp_path / name)
    with pytest.raises(ConfigurationError, match="is no file"):
        reading.read(tmp_path)
    (tmp_path / "good.yaml").write_text(WHOLE)
    assert reading.read(tmp_path / "good.yaml") == parse(WHOLE)
