"""TensorRT: every way in which it cannot run has its own reason and remedy."""

import importlib.machinery
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weighbridge.optimize import probing, tensorrt_availability
from weighbridge.optimize.backends.base import Availability
from weighbridge.optimize.backends.tensorrt_backend import BACKEND
from weighbridge.optimize.probing import Probe
from weighbridge.optimize.tensorrt_availability import explain_probe

Install = Callable[..., Availability]
BESIDE = ("cuda.bindings", "pynvml")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """A function that asks for the availability with given packages (name to code) and with or without a driver."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def ask(packages: dict[str, str], *, driver: bool, beside: tuple[str, ...] = BESIDE) -> Availability:
        for name, code in packages.items():
            (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        found = {name: importlib.machinery.ModuleSpec(name, None) for name in (*packages, *beside)}
        monkeypatch.setattr(tensorrt_availability.importlib.util, "find_spec", found.get)
        monkeypatch.setattr(tensorrt_availability.shutil, "which", lambda _: "/usr/bin/nvidia-smi" if driver else None)
        tensorrt_availability.tensorrt_availability.cache_clear()
        return BACKEND.availability()

    yield ask
    tensorrt_availability.tensorrt_availability.cache_clear()


FAKE = "__version__ = '11.4.0.106'\nclass Logger:\n    ERROR = 1\n    def __init__(self, level): pass\n"


def builder(body: str) -> str:
    return f"import sys\n{FAKE}def Builder(logger):\n    {body}\n"


@pytest.mark.parametrize(
    ("packages", "driver", "reason", "remedy"),
    [
        ({}, True, r"^tensorrt is not installed$", "weighbridge\\[tensorrt\\]' --extra-index-url"),
        ({}, False, r"^tensorrt is not installed, and no NVIDIA driver was found$", "weighbridge\\[tensorrt\\]"),
        (
            {"tensorrt_bindings": ""},
            False,
            r"^only TensorRT's bindings are installed; its libraries are missing, and no NVIDIA driver",
            "weighbridge\\[tensorrt\\]",
        ),
        (
            {"tensorrt": "raise ImportError('libnvinfer.so.11: cannot open shared object file')"},
            True,
            r"its libraries are missing \(ImportError: libnvinfer",
            "weighbridge\\[tensorrt\\]",
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
        (
            {"tensorrt": builder("return 1").replace("11.4.0.106", "10.9.0.34")},
            True,
            r"^TensorRT 10.9.0.34 is not supported; 10.12 is the first that is$",
            "pip install",
        ),
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
    assert asked({"tensorrt": builder("raise RuntimeError('odd')")}, driver=True).version == "11.4.0.106"


def test_a_probe_that_hangs_is_given_up(asked: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process that does not answer in time is a reason, not an exception."""

    def hang(command: list[str], *, timeout: float, **_: Any) -> None:
        assert command[0] == sys.executable
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(probing.subprocess, "run", hang)
    assert asked({"tensorrt": FAKE}, driver=True).reason == "TensorRT's builder failed (no answer in 60 s)"


def test_a_missing_driver_library_is_a_missing_driver() -> None:
    """An import error for libcuda is the driver's absence, not TensorRT's."""
    found = Probe(1, "", "ImportError: libcuda.so.1: cannot open shared object file")
    reason, _ = explain_probe(found, driver=False)
    assert reason.startswith("no NVIDIA driver was found")


@pytest.mark.parametrize(("missing", "distribution"), [("cuda.bindings", "cuda-bindings"), ("pynvml", "nvidia-ml-py")])
def test_what_is_needed_beside_it_is_named(asked: Install, missing: str, distribution: str) -> None:
    """A TensorRT that works still needs NVIDIA's bindings of CUDA and of NVML, each with its command."""
    beside = tuple(name for name in BESIDE if name != missing)
    answer = asked({"tensorrt": builder("return 1")}, driver=True, beside=beside)
    assert answer.reason == f"TensorRT needs {distribution} beside it, which is not installed"
    assert answer.remedy == f"pip install {distribution}"


def test_a_package_of_packages_that_is_missing_is_no_error() -> None:
    """Looking for a module inside a package that is not there finds nothing, and does not raise."""
    assert not tensorrt_availability._is_there("no_such_package.inside")
    assert tensorrt_availability._is_there("importlib.util")


def test_where_all_is_there_it_is_usable(asked: Install) -> None:
    """A builder that can be made, in a version that is supported, with all that is needed beside it: usable, no reason left."""
    answer = asked({"tensorrt": builder("return 1")}, driver=True)
    assert answer == Availability(usable=True, version="11.4.0.106")
