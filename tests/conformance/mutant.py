"""`python -m tests.conformance.mutant`: rows, each with one text of one of our modules replaced.

Reads [[module, text, what stands there instead, row], ...] as JSON, and writes a line of JSON for each: the exit code of a
process of its own, and what it said. 0: the row ends as the table says; 3: it does not; 2: the text is not there once.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a text that is not its file's."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self.module = module
        text = (ROOT / (module.replace(".", "/") + ".py")).read_text()
        if text.count(old) != 1:
            print(f"{module} holds {old!r} {text.count(old)} times")
            sys.exit(2)
        self.text = text.replace(old, new)

    def find_spec(self, name: str, *_: Any) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self.module else None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.text, self.module, "exec"), module.__dict__)


class Here:
    """The worker's part, in this process."""

    def __init__(self, folder: Path) -> None:
        from exporters.sources.sandbox_worker import Server

        self.server, self.folder = Server(), folder

    def open(self, request: Any) -> Any:
        return self.server.answer(request)

    def keep(self, arrays: Any) -> str:
        import numpy as np

        if arrays is None:
            return ""
        np.savez(self.folder / "example.npz", *arrays)
        return str(self.folder / "example.npz")

    def known(self) -> Any:
        return self.server._opened.known()

    def run(self, arrays: Any) -> Any:
        from exporters.errors import ExportError

        try:
            return self.server._opened.predict(arrays)
        except Exception as error:
            raise ExportError(str(error)) from error

    def convert(self, path: Path) -> None:
        self.server._opened.convert(path)


def main(module: str, old: str, new: str, name: str) -> int:
    sys.meta_path.insert(0, Replaced(module, old, new))
    warnings.simplefilter("ignore")
    from tests.conformance import judge
    from tests.conformance.cases import Refused
    from tests.conformance.table import CASES

    (case,) = (c for c in CASES if c.name == name)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        model = case.make()
        try:
            path, contract = judge.exported(case, model, Path(folder), Here(Path(home)))
            if isinstance(case.ends, Refused):
                print("it is not refused")
                return 3
            judge.check(case, model, path, contract)
        except judge.Refusal as error:
            print(error)
            return 0 if isinstance(case.ends, Refused) and case.ends.words in str(error) else 3
        except Exception as error:  # noqa: BLE001 - whatever a mutation breaks
            print(repr(error))
            return 3
    return 0


def apart(mutation: list[str]) -> tuple[int, str]:
    """In a process of its own, which has the libraries already."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writes, 1)
        code = 1
        try:
            code = main(*mutation)
        except SystemExit as error:
            code = int(str(error.code))
        except BaseException as error:  # noqa: BLE001 - this is a process
            print(repr(error))
        sys.stdout.flush()
        os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as said:
        told = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told[-500:]


if __name__ == "__main__":
    for library in ("lightgbm", "mlflow.lightgbm", "mlflow.pytorch", "mlflow.sklearn", "mlflow.xgboost", "onnx",
                    "onnxruntime", "skl2onnx", "sklearn.ensemble", "torch.onnx", "xgboost"):  # fmt: skip
        importlib.import_module(library)
    for line in json.load(sys.stdin):
        print(json.dumps(apart(line)), flush=True)
