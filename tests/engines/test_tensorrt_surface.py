"""Every name of TensorRT that our modules use exists in every version they claim, as its bindings were recorded."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import REPOSITORY
from trt_surface import Surface, tensorrt_modules, walked

VERSIONS = ["8.6.1", "10.3.0", "10.13.3", "11.4.0", "rtx-1.7.1"]
MODULES = tensorrt_modules(REPOSITORY / "agent")


@cache
def surface(folder: Path, version: str) -> Surface:
    """The record beside the test material."""
    path = folder.parent / "trt_api" / f"{version}.json"
    if not path.is_file():
        pytest.skip(f"no record of TensorRT's bindings in {path.parent}")
    return Surface(path)


def test_the_modules_that_use_tensorrt_are_found() -> None:
    names = {path.name for path in MODULES}
    assert {"tensorrt_build.py", "tensorrt_log.py"} <= names
    outside = [
        path
        for path in (REPOSITORY / "agent").rglob("*.py")
        if "import tensorrt" in path.read_text() and path.name != "flavour.py"
    ]
    assert outside == [], "flavour.py alone imports it"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_name_that_is_used_exists_where_it_would_run(material: Path, module: Path, version: str) -> None:
    walk = walked(surface(material, version), module.read_text(encoding="utf-8"))
    missing = [f"{module.name}:{use.line}: {use.owner}.{use.name}" for use in walk.uses if not use.there]
    assert missing == [], f"TensorRT {version} lacks {missing}"
    distinctive = surface(material, version).distinctive()
    escaped = [f"{module.name}:{line}: .{name}" for line, name in walk.unknown if name in distinctive]
    assert escaped == [], "annotate it, so that the walk knows what it is"


def test_the_walk_sees_what_the_builder_does(material: Path) -> None:
    module = next(path for path in MODULES if path.name == "tensorrt_build.py")
    seen = {
        version: {f"{use.owner}.{use.name}" for use in walked(surface(material, version), module.read_text()).uses}
        for version in VERSIONS
    }
    everywhere = set.intersection(*seen.values())
    assert {
        "trt.Builder",
        "Builder.create_network",
        "OnnxParser.parse_from_file",
        "ParserError.desc",
        "IBuilderConfig.set_memory_pool_limit",
        "MemoryPoolType.WORKSPACE",
        "IOptimizationProfile.set_shape",
        "Builder.build_serialized_network",
        "ITimingCache.serialize",
        "BuilderFlag.GPU_FALLBACK",
    } <= everywhere
    assert len(everywhere) > 35
    only_old = seen["8.6.1"] - seen["10.3.0"]
    assert {"BuilderFlag.FP16", "BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"} <= only_old
    assert "IBuilderConfig.progress_monitor" in seen["10.3.0"] - seen["8.6.1"]
    assert "IBuilderConfig.set_compute_capability" in seen["rtx-1.7.1"] - seen["10.13.3"]


@pytest.mark.parametrize(
    "line",
    [
        "builder.create_netwerk(0)",
        "builder.create_builder_config().set_flags(1)",
        "trt.BuilderFlag.FP17",
        "config.set_compute_capability(1, 0)",
        "config.progress_monitor = None",
        "trt.NoSuchThing",
    ],
)
def test_the_walk_catches_a_name_that_is_not_there(material: Path, line: str) -> None:
    source = f"""
from agent.engines.flavour import trt
def build(builder: trt.Builder, config: trt.IBuilderConfig) -> None:
    {line}
"""
    assert any(not use.there for use in walked(surface(material, "8.6.1"), source).uses), line


def test_the_walk_believes_feature_tests(material: Path) -> None:
    source = """
from agent.engines.flavour import trt
def build(config: trt.IBuilderConfig, error: trt.ParserError) -> None:
    named = hasattr(error, "node_name")
    name = error.node_name() if named else ""
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = name
    if "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__:
        return
    config.set_flag(trt.BuilderFlag.FP16)
"""
    for version in VERSIONS:
        assert all(use.there for use in walked(surface(material, version), source).uses), version


def test_mypy_knows_tensorrt_by_its_public_stubs(tmp_path: Path) -> None:
    """What ``make check`` relies on: without the stubs every name would be right."""
    if not (REPOSITORY / ".venv" / "stubs" / "tensorrt" / "__init__.pyi").is_file():
        pytest.skip("no stubs of TensorRT in .venv/stubs; make check puts them there")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from agent.engines.flavour import trt\n"
        "def right(builder: trt.Builder) -> trt.IBuilderConfig:\n"
        "    return builder.create_builder_config()\n"
        "def wrong(builder: trt.Builder) -> None:\n"
        "    builder.create_netwerk(0)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(snippet)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    faults = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(faults) == 1, done.stdout + done.stderr
    assert '"Builder" has no attribute "create_netwerk"' in faults[0]
