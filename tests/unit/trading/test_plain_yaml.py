"""YAML as people write it, and what they are told of it."""

from __future__ import annotations

import pytest

from trading.plain_yaml import YamlProblem, compose, key_at, line_of, to_values

TEXT = """\
a: 1
b:
  - c: two
  - d: [3.5, true, null]
"""


def test_values_are_what_is_written_and_places_are_found():
    root = compose(TEXT)
    assert to_values(root) == {"a": 1, "b": [{"c": "two"}, {"d": [3.5, True, None]}]}
    assert [line_of(key_at(root, path)) for path in ((), ("b", 1, "d"), ("b", 7), ("a", "x"))] == [1, 4, 2, 1]
    assert compose("") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", "line 2: a is given twice"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases (*) are not taken: write it out"),
        ("a: [1\n", "line 2: no YAML: expected ',' or ']', but got '<stream end>'"),
        ("? [1]\n: 2\n", "line 1: a name must be text"),
        ("a: 2026-99-99\n", "line 1: '2026-99-99' cannot be read: month must be in 1..12"),
        ("a: !!python/object:os.system x\n", "line 1: 'x' cannot be read: could not determine a constructor"),
        ("a: !!timestamp foo\n", "line 1: 'foo' cannot be read"),
        ("a: !!bool foo\n", "line 1: 'foo' cannot be read"),
        ("a: !!int ''\n", "line 1: '' cannot be read"),
        ('"\\uD800": 1\n', "line 1: a text holds half of a character"),
        ('a: "\\uDFFF"\n', "line 1: a text holds half of a character"),
        ("[" * 100_000, "line 1: nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, told):
    with pytest.raises(YamlProblem) as caught:
        to_values(compose(text))
    assert str(caught.value).startswith(told)
