"""What a manifest says of the tools that made an artifact."""

import importlib.metadata

import pytest
from weighbridge.optimize.artifact import tools


def test_either_build_of_onnx_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its build for GPUs is a package of its own: where only that is installed its version is told, and of no other anything."""

    def version(name: str) -> str:
        if name != "onnxruntime-gpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.24.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert tools() == {"onnxruntime-gpu": "1.24.0"}
