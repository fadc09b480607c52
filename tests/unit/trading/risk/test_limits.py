"""A limit is declared once, and all that reads, shares or shows limits follows from that."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from trading.errors import ConfigurationError
from trading.risk import limits_file, rules
from trading.risk.limits import DECLARED, LIMITS, Limits, LimitSet, LimitsFile, permissive_limits


def test_every_limit_is_declared_with_a_sentence():
    assert DECLARED.keys() == set(Limits.__struct_fields__)
    for name, limit in DECLARED.items():
        assert limit.meaning.endswith("."), name
        assert limit.scope in {"symbol", "book"}


def test_what_is_divided_holds_for_a_book():
    assert {name for name, limit in DECLARED.items() if limit.divided and limit.scope != "book"} == set()


def test_every_limit_is_read_by_a_rule_or_shapes_one():
    folder = Path(rules.__file__).parents[2]
    source = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "limits.py")
    unread = [name for name in DECLARED if not re.search(rf"\b{name}\b", source)]
    assert unread == []


def test_compiled_rules_see_every_number():
    assert set(LIMITS.names) == DECLARED.keys() - {"currency"} | {"var_quantile"}


@pytest.mark.parametrize("books", [1, 4])
def test_only_what_is_divided_is_shared_among_books(books):
    given = {"max_orders": 8, "max_gross_notional": 1e6, "max_leverage": 3.0, "max_position_notional": 5e4}
    shared = LimitSet(LimitsFile(defaults=given), books=books).book
    whole = msgspec.convert(given, Limits)
    for name, limit in DECLARED.items():
        value = getattr(whole, name)
        wanted = value / books if limit.divided and value is not None else value
        assert getattr(shared, name) == wanted, name


def test_what_is_permissive_is_a_value_of_the_limit():
    msgspec.convert(permissive_limits(), Limits)


def is_value(name, value):
    try:
        return msgspec.convert({name: value}, Limits) is not None
    except msgspec.ValidationError:
        return False


def test_a_books_limit_cannot_be_given_for_a_symbol():
    for name, limit in DECLARED.items():
        value = getattr(Limits(), name)
        # What is off by default: any value that the limit may have.
        fits = value if value is not None else next(v for v in (0.5, 10.0, 10) if is_value(name, v))
        given = yaml.safe_dump({"symbols": {"A": {name: fits}}})
        if limit.scope == "book":
            with pytest.raises(ConfigurationError, match=f"{name} holds for the whole book"):
                limits_file.parse(given)
        else:
            assert name in limits_file.parse(given).symbols["A"]
