"""TensorRT: every way in which it cannot run has its own reason and remedy."""

import importlib.machinery
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weighbridge.optimize.backends import tensorrt_backend
from weighbridge.optimize.backends.base import Availability, OpenOptions
from weighbridge.optimize.backends.tensorrt_backend import BACKEND, explain_probe
from weighbridge.optimize.errors import NotAvailableYetError

Install = Callable[..., Availability]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """A function that asks for the availability with given packages (name to code) and with or without a driver."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def ask(packages: dict[str, str], *, driver: bool) -> Availability:
        for name, code in packages.items():
            (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        found = {name: importlib.machinery.ModuleSpec(name, None) for name in packages}
        monkeypatch.setattr(tensorrt_backend.importlib.util, "find_spec", found.get)
        monkeypatch.setattr(tensorrt_backend.shutil, "which", lambda _: "/usr/bin/nvidia-smi" if driver else None)
        tensorrt_backend._availability.cache_clear()
        return BACKEND.availability()

    yield ask
    tensorrt_backend._availability.cache_clear()


FAKE = "__version__ = '11.0'\nclass Logger:\n    ERROR = 1\n    def __init__(self, level): pass\n"


def builder(body: str) -> str:
    return f"import sys\n{FAKE}def Builder(logger):\n    {body}\n"


@pytest.mark.parametrize(
    ("packages", "driver", "reason", "remedy"),
    [
        ({}, True, r"^tensorrt is not installed$", "pip install tensorrt --extra-index-url"),
        ({}, False, r"^tensorrt is not installed, and no NVIDIA driver was found$", "pip install tensorrt"),
        (
            {"tensorrt_bindings": ""},
            False,
            r"^only TensorRT's bindings are installed; its libraries are missing, and no NVIDIA driver",
            "pip install tensorrt",
        ),
        (
            {"tensorrt": "raise ImportError('libnvinfer.so.11: cannot open shared object file')"},
            True,
            r"its libraries are missing \(ImportError: libnvinfer",
            "pip install tensorrt",
        ),
        (
            {"tensorrt": builder("raise TypeError('CUDA initialization failure with error: 35')")},
            True,
            r"^no NVIDIA driver was found \(TypeError",
            "install the NVIDIA driver",
        ),
        (
            {"tensorrt": builder("raise TypeError('CUDA initialization failure with error: 100')")},
            True,
            r"^no CUDA device was found \(",
            "make a GPU visible to this process",
        ),
        (
            {"tensorrt": builder("sys.exit('nullptr')")},
            False,
            r"^no NVIDIA driver was found \(nullptr\)",
            "install the",
        ),
        (
            {"tensorrt": builder("raise RuntimeError('odd')")},
            True,
            r"^TensorRT's builder failed \(RuntimeError: odd\)",
            "fit",
        ),
        ({"tensorrt": builder("import os; os._exit(9)")}, True, r"^TensorRT's builder failed \(status 9\)", "fit"),
        ({"tensorrt": builder("return 1")}, True, r"^building TensorRT plans is not available yet", "^$"),
    ],
)
def test_each_obstacle_has_its_own_reason(
    asked: Install, packages: dict[str, str], driver: bool, reason: str, remedy: str
) -> None:
    """Not installed, libraries missing, no driver, no device, builder failed: each is told apart in a child process."""
    import re

    answer = asked(packages, driver=driver)
    assert not answer.usable
    assert re.search(reason, answer.reason)
    assert re.search(remedy, answer.remedy)


def test_the_version_is_told_where_the_package_loads(asked: Install) -> None:
    """A package that loads tells its version even where no builder can be made."""
    assert asked({"tensorrt": builder("raise RuntimeError('odd')")}, driver=True).version == "11.0"


def test_a_probe_that_hangs_is_given_up(asked: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process that does not answer in time is a reason, not an exception."""

    def hang(command: list[str], *, timeout: float, **_: Any) -> None:
        assert command[0] == sys.executable
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(tensorrt_backend.subprocess, "run", hang)
    assert asked({"tensorrt": FAKE}, driver=True).reason == "TensorRT's builder failed (no answer in 60 s)"


def test_a_missing_driver_library_is_a_missing_driver() -> None:
    """An import error for libcuda is the driver's absence, not TensorRT's."""
    reason, _ = explain_probe(1, "ImportError: libcuda.so.1: cannot open shared object file", driver=False)
    assert reason.startswith("no NVIDIA driver was found")


def test_nothing_is_pretended(tmp_path: Path) -> None:
    """Building, opening and auditing are refused as not available yet, with what to use instead."""
    nothing: Any = None
    for call in (
        lambda: BACKEND.default_steps("fp16", nothing),
        lambda: BACKEND.build(nothing, tmp_path),
        lambda: BACKEND.open(tmp_path, (), nothing, OpenOptions()),
        lambda: BACKEND.audit(tmp_path, (), "fp16"),
    ):
        with pytest.raises(
            NotAvailableYetError, match="TensorRT plans is not available yet in this release; use onnxruntime"
        ):
            call()
    assert BACKEND.note("fp16", ()) == ""
