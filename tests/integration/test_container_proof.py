"""What is published runs under the container's own ONNX Runtime and torch, and what would not is seen without a GPU."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from exporters.export import export_model
from exporters.profiles import find
from exporters.repository.repository import ModelRepository
from exporters.target.container_proof import prove
from tests.unit.exporters.models import options, publish_times, write_times

pytestmark = pytest.mark.slow
CONTAINER = find("25.03-py3")


def quiet(_):
    pass


def test_the_released_pipeline_runs_under_the_containers_runtimes(stack, exported):
    found = prove("trading_decision", None, ModelRepository(stack.model_repository), CONTAINER, quiet)
    assert [f.verdict for f in found] == ["fits"] * 3
    checks = " ".join(f.check for f in found)
    assert "strategy_signals" in checks
    assert "under torch 2.7.0" in checks
    assert "under ONNX Runtime 1.21.0" in checks


def test_what_an_older_runtime_does_not_read_is_seen(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    path = write_times(tmp_path / "times.onnx", 2.0, opset=22)
    export_model(str(path), options(name="times", max_batch=64), repository, quiet)
    (new,) = prove("times", None, repository, CONTAINER, quiet)
    (old,) = prove("times", 1, repository, replace(CONTAINER, onnxruntime="1.19.2"), quiet)
    assert (new.verdict, old.verdict) == ("fits", "does not fit")
    assert "opset" in old.seen.lower()
    assert "Traceback" not in old.seen


def test_answers_that_are_others_are_seen(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    publish_times(repository, tmp_path, 2.0)
    contract = repository.lineage("times", 1).contract
    # As another runtime would answer.
    other = write_times(tmp_path / "other" / "model.onnx", 2.01)
    there = repository.folder("times", 1) / contract.file_name
    there.chmod(0o644)
    there.write_bytes(other.read_bytes())

    class Unchecked(ModelRepository):
        def verified_lineage(self, name, version):
            return self.lineage(name, version)

    (found,) = prove("times", 1, Unchecked(repository.root), CONTAINER, quiet)
    assert found.verdict == "does not fit"
    assert "its answers differ by up to" in found.seen


def test_where_no_environment_can_be_made_nothing_is_claimed(tmp_path):
    repository = ModelRepository(tmp_path / "models")
    publish_times(repository, tmp_path, 2.0)
    (found,) = prove("times", 1, repository, replace(CONTAINER, onnxruntime="0.0.1"), quiet)
    assert found.verdict == "cannot tell"
    assert "no environment could be made" in found.seen
