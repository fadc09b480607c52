"""The targets' file: YAML, checked whole before anything runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from trading.errors import ConfigurationError

DEFAULT = Path(__file__).with_name("targets.yaml")


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a run; None does not judge. Ratios are 0 to 1; the lag is the generator's p99."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p99_9_ms: float | None = None
    max_error_ratio: float | None = None
    min_achieved_ratio: float | None = None
    min_samples: int = 100
    max_lag_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_lag_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"{name} {value:g} is not above 0")
        for name in ("max_error_ratio", "min_achieved_ratio"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} {value:g} is not within 0 and 1")
        if self.min_samples < 1:
            raise ValueError(f"min_samples {self.min_samples} is below 1")
        given = [p for p in (self.p50_ms, self.p95_ms, self.p99_ms, self.p99_9_ms) if p is not None]
        if given != sorted(given):
            raise ValueError("a higher percentile has a lower limit than a lower one")


class TargetsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    version: int
    targets: dict[str, Target]


def read(path: Path = DEFAULT) -> dict[str, Target]:
    """All targets by name. Raises ConfigurationError that names the file and the place."""
    try:
        raw = yaml.safe_load(path.read_text())
        found = msgspec.convert(raw, TargetsFile)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no text") from error
    except RecursionError:
        raise ConfigurationError(f"{path} is nested too deeply") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise ConfigurationError(f"{path}{line}: no YAML: {getattr(error, 'problem', error)}") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{path}: {error}; {DEFAULT.name} beside this says what each limit means"
        ) from error
    if not found.targets:
        raise ConfigurationError(f"{path} has no targets")
    if found.version != 1:
        raise ConfigurationError(f"{path}: version {found.version}, this program reads version 1")
    return found.targets


def pick(name: str, path: Path = DEFAULT) -> Target:
    """One target. Raises ConfigurationError that names those there are."""
    targets = read(path)
    if name not in targets:
        raise ConfigurationError(f"{path} has no target {name!r}: it has {', '.join(targets)}")
    return targets[name]
