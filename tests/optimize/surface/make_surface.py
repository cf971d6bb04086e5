"""Write gpu_surface.json: the names that NVIDIA's own Python packages really have, against which the tests' fakes are held.

No GPU is needed. TensorRT's bindings are one compiled module that needs three libraries to load, which come with a GPU machine; here
empty libraries with the same ten functions stand in for them, so that the module loads and its classes, methods and argument names
can be read. Nothing of it can be run. The other two packages load by themselves.

Run, in an environment of the same Python version as the wheels, with gcc:

    pip download --no-deps --dest wheels tensorrt-cu12-bindings==10.12.0.36 tensorrt-cu13-bindings==11.4.0.106
    pip install cuda-bindings==13.5.0 nvidia-ml-py==13.615.71
    python tests/optimize/surface/make_surface.py wheels
"""

import importlib
import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

OUT = Path(__file__).with_name("gpu_surface.json")
CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
)
"""TensorRT's classes that are used, or near to what is used."""
CUDA = [
    "cudaDeviceGetPCIBusId",
    "cudaError_t",
    "cudaEventCreate",
    "cudaEventDestroy",
    "cudaEventElapsedTime",
    "cudaEventRecord",
    "cudaFree",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaMalloc",
    "cudaMemcpyAsync",
    "cudaMemcpyKind",
    "cudaStreamBeginCapture",
    "cudaStreamCaptureMode",
    "cudaStreamCreateWithFlags",
    "cudaStreamDestroy",
    "cudaStreamEndCapture",
    "cudaStreamNonBlocking",
    "cudaStreamSynchronize",
]
NVML = [
    "NVMLError",
    "NVML_CLOCK_MEM",
    "NVML_CLOCK_SM",
    "nvmlClocksThrottleReasonGpuIdle",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByPciBusId",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetName",
    "nvmlInit",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
]
"""What is kept of the two modules, which have over a thousand names each; a name that they do not have stops this script."""
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
STAND_INS = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getInferLibVersion",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
]

Members = dict[str, list[list[str]] | None]
"""Of each member its argument names, one list an overload; None where it is no method."""


def main() -> None:
    """Read every package and write the file."""
    if len(sys.argv) == 3:  # the child's own call: a folder and a version
        print(json.dumps(tensorrt_surface(Path(sys.argv[1]))))  # noqa: T201 - the answer to the parent
        return
    surface: dict[str, dict[str, Any]] = {}
    for wheel in sorted(Path(sys.argv[1]).glob("tensorrt*bindings-*.whl")):
        version = wheel.name.split("-")[1]
        surface[f"tensorrt {version}"] = in_child(wheel, version)
    modules = (("cuda.bindings.runtime", "cuda-bindings", CUDA), ("pynvml", "nvidia-ml-py", NVML))
    for name, distribution, names in modules:
        version = importlib.metadata.version(distribution)
        surface[f"{name} {version}"] = module_surface(importlib.import_module(name), names)
    OUT.write_text(json.dumps(surface, sort_keys=True) + "\n", encoding="utf-8")


def in_child(wheel: Path, version: str) -> dict[str, Any]:
    """Unpack a wheel, lay the empty libraries beside its module, and read it in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        source = folder / "empty.c"
        source.write_text("".join(f"void *{each}(void) {{ return 0; }}\n" for each in STAND_INS), encoding="utf-8")
        for library in LIBRARIES:
            path = folder / "tensorrt_bindings" / f"lib{library}.so.{version.split('.', maxsplit=1)[0]}"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)  # noqa: S607 - the compiler that there is
        child = subprocess.run(
            [sys.executable, "-P", __file__, name, version],
            env={**os.environ, "LD_LIBRARY_PATH": str(folder / "tensorrt_bindings")},
            check=True,
            capture_output=True,
            text=True,
        )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def tensorrt_surface(folder: Path) -> dict[str, Any]:
    """The members of each class of the unpacked bindings."""
    sys.path.insert(0, str(folder))
    bindings = importlib.import_module("tensorrt_bindings")
    return {name: members(getattr(bindings, name)) for name in CLASSES}


def members(kind: Any) -> Members:
    """The public members of a class and its constructor."""
    names = ["__init__", *(name for name in dir(kind) if not name.startswith("_"))]
    return {name: arguments(name, getattr(kind, name)) for name in names}


def arguments(name: str, member: Any) -> list[list[str]] | None:
    """The argument names of a method, `self` left out, as pybind11 wrote them into its description."""
    if not callable(member):
        return None
    described = re.findall(
        rf"(?:^|\d\. ){re.escape(name)}\((.*?)\)(?: ->|$)", inspect.getdoc(member) or "", re.MULTILINE
    )
    kept = [each for each in described if each != "*args, **kwargs"]
    return [[name for name in re.findall(r"(\w+): ", each) if name != "self"] for each in kept]


def module_surface(module: Any, names: list[str]) -> dict[str, Any]:
    """Functions of a module with their argument names, and the members of its enumerations."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(module, name)
        if hasattr(value, "__members__"):
            found[name] = dict.fromkeys(value.__members__)
        elif inspect.isfunction(value):
            found[name] = [list(inspect.signature(value).parameters)]
        elif isinstance(value, type | int):
            found[name] = None
        else:
            found[name] = cuda_arguments(name, value)
    return found


def cuda_arguments(name: str, function: Any) -> list[list[str]]:
    """The argument names of a CUDA function, as the first line of its description has them: `cudaMemcpy(dst, src, size_t count)`."""
    described = re.match(rf"{name}\((.*?)\)", (function.__doc__ or "").strip())
    parts = described[1].split(",") if described and described[1] else []
    return [[re.findall(r"\w+", part.split(":")[0])[-1] for part in parts]]


if __name__ == "__main__":
    main()
