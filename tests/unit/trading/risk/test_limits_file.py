"""A limits file is read whole or not at all; every error has its line."""

from __future__ import annotations

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.paths import ROOT
from trading.errors import ConfigurationError
from trading.risk import limits_file
from trading.risk.limits import Limits, LimitSet, LimitsFile
from trading.risk.limits_file import LimitsError, changes, parse

EXAMPLE = ROOT / "deploy" / "limits.yaml"
GOOD = """
currency: USD
rates: {EUR: 1.1}
session: {timezone: Europe/Berlin, opens: "09:00", closes: "17:30", days: [mon, tue]}
defaults: {max_order_notional: 10_000, max_leverage: 3}
accounts:
  desk: {max_order_notional: 8_000, capital: 1e6}
strategies:
  trend: {max_order_notional: 6_000}
symbols:
  SAP: {currency: EUR, max_order_notional: 4_000, lot: 1}
"""


def test_the_most_specific_level_wins():
    file = parse(GOOD)
    assert LimitSet(file, "other").of("X").max_order_notional == 10_000
    assert LimitSet(file, "desk").of("X").max_order_notional == 8_000
    assert LimitSet(file, "desk", "trend").of("X").max_order_notional == 6_000
    sap = LimitSet(file, "desk", "trend").of("SAP")
    assert (sap.max_order_notional, sap.max_leverage, sap.capital, sap.lot) == (4_000, 3, 1e6, 1)
    assert LimitSet(file).rate("SAP") == 1.1
    assert LimitSet(file).rate("X") == 1.0


def test_every_error_is_told_with_its_line():
    text = """
defaults:
  max_order_notionl: 5
  max_leverage: -1
  max_concentration: 25
symbols:
  SAP:
    capital: 5
    restricted: perhaps
    lot: 1
    lot: 2
limits: {}
"""
    with pytest.raises(LimitsError) as caught:
        parse(text, "limits.yaml")
    told = {p.line: p.message for p in caught.value.problems}
    assert list(told) == [3, 4, 5, 8, 9, 11, 12]
    assert "did you mean max_order_notional" in told[3]
    assert "max_leverage" in told[4]
    assert "given: 25" in told[5]
    assert "whole book" in told[8]
    assert "twice" in told[11]
    assert "limits.yaml is refused, 7 errors" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("defaults: [1, 2]", 1, "mapping"),
        ("defaults:\n  lot: {a: 1}", 2, "lot"),
        ("a: [", 1, "no YAML"),
        ("a: \0", 1, "no YAML"),
        ("\ndefaults: {lot: !foo 3}", 2, "lot"),
        ("\ndefaults: {lot: !!int abc}", 2, "lot"),
        ("\ndefaults: {lot: 2024-13-45}", 2, "lot"),
        ("\ndefaults: {[1, 2]: 3}", 2, "must be text"),
        ("\nsession: {timezone: America}", 2, "session"),
        ("version: 2", 1, "version"),
        ("\nsession: {timezone: Mars/Olympus}", 2, "Mars"),
        ("\nsession: {opens: '09:00', closes: '09:00'}", 2, "opens and closes"),
        ("\nsession: {holidays: ['2024-02-30']}", 2, "session"),
        ("session:\n  opens: 9am", 2, "opens"),
        ("\n\nsymbols:\n  A: {currency: CHF}", 4, "no rate for CHF"),
    ],
)
def test_what_is_wrong_is_refused_where_it_is(text, line, says):
    with pytest.raises(LimitsError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert says in problem.message


def test_nothing_at_all_is_the_defaults():
    assert parse("") == parse("defaults:\n") == LimitsFile()
    assert LimitSet(parse("")).book == Limits()


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        limits_file.read(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        limits_file.read(tmp_path / "binary")


def test_changes_are_told_by_level():
    new = GOOD.replace("8_000", "9_000").replace("lot: 1", "long_only: true").replace("EUR: 1.1", "EUR: 1.2")
    assert changes(parse(GOOD), parse(new)) == [
        ("rates", "", {"EUR": 1.1}, {"EUR": 1.2}),
        ("accounts.desk", "max_order_notional", 8000, 9000),
        ("symbols.SAP", "long_only", None, True),
        ("symbols.SAP", "lot", 1, None),
    ]
    assert changes(parse(GOOD), parse(GOOD)) == []


def test_a_version_names_very_these_limits():
    one, same = LimitSet(parse(GOOD)), LimitSet(parse(GOOD))
    assert one.version == same.version
    others = [
        LimitSet(parse(GOOD), "x"),
        LimitSet(parse(GOOD), books=4),
        LimitSet(parse(GOOD.replace("lot: 1", "lot: 2"))),
    ]
    assert len({one.version, *(o.version for o in others)}) == 4
    assert LimitSet.decode(one.encode()).version == one.version


def test_the_schema_fits_the_example_and_knows_every_limit():
    schema = limits_file.json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(yaml.safe_load(EXAMPLE.read_text()))) == []
    assert list(validator.iter_errors({"defaults": {"max_leverage": -1}}))
    assert list(validator.iter_errors({"symbols": {"A": {"capital": 5}}}))
    assert set(schema["$defs"]["Limits"]["properties"]) == set(Limits.__struct_fields__)


def test_the_example_is_read_without_an_error_and_documents_most_limits():
    file = limits_file.read(EXAMPLE)
    assert len(file.defaults) > 20
    assert LimitSet(file).of("BTCUSDT").price_increment == 0.1


@pytest.mark.parametrize(
    "text", ["[" * 5_000, "{a: " * 5_000, "- " * 5_000, "defaults: " + "[" * 3_000 + "]" * 3_000]
)
def test_what_is_nested_too_deeply_is_refused(text):
    with pytest.raises(LimitsError):
        limits_file.parse(text)
