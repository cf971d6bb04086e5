"""The paper GPU machine has no name that NVIDIA's packages have not: what is tested against it can be called on a real one."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

SURFACE: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "surface" / "gpu_surface.json").read_text(encoding="utf-8")
)
TENSORRT = [name for name in SURFACE if name.startswith("tensorrt ")]


def public(kind: Any) -> list[str]:
    """The public names of a class, its constructor included where it has arguments."""
    return [name for name in dir(kind) if not name.startswith("_") and name not in dir(object)]


def arguments(member: Any) -> list[str]:
    """The names of a method's arguments, without `self`."""
    return [name for name in inspect.signature(member).parameters if name != "self"]


def fits(member: Any, overloads: list[list[str]]) -> bool:
    """Whether a stand-in's arguments are the first ones of a real overload."""
    given = arguments(member)
    return any(given == real[: len(given)] for real in overloads)


def test_the_names_were_taken_from_the_oldest_and_the_newest_tensorrt() -> None:
    """The names are those of TensorRT 10.12, the first that is supported, and of 11."""
    assert [name.split()[1].rsplit(".", 2)[0] for name in TENSORRT] == ["10.12", "11.4"]


@pytest.mark.parametrize("real", TENSORRT)
def test_every_tensorrt_name_is_real(gpu_machine: Any, real: str) -> None:
    """Classes, members, and the names of arguments of the stand-ins are those of the real bindings, of both versions."""
    library = gpu_machine.library.module
    checked = 0
    for name in (name for name in dir(library) if not name.startswith("_")):
        kind, known = getattr(library, name), SURFACE[real][name]
        for member in public(kind):
            if name == "IHostMemory":
                continue
            if hasattr(kind, "__members__"):
                continue
            assert member in known, f"{name}.{member} is invented"
            if callable(getattr(kind, member)):
                assert fits(getattr(kind, member), known[member]), f"{name}.{member}{arguments(getattr(kind, member))}"
            checked += 1
    assert checked > 40


def test_members_of_enumerations_that_are_used_are_in_both_versions() -> None:
    """No flag that TensorRT 11 removed is used, and none that 10.12 has not."""
    used = {
        "BuilderFlag": ("TF32", "SPARSE_WEIGHTS"),
        "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
        "MemoryPoolType": ("WORKSPACE",),
        "ProfilingVerbosity": ("DETAILED",),
        "LayerInformationFormat": ("JSON",),
        "TensorIOMode": ("INPUT",),
        "ILogger": ("ERROR", "INTERNAL_ERROR"),
    }
    for real in TENSORRT:
        for name, members in used.items():
            assert set(members) <= set(SURFACE[real][name])
    gone = {"FP16", "INT8", "BF16", "OBEY_PRECISION_CONSTRAINTS"}
    assert gone <= set(SURFACE[TENSORRT[0]]["BuilderFlag"])
    assert not gone & set(SURFACE[TENSORRT[1]]["BuilderFlag"])


@pytest.mark.parametrize(("package", "part"), [("cuda.bindings.runtime", "cuda"), ("pynvml", "nvml")])
def test_every_cuda_and_nvml_name_is_real(gpu_machine: Any, package: str, part: str) -> None:
    """Functions, their arguments, and the members of enumerations are those of the real packages."""
    stand_in = getattr(gpu_machine, part)
    known = next(names for real, names in SURFACE.items() if real.startswith(f"{package} "))
    names = public(stand_in)
    assert len(names) > 12
    for name in names:
        assert name in known, f"{name} is invented"
        if inspect.ismethod(getattr(stand_in, name)):
            assert fits(getattr(stand_in, name), known[name]), name


def test_a_real_package_that_is_installed_has_the_names() -> None:
    """Where NVIDIA's packages are installed, every kept name is still there."""
    for package in ("cuda.bindings.runtime", "pynvml"):
        module = pytest.importorskip(package, reason=f"{package} is not installed")
        known = next(names for real, names in SURFACE.items() if real.startswith(f"{package} "))
        assert not [name for name in known if not hasattr(module, name)]
