"""TensorRT's builder: from an ONNX graph, in whose types it computes, to a plan for the GPU of this machine.

Every recipe of the backend tensorrt ends with this step; it is named where the builder is to be told more than the defaults.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..cache import Tell, cache_root
from ..errors import BuildError, NotAvailableYetError
from ..files import sha256_of_json
from ..model import Examples, Model, OnnxModel, PlanModel, Signature, TensorSpec
from ..onnx_audit import census_of
from ..onnx_files import read_signature, read_valid
from ..recipe import StepConfig
from ..tensorrt_builder import Limits, build_plan
from ..tensorrt_place import PLAN_FILE, EngineFacts, Place, Range, place_here
from . import StepResult, Technique


class TensorRtEngine(StepConfig):
    """How hard the builder tries, for which batch it tunes, and how the plan is called."""

    use: ClassVar[str] = "tensorrt-engine"
    workspace_mib: int | None = Field(
        None, ge=1, description="scratch memory that a layer may use, in MiB; default: all that the GPU has"
    )
    optimization_level: int = Field(3, ge=0, le=5, description="0 builds fastest, 5 gives the fastest engine")
    opt_batch: int | None = Field(
        None, ge=1, description="batch size that the engine is tuned for; default: the largest that is measured"
    )
    cuda_graph: bool = Field(default=False, description="record a call as a CUDA graph and launch it as one piece")
    tf32: bool = Field(default=False, description="let FP32 products round their factors to TF32's 10 bits")
    sparse_weights: bool = Field(
        default=False, description="let sparse tensor cores multiply weights that were pruned 2:4"
    )
    timing_cache: bool = Field(default=True, description="keep measured times of kernels for later builds")
    time_limit_s: float = Field(1800, gt=0, le=3000, description="the build is stopped after so many seconds")


def apply(model: Model, config: TensorRtEngine, examples: Examples, folder: Path, tell: Tell) -> StepResult:
    """Build the plan, and write beside it where it was made and which shapes it takes.

    Raises:
        BuildError: the model is no ONNX graph, the tuned batch size is none that is taken, or TensorRT refused the graph.
        NotAvailableYetError: the model is a generator.
        UnavailableError: TensorRT, its driver or its GPU is missing.
    """
    if not isinstance(model, OnnxModel):
        raise BuildError("tensorrt-engine builds from ONNX graphs only")
    if model.signature.kind == "decoder":
        raise NotAvailableYetError(
            "generators on TensorRT are not available yet in this release; use onnxruntime or torch"
        )
    graph = read_valid(model.path)
    place, census = place_here(), census_of(graph)
    ranges = ranges_of(read_signature(graph), examples, config.opt_batch)
    limits = Limits(
        config.workspace_mib, config.optimization_level, config.time_limit_s, config.tf32, config.sparse_weights
    )
    times = timing_cache_of(place) if config.timing_cache else None
    plan = folder / PLAN_FILE
    plan.write_bytes(build_plan(model.path, ranges, limits, times, tell))
    EngineFacts(
        place=place,
        ranges=ranges,
        cuda_graph=config.cuda_graph,
        parameters=census.parameters,
        sparsity=census.sparsity,
    ).write(folder)
    details = {"place": place.model_dump(), "profile": {name: list(each) for name, each in ranges.items()}}
    return StepResult(PlanModel(plan, model.signature), details)


def ranges_of(signature: Signature, examples: Examples, opt_batch: int | None) -> dict[str, Range]:
    """The smallest, tuned and largest shape of every input with a free dimension, over all that is checked and measured.

    The engine is tuned for the largest batch that is measured, or for `opt_batch`, and for the largest of every other dimension.

    Raises:
        BuildError: `opt_batch` lies outside.
    """
    free = [spec for spec in signature.inputs if not all(isinstance(size, int) for size in spec.shape)]
    return {spec.name: _range(spec, examples, opt_batch) for spec in free}


def _range(spec: TensorSpec, examples: Examples, opt_batch: int | None) -> Range:
    seen = [probe[spec.name].shape for probe in examples.probes]
    smallest, largest = tuple(map(min, zip(*seen, strict=True))), tuple(map(max, zip(*seen, strict=True)))
    batches = (*examples.batch_sizes, smallest[0], largest[0]) if spec.fixed_batch is None else (spec.fixed_batch,)
    tuned = spec.fixed_batch or opt_batch or max(examples.batch_sizes or (largest[0],))
    if not min(batches) <= tuned <= max(batches):
        raise BuildError(
            f"tensorrt-engine: opt_batch = {tuned} is outside the batch sizes {min(batches)} to {max(batches)} "
            "that are measured or checked; add it to [measure] batch_sizes"
        )
    return (min(batches), *smallest[1:]), (tuned, *largest[1:]), (max(batches), *largest[1:])


def timing_cache_of(place: Place) -> Path:
    """The file of measured times for this GPU, driver and TensorRT, in the user's cache."""
    return cache_root() / "tensorrt" / f"{sha256_of_json(place.model_dump())[:16]}.timing"


TECHNIQUE = Technique(
    "tensorrt-engine",
    TensorRtEngine,
    "onnx",
    apply,
    exact=True,
    gives="plan",
    backends=("tensorrt",),
    tells=True,
)
