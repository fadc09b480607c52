"""The wheel works where the repository is not, with the packages of one role and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT

LOCKS = ROOT / "deploy" / "locks"
ROLES = sorted(path.stem for path in LOCKS.glob("*.lock"))
PROGRAMS = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*words, cwd, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ULTRATHINK", "PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**kept, "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    done = run(
        PROGRAMS / "uv",
        "build",
        "--wheel",
        "--no-build-isolation",
        "-q",
        "-o",
        out,
        ROOT,
        cwd=out,
        VIRTUAL_ENV=sys.prefix,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


def installed(role, wheel, folder):
    """An environment with what the role's lock names, and the wheel."""
    environment = folder / "environment"
    uv = PROGRAMS / "uv"
    for words in (
        ("venv", "-q", "--python", sys.executable, environment),
        ("pip", "install", "-q", "--python", environment / "bin/python", "--require-hashes", "--no-deps", "-r", LOCKS / f"{role}.lock"),
        ("pip", "install", "-q", "--python", environment / "bin/python", "--no-deps", wheel),
    ):  # fmt: skip
        done = run(uv, *words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return environment


@pytest.fixture(scope="module")
def gateway(wheel, tmp_path_factory):
    return installed("gateway", wheel, tmp_path_factory.mktemp("gateway"))


def size_mb(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


@pytest.mark.slow
def test_a_gateway_is_installed_from_its_wheel_alone(gateway, tmp_path):
    program = gateway / "bin" / "ultrathink"
    for words in (["--help"], ["gateway", "run", "--help"], ["risk", "rules"], ["stack", "down"]):
        done = run(program, *words, cwd=tmp_path, HOME=str(tmp_path))
        assert done.returncode == 0, (words, done.stderr)
    told = run(
        program,
        "gateway",
        "run",
        cwd=tmp_path,
        HOME=str(tmp_path),
        ULTRATHINK_GATEWAY_KAFKA_BOOTSTRAP="127.0.0.1:1",
    )
    assert told.returncode != 0
    assert told.stderr.startswith("error: ")
    assert "Traceback" not in told.stderr


def test_a_gateway_carries_nothing_of_other_roles(gateway):
    packages = {p.name.partition("-")[0].lower() for p in gateway.glob("lib/*/site-packages/*.dist-info")}
    assert "confluent_kafka" in packages
    assert not packages & {"torch", "mlflow", "locust", "optuna", "onnx", "scipy", "pandas", "matplotlib", "pytest"}
    assert size_mb(gateway) < 700


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("export", "doctor"), "exporters"),
        (("forensics", "run"), "services"),
        (("loadtest", "all"), "loadtest"),
        (("risk", "explain", "market.ticks-0-1"), "services"),
        (("stack", "up"), "embedded"),
        (("data", "build", "simulate:regimes", "--out", "x"), "trainers"),
    ],
)
def test_a_command_of_another_role_names_the_extra_that_it_needs(gateway, tmp_path, words, extra):
    done = run(gateway / "bin" / "ultrathink", *words, cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 2
    assert f"the extra '{extra}' brings it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_doctor_runs_from_the_wheel(wheel, tmp_path):
    environment = installed("exporters", wheel, tmp_path)
    done = run(environment / "bin" / "ultrathink", "export", "doctor", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode in {0, 1, 3}, done.stderr
    assert "sm_120" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_lock_names_versions_of_the_one_lock_with_hashes_and_no_address(role):
    def entries(path):
        text = path.read_text().replace("\\\n", " ")
        return {
            line.split(" ;")[0].split(" ")[0]: set(re.findall(r"sha256:\w+", line))
            for line in text.splitlines()
            if "==" in line
        }

    whole, part = entries(ROOT / "requirements.lock"), entries(LOCKS / f"{role}.lock")
    assert "://" not in (LOCKS / f"{role}.lock").read_text()
    assert part
    for package, hashes in part.items():
        assert hashes
        assert whole[package] == hashes


def declared_of(role):
    """Of a role, and of those that it is made of."""
    for name in PROJECT["optional-dependencies"].get(role, []):
        if name.startswith("ultrathink-pilot["):
            for part in name.partition("[")[2].rstrip("]").split(","):
                yield from declared_of(part)
        else:
            yield name


@pytest.mark.parametrize("role", ROLES)
def test_a_lock_holds_what_its_role_declares(role):
    declared = [*PROJECT["dependencies"], *declared_of(role)]
    locked = {line.partition("==")[0] for line in (LOCKS / f"{role}.lock").read_text().splitlines() if "==" in line}
    wanted = {re.split(r"[\[><=;]", name)[0].lower() for name in declared}
    assert wanted <= locked


def test_images_are_a_role_each_and_compose_builds_them():
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM base AS (\w+)\n(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL))
    assert stages.keys() - {"wheel"} == set(ROLES) - {"build", "embedded"}
    for name, body in stages.items():
        assert f"deploy/locks/{name if name != 'wheel' else 'build'}.lock" in body
        assert name == "wheel" or "USER ultrathink" in body
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {name: service for name, service in services.items() if "build" in service}
    assert built
    for service in built.values():
        assert service["image"].startswith(f"ultrathink-pilot-{service['build']['target']}:")
        assert service["build"]["target"] in stages
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert all(f"COPY {package} {package}\n" in stages["wheel"] for package in packages)
