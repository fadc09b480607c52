"""What the doctor says of builds, cards and containers, as facts of each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from exporters.errors import ExportError
from exporters.profiles import containers, find, find_gpu, gpus, version_of
from exporters.target.doctor import builds, is_no_newer, seen_device
from exporters.target.findings import verdict
from exporters.target.memory import MIB

FACTS = """
["99.01-mine"]
triton = "3.0.0"
cuda = "12.8.0"
min_driver = 570
onnxruntime = "1.22.0"
libtorch = "2.8.0"
max_onnx_ir = 10
max_onnx_opset = 22
max_onnx_ml_opset = 5
min_capability = "7.5"
max_capability = "8.9"
"""


def nvml(capability, mebibytes, driver="580.95.05"):
    """NVML of a machine with one card."""
    return SimpleNamespace(
        nvmlSystemGetDriverVersion=lambda: driver,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _: b"a card",
        nvmlDeviceGetCudaComputeCapability=lambda _: version_of(capability),
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=mebibytes * MIB, free=mebibytes * MIB),
    )


@pytest.mark.parametrize("card", gpus().values(), ids=lambda card: card.name)
def test_the_locked_builds_fit_every_card_that_is_described(card):
    found = builds(find("25.03-py3"), card)
    assert verdict(found) == "fits", [f for f in found if f.way_out]


def test_kernels_of_the_same_family_fit_and_are_named():
    (kernels, *_) = builds(find("25.03-py3"), find_gpu("rtx4090"))
    assert kernels.seen.endswith("sm_86 runs on sm_89")


@pytest.mark.parametrize("container", containers().values(), ids=lambda one: one.name)
def test_the_locked_builds_run_with_every_containers_driver(container):
    assert verdict(builds(container, find_gpu("rtx5070"))) == "fits"


@pytest.mark.parametrize(
    ("built", "held", "runs"),
    [("12.8", "12.8.1", True), ("12.8", "13.1.0", True), ("13.0", "12.9.0", False), ("12.10", "12.9", False),
     ("none", "12.8", False), ("None", "12.8", False)],
)  # fmt: skip
def test_a_driver_runs_builds_for_what_is_older(built, held, runs):
    assert is_no_newer(built, held) is runs


@pytest.mark.parametrize(
    ("card", "mebibytes"),
    [("a10", 22_731), ("l4", 23_034), ("l40s", 46_068), ("b200", 183_359), ("rtx5070", 12_227)],
)
def test_a_card_holds_what_error_correction_leaves(card, mebibytes):
    wanted = find_gpu(card)
    assert verdict(seen_device(nvml(wanted.capability, mebibytes), find("25.03-py3"), wanted)) == "fits"
    smaller = seen_device(nvml(wanted.capability, mebibytes * 3 // 4), find("25.03-py3"), wanted)
    assert [f.check for f in smaller if f.verdict == "does not fit"] == ["GPU"]


def test_a_driver_that_is_too_old_for_the_container_is_named():
    card = find_gpu("rtx5070")
    seen = seen_device(nvml("12.0", card.memory_mib, "575.1"), find("26.07-py3"), card)
    assert [f.way_out for f in seen if f.way_out] == ["install driver 610 or newer"]


def test_a_container_that_is_not_known_is_judged_by_its_own_facts(tmp_path):
    with pytest.raises(ExportError, match="unknown target '99.01-mine'.*--triton-facts FILE"):
        find("99.01-mine")
    path = tmp_path / "facts.toml"
    path.write_text(FACTS)
    assert find("", path).name == find("99.01-mine", path).name == "99.01-mine"
    assert (find().name, find("25.03-py3", path).name) == ("25.03-py3", "25.03-py3")
    path.write_text(FACTS + FACTS.replace("99.01", "99.02"))
    with pytest.raises(ExportError, match="describes 99.01-mine, 99.02-mine: say which with --target"):
        find("", path)
    path.write_text(FACTS)
    told = [f for f in builds(find("99.01-mine", path), find_gpu("rtx5070")) if f.way_out]
    assert [f.seen for f in told] == ["its kernels go from 7.5 to 8.9"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "describes no container"), ("triton = 1", "describes no container"), ("[x", "give a table"),
        ('["99.01-mine"]\ntriton = "3"', "missing required field `cuda`"),
        (FACTS + 'mine = "x"\n', "unknown field `mine`"), (FACTS.replace('"8.9"', '"latest"'), "no compute capability"),
        (FACTS.replace("570", '"570"'), "min_driver"),
    ],
)  # fmt: skip
def test_facts_that_are_none_are_named(tmp_path, text, says):
    path = tmp_path / "facts.toml"
    path.write_text(text)
    with pytest.raises(ExportError, match=says):
        find("99.01-mine", path)
    with pytest.raises(ExportError, match="No such file"):
        find("99.01-mine", tmp_path / "absent.toml")
