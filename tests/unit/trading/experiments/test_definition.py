"""An experiment is taken whole, or refused with what is wrong and where."""

from __future__ import annotations

import math

import msgspec
import pytest

from trading.errors import ConfigurationError
from trading.experiments import definition
from trading.experiments.definition import CHAMPION, Challenger, ServedModel, parse

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
        ("version: 1\n", "version: 2\n", "line 1: version: Invalid enum value 2"),
        ("version: 1\n", "", "line 1: Object missing required field `version`"),
        ("fresh-regimes", "Fresh Regimes", "line 2: name: Expected `str` matching regex"),
        ("fresh-regimes", '"fresh\\n"', "line 2: name: Expected `str` matching regex"),
        ("version: 3}\nch", "version: 0}\nch", "line 3: champion.version: Expected `int` >= 1"),
        ("version: 3}\nch", "version: three}\nch", "line 3: champion.version: Expected `int`, got `str`"),
        ("arm: slow", "arm: fresh", "line 6: fresh is an arm already"),
        ("arm: slow", "arm: champion", "line 6: champion is what the desk's own decisions are counted under"),
        ("trading_decision, version: 3", "trading_decision_fused, version: 3", "line 6: trading_decision_fused/3 is the champion"),
        ("trading_decision, version: 3", "trading_decision_fused, version: 4", "line 6: trading_decision_fused/4 is a challenger already"),
        ("trading_decision, version: 3", "../etc, version: 3", "line 6: challengers.1.model: Expected `str` matching regex"),
        ("effect: 0.2", "effect: 0", "line 7: primary.effect: Expected `float` > 0.0"),
        ("effect: 0.2", "effect: .nan", "line 7: primary.effect: Expected `float`"),
        ("effect: 0.2", "effect: .inf", "line 7: primary.effect: Expected `float`"),
        ("effect: 0.2", "efect: 0.2", "line 7: primary: Object contains unknown field `efect`"),
        ("effect: 0.2", "effect: 0.2, metric: sharpe", "line 7: primary.metric: Invalid enum value 'sharpe'"),
        ("block: 5m", "block: soon", "line 8: 'soon' is no span of time"),
        ("block: 5m", "block: 50ms", "line 8: a block of 50ms: expected one of 100ms to 7d"),
        ("block: 5m", "block: 8d", "line 8: a block of 8d: expected one of 100ms to 7d"),
        ("block: 5m", "kind: canary", "line 8: kind: Invalid enum value 'canary'"),
        ("block: 5m", "share: 1.5", "line 8: Object contains unknown field `share`"),
        ("block: 5m", "alpha: 0", "line 8: alpha: Expected `float` >= 0.0001"),
        ("block: 5m", "planned_blocks: 5", "line 8: planned_blocks: Expected `int` >= 100"),
        ("block: 5m", "at_least: {blocks: 5}", "line 8: at_least.blocks: Expected `int` >= 100"),
        ("block: 5m", "at_least: {span: 5}", "line 8: at_least.span: Expected `str`, got `int`"),
        ("block: 5m", "costs: {fee_bps: -1}", "line 8: costs.fee_bps: Expected `float` >= 0.0"),
        ("metric: drawdown", "metric: denial_rate", "line 11: denial_rate is guarded already"),
        ("metric: drawdown", "metric: p99_ms", "line 11: guardrails.1.metric: Invalid enum value 'p99_ms'"),
        ("block: 5m", f"at_least: {{span: {'9' * 400}d}}", "line 8: '9999"),
        ("tolerance: 50", "tolerance: -1", "line 11: guardrails.1.tolerance: Expected `float` >= 0.0"),
        (WHOLE, "", "line 1: Object missing required field `version`"),
        (WHOLE, "- 1", "line 1: Expected `object`, got `array`"),
        (WHOLE, "a: b: c", "line 1: no YAML"),
        (WHOLE, WHOLE + "block: 6m\n", "line 12: block is given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(old, new, told):
    assert old in WHOLE
    with pytest.raises(ConfigurationError) as caught:
        parse(WHOLE.replace(old, new, 1), "some.yaml")
    assert str(caught.value).startswith(f"some.yaml, {told}")


def test_challengers_are_some_and_not_too_many():
    with pytest.raises(ConfigurationError, match="line 4: challengers: Expected `array` of length >= 1"):
        parse("version: 1\nname: a\nchampion: {model: m, version: 1}\nchallengers: []\nprimary: {effect: 1}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="none.yaml cannot be read"):
        definition.read(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="odd.yaml cannot be read"):
        definition.read(tmp_path / "odd.yaml")
    (tmp_path / "good.yaml").write_text(WHOLE)
    assert definition.read(tmp_path / "good.yaml") == parse(WHOLE)
