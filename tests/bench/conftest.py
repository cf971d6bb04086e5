"""Fake variants and workloads: known truth for the meter, the judge and the command line."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from weighbridge.bench.config import WorkloadConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.backends.fake_backend import Behaviour, signature_of
from weighbridge.optimize.files import sha256_of_file, write_json
from weighbridge.optimize.variant import MANIFEST, Manifest

SCRIPTS = Path(__file__).resolve().parents[2] / "bench" / "scripts"


def _write_behaviour(path: Path, **behaviour: Any) -> Path:
    """Write a behaviour file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(behaviour), encoding="utf-8")
    return path


def _fake_variant(folder: Path, **behaviour: Any) -> Path:
    """Write a built fake variant and return its folder."""
    file = _write_behaviour(folder / "model.fake.json", **behaviour)
    manifest = Manifest(
        backend="fake",
        precision="fp32",
        recipe={"backend": "fake", "precision": "fp32", "steps": []},
        source={},
        calibration_sha256=None,
        tools={},
        files=(file.name,),
        sha256={file.name: sha256_of_file(file)},
        bytes=file.stat().st_size,
        parameters=1,
        sparsity=0.0,
        build_seconds=0.0,
        signature=signature_of(Behaviour()),
        steps=(),
        parity=None,
        audit=Audit(ok=True),
    )
    write_json(folder / MANIFEST, manifest.to_dict())
    return folder


@pytest.fixture
def fake_workload(tmp_path: Path) -> Prepared:
    """A prepared fake workload of 300 examples in three classes."""
    path = _write_behaviour(tmp_path / "source.fake.json")
    config = WorkloadConfig(name="fake", task="tabular-classification", model=str(path))
    return prepare_fake(config, path, tmp_path / "prepared")


@pytest.fixture(scope="session")
def fake_variant() -> Callable[..., Path]:
    """Write a built fake variant: (folder, **behaviour) -> folder."""
    return _fake_variant


@pytest.fixture(scope="session")
def write_behaviour() -> Callable[..., Path]:
    """Write a behaviour file: (path, **behaviour) -> path."""
    return _write_behaviour


@pytest.fixture(scope="module")
def load_script() -> Iterator[Callable[[str], ModuleType]]:
    """Load a script of bench/scripts as a module: (name) -> module."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # its dataclasses look themselves up there
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]
