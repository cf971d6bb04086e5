"""Fake variants and workloads: known truth for the meter, the judge and the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.config import WorkloadConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.backends.fake_backend import Behaviour, signature_of
from weighbridge.optimize.files import sha256_of_file, write_json
from weighbridge.optimize.variant import MANIFEST, Manifest


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
