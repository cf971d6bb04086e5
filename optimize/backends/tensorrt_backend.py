"""NVIDIA TensorRT: plans that were built for the GPU of this machine, in the types of the ONNX graph that they come from."""

import shutil
from pathlib import Path

from ..errors import BuildError, ConfigError, NotAvailableYetError
from ..model import Form, Kind, Model, PlanModel, Signature
from ..recipe import StepConfig, step_from_dict
from ..tensorrt_audit import inspect, mismatch
from ..tensorrt_availability import tensorrt_availability
from ..tensorrt_library import read_engine
from ..tensorrt_place import ENGINE_FILE, PLAN_FILE, EngineFacts, need_place
from .base import Audit, Availability, Opened, OpenOptions

_PROVIDERS = (None, "cuda")
_STEPS = {
    "fp16": {"use": "onnx-half-precision"},
    "int8": {"use": "static-int8", "target": "tensorrt"},
}


class TensorRtBackend:
    """TensorRT's runtime and builder."""

    name = "tensorrt"
    form: Form = "plan"
    precisions = ("fp32", "fp16", "int8")
    calibrated: tuple[str, ...] = ("int8",)

    def availability(self, provider: str | None = None) -> Availability:
        """Why TensorRT cannot run here: not installed, libraries missing, no driver, no device, builder failed, too old."""
        del provider
        return tensorrt_availability()

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """The conversion of the ONNX graph to FP16, or symmetric Q/DQ nodes for INT8; the builder's own step follows by itself.

        Raises:
            ConfigError: there is no such precision here.
            NotAvailableYetError: the model is a generator.
        """
        if precision not in self.precisions:
            raise ConfigError(f"the tensorrt backend builds no {precision}. Allowed: {', '.join(self.precisions)}")
        if kind == "decoder":
            raise NotAvailableYetError(
                "generators on TensorRT are not available yet in this release; use onnxruntime or torch"
            )
        return (step_from_dict(_STEPS[precision]),) if precision in _STEPS else ()

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Copy the plan, and what says where it was made.

        Raises:
            BuildError: the model is no plan.
        """
        if not isinstance(model, PlanModel):
            raise BuildError("the tensorrt backend keeps TensorRT plans only; step tensorrt-engine builds one")
        shutil.copyfile(model.path, folder / PLAN_FILE)
        shutil.copyfile(model.path.parent / ENGINE_FILE, folder / ENGINE_FILE)
        return (PLAN_FILE, ENGINE_FILE)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Read the plan into the GPU.

        Raises:
            ConfigError: another provider than the GPU was asked for.
            UnavailableError: the plan was made on another GPU, by another driver or TensorRT, or there is none of these here.
            BuildError: TensorRT refuses the plan.
            InputError: its files are damaged.
        """
        from ..tensorrt_predictor import TensorRtPredictor

        if options.provider not in _PROVIDERS:
            raise ConfigError(f"the tensorrt backend has no provider '{options.provider}'. Allowed: cuda")
        facts = EngineFacts.read(folder)
        need_place(facts.place)
        return TensorRtPredictor(read_engine(folder / files[0]), facts, signature)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Read the types of the engine's layers from its inspector; parameters are counted in the graph that it was made from."""
        facts = EngineFacts.read(folder)
        need_place(facts.place)
        census = inspect(read_engine(folder / files[0]), facts.ranges)
        reason = mismatch(precision, census)
        computing = {f"computing in {name}": count for name, count in census.computing.items()}
        return Audit(
            ok=not reason,
            reason=reason,
            nodes={**census.layers, **computing},
            weight_bytes=census.weight_bytes,
            parameters=facts.parameters,
            sparsity=facts.sparsity,
            providers=(str(facts.place),),
        )

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """What the row should say of an INT8 engine."""
        del steps
        return "what quantization leaves in floating point is computed in FP32" if precision == "int8" else ""


BACKEND = TensorRtBackend()
