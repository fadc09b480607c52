"""A limits file: YAML, checked whole, each error with its line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from trading.errors import ConfigurationError
from trading.plain_yaml import Problem, YamlProblem, compose, line_of
from trading.risk.calendar import compile_session
from trading.risk.limits import DECLARED, Limits, LimitSet, LimitsFile

LEVELS = ("accounts", "strategies", "symbols")


class LimitsError(ConfigurationError):
    """The file is refused as a whole."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        told = "\n".join(f"  line {p.line}: {p.message}" for p in self.problems)
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(f"{name} is refused, {count}; the limits in force stay:\n{told}")


def read(path: Path) -> LimitsFile:
    """Raises LimitsError with every error, or ConfigurationError when the file cannot be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"limits file {path} cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str = "limits") -> LimitsFile:
    """Raises LimitsError with every error and its line."""
    try:
        root = compose(text)
    except YamlProblem as error:
        raise LimitsError(name, [error.problem]) from error
    reader = _Reader()
    content = reader.mapping(root, "the file") if root is not None else {}
    values = {key: reader.part(key, node) for key, (_, node) in content.items() if reader.known_part(key, node)}
    if reader.problems:
        raise LimitsError(name, reader.problems)
    file = msgspec.convert(values, LimitsFile, strict=False)
    _check_whole(file, name, content)
    return file


def _check_whole(file: LimitsFile, name: str, content: dict[str, tuple[Any, Any]]) -> None:
    """What only the file as a whole can be wrong in."""
    problems = []
    try:
        compile_session(file.session)
    except ConfigurationError as error:
        problems.append(Problem(line_of(content["session"][1]), str(error)))
    for account in {"", *file.accounts}:
        for strategy in {"", *file.strategies}:
            found = LimitSet(file, account, strategy)
            for symbol in file.symbols:
                limits = found.of(symbol)
                if limits.currency not in {"", file.currency, *file.rates}:
                    line = line_of(content["symbols"][1])
                    problems.append(
                        Problem(line, f"{symbol}: there is no rate for {limits.currency} under `rates`")
                    )
    if problems:
        raise LimitsError(name, sorted(set(problems), key=lambda p: (p.line, p.message)))


class _Reader:
    """Walks the nodes and keeps what is wrong."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._parts = {field.name: field for field in msgspec.structs.fields(LimitsFile)}
        self._limits = {field.name: field for field in msgspec.structs.fields(Limits)}

    def wrong(self, node: Any, message: str) -> None:
        self.problems.append(Problem(line_of(node), message))

    def mapping(self, node: Any, what: str) -> dict[str, tuple[Any, Any]]:
        """Keys with their nodes; a key that comes twice is an error."""
        if not isinstance(node, yaml.MappingNode):
            if not (isinstance(node, yaml.ScalarNode) and node.value in {"", "null", "~"}):
                self.wrong(node, f"{what} must be a mapping of names to values")
            return {}
        found: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(key, f"a name in {what} must be text")
            elif key.value in found:
                self.wrong(key, f"{key.value} is given twice in {what}")
            else:
                found[key.value] = (key, value)
        return found

    def known_part(self, key: str, node: Any) -> bool:
        if key in self._parts:
            return True
        self.wrong(node, _unknown(key, self._parts))
        return False

    def part(self, key: str, node: Any) -> Any:
        """One of the file's parts as plain values."""
        if key == "defaults":
            return self.level(node, key, whole_book=True)
        if key in LEVELS:
            return {
                name: self.level(value, f"{key}.{name}", whole_book=key != "symbols")
                for name, (_, value) in self.mapping(node, key).items()
            }
        return self.value(node, self._parts[key].type, key)

    def level(self, node: Any, what: str, *, whole_book: bool) -> dict[str, Any]:
        """The limits of one level."""
        found = {}
        for name, (key, value) in self.mapping(node, what).items():
            if name not in self._limits:
                self.wrong(key, _unknown(name, self._limits))
            elif DECLARED[name].scope == "book" and not whole_book:
                self.wrong(key, f"{name} holds for the whole book: give it under defaults, accounts or strategies")
            else:
                found[name] = self.value(value, self._limits[name].type, name)
        return found

    def value(self, node: Any, kind: Any, what: str) -> Any:
        """A value, checked by its type."""
        try:
            plain = _plain(node)
        except (yaml.YAMLError, ValueError, TypeError) as error:
            self.wrong(node, f"{what}: {str(error).splitlines()[0]}")
            return None
        try:
            msgspec.convert(plain, kind, strict=False)
        except msgspec.ValidationError as error:
            self.wrong(node, f"{what}: {str(error)[0].lower()}{str(error)[1:]} (given: {repr(plain)[:100]})")
        return plain


def _plain(node: Any) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unknown(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"{name!r} is no name that is known here" + (f": did you mean {near[0]}?" if near else "")


def json_schema() -> dict[str, Any]:
    """Of a limits file; levels are told by the limits themselves."""
    found = msgspec.json.schema(LimitsFile)
    limits = msgspec.json.schema_components([Limits])[1]["Limits"]
    for name, told in limits["properties"].items():
        told["description"] = " ".join(filter(None, (DECLARED[name].meaning, DECLARED[name].unit)))
    of_symbol = {
        **limits,
        "title": "SymbolLimits",
        "properties": {k: v for k, v in limits["properties"].items() if DECLARED[k].scope == "symbol"},
    }
    found["$defs"] |= {"Limits": limits, "SymbolLimits": of_symbol}
    properties = found["$defs"]["LimitsFile"]["properties"]
    properties["defaults"] = {"$ref": "#/$defs/Limits"}
    for part in LEVELS:
        level = "SymbolLimits" if part == "symbols" else "Limits"
        properties[part] = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{level}"}}
    return found


def changes(old: LimitsFile, new: LimitsFile) -> list[tuple[str, str, Any, Any]]:
    """What differs: level, name, old and new value; None where it was not, or is no longer, given."""
    found: list[tuple[str, str, Any, Any]] = []
    for name in ("currency", "rates", "session"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            found.append((name, "", before, after))
    levels: list[tuple[str, dict[str, Any], dict[str, Any]]] = [("defaults", old.defaults, new.defaults)]
    for part in LEVELS:
        befores, afters = getattr(old, part), getattr(new, part)
        levels += [(f"{part}.{k}", befores.get(k, {}), afters.get(k, {})) for k in sorted({*befores, *afters})]
    for level, before, after in levels:
        found += [
            (level, name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
    return found
