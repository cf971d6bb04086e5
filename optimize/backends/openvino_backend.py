"""OpenVINO: found at run time; building for it is not part of this release."""

# ruff: noqa: ARG002 - the seam gives arguments that a refusal does not look at

import importlib.util
from importlib import metadata
from pathlib import Path

from ..errors import NotAvailableYetError
from ..model import Form, Model, Signature
from ..recipe import StepConfig
from .base import Audit, Availability, Opened, OpenOptions

_NOT_YET = "building for OpenVINO is not available yet in this release; use onnxruntime"


class OpenVinoBackend:
    """OpenVINO's runtime."""

    name = "openvino"
    form: Form = "onnx"
    precisions = ("fp32", "bf16", "fp16", "int8")

    def availability(self) -> Availability:
        """Not usable in this release; says so, and whether the package is there."""
        if importlib.util.find_spec("openvino") is None:
            return Availability(usable=False, reason="openvino is not installed", remedy="pip install openvino")
        return Availability(usable=False, reason=_NOT_YET, version=metadata.version("openvino"))

    def default_steps(self, precision: str, model: Model) -> tuple[StepConfig, ...]:
        """Refuse: nothing is built."""
        raise NotAvailableYetError(_NOT_YET)

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Refuse: nothing is built."""
        raise NotAvailableYetError(_NOT_YET)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Refuse: nothing is opened."""
        raise NotAvailableYetError(_NOT_YET)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Refuse: nothing is audited."""
        raise NotAvailableYetError(_NOT_YET)

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Nothing to say of what is not built."""
        del precision, steps
        return ""


BACKEND = OpenVinoBackend()
