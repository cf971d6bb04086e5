"""From an ONNX file to a TensorRT plan, strongly typed: one optimization profile, limits, a timing cache, progress, a time limit."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BuildError
from .files import replacing
from .tensorrt_library import error_log, last_error, load_tensorrt
from .tensorrt_place import Range

_MIB = 2**20
_PROGRESS_SECONDS = 1.0
"""Progress is told at most so often."""


@dataclass(frozen=True)
class Limits:
    """How hard the builder tries.

    Attributes:
        workspace_mib: scratch memory that a layer may use, in MiB; None: all that the GPU has.
        optimization_level: 0 (fastest build) to 5 (fastest engine).
        seconds: the build is stopped after so long.
        tf32: FP32 products may round their factors to TF32.
        sparse_weights: weights of which two in four are zero may be multiplied by sparse tensor cores.
    """

    workspace_mib: int | None
    optimization_level: int
    seconds: float
    tf32: bool
    sparse_weights: bool


def build_plan(
    onnx: Path, ranges: Mapping[str, Range], limits: Limits, timing_cache: Path | None, tell: Callable[[str], None]
) -> bytes:
    """Build a plan for the GPU of this process.

    Args:
        onnx: the file; its types are those that the engine computes in.
        ranges: the shapes of every input with a free dimension.
        limits: how hard the builder tries.
        timing_cache: the file in which measured times of kernels are kept from build to build; None: none.
        tell: hears of progress.

    Raises:
        BuildError: TensorRT cannot parse the file, cannot build an engine, or took longer than allowed; the text is TensorRT's.
        UnavailableError: TensorRT cannot be had here.
    """
    tensorrt = load_tensorrt()
    log = error_log(tensorrt)
    builder = tensorrt.Builder(log)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        raise BuildError(f"TensorRT cannot parse {onnx.name}: {_parser_errors(parser)}")
    config = _config(tensorrt, builder, limits)
    if ranges and config.add_optimization_profile(_profile(builder, ranges)) < 0:
        raise BuildError(f"TensorRT refuses the shapes {dict(ranges)}: {last_error(log)}")
    monitor = _monitor(tensorrt, limits.seconds, tell)
    config.progress_monitor = monitor
    if timing_cache is not None:
        _take_times(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(_why_none(monitor, log, limits))
    if timing_cache is not None:
        _keep_times(config, timing_cache)
    return bytes(plan)


def _config(tensorrt: Any, builder: Any, limits: Limits) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = limits.optimization_level
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # the audit reads each layer's types
    if limits.workspace_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, limits.workspace_mib * _MIB)
    if not limits.tf32:
        config.clear_flag(tensorrt.BuilderFlag.TF32)  # set by the library's default
    if limits.sparse_weights:
        config.set_flag(tensorrt.BuilderFlag.SPARSE_WEIGHTS)
    return config


def _profile(builder: Any, ranges: Mapping[str, Range]) -> Any:
    profile = builder.create_optimization_profile()
    for name, (smallest, best, largest) in ranges.items():
        profile.set_shape(name, smallest, best, largest)
    return profile


def _parser_errors(parser: Any) -> str:
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    described = [f"{' '.join(each.desc().split())} (node {each.node_name() or each.node()})" for each in found[:3]]
    return "; ".join(described) or "it gave no reason"


def _monitor(tensorrt: Any, seconds: float, tell: Callable[[str], None]) -> Any:
    """What the builder tells its steps, from several threads of its own; it answers whether the builder may go on."""

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self.late = False
            self._deadline = time.monotonic() + seconds
            self._next = time.monotonic() + _PROGRESS_SECONDS
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 - the library's names
            with self._lock:
                self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                now = time.monotonic()
                self.late = self.late or now > self._deadline
                if now >= self._next:
                    self._next = now + _PROGRESS_SECONDS
                    tell(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, step + 1)}")
                return not self.late

    return Monitor()


def _why_none(monitor: Any, log: Any, limits: Limits) -> str:
    if monitor.late:
        return (
            f"the engine was not built within {limits.seconds:g} s; raise time_limit_s of step tensorrt-engine, "
            "or lower its optimization_level"
        )
    return f"TensorRT built no engine: {last_error(log)}"


def _take_times(config: Any, path: Path) -> None:
    """Give the builder the times that earlier builds have measured; one that does not fit is begun anew."""
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_times(config: Any, path: Path) -> None:
    with replacing(path) as partial:
        partial.write_bytes(bytes(config.get_timing_cache().serialize()))
