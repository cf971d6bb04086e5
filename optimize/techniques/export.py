"""Export a torch module to an ONNX graph by a chosen exporter; without this step the build exports by the default one.

torch's legacy exporter traces the module with its attention written out. Its graph is plainer, which ONNX Runtime's dynamic
INT8 can be faster on; it is deprecated, so it is an option to measure and not the default.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..errors import BuildError
from ..model import Examples, Model, TorchModel
from ..onnx_export import Exporter, export
from ..recipe import StepConfig
from . import StepResult, Technique


class Export(StepConfig):
    """Which of torch's exporters."""

    use: ClassVar[str] = "export"
    exporter: Exporter = Field("dynamo", description="torch's present exporter, or its deprecated one (legacy)")


def apply(model: Model, config: Export, examples: Examples, folder: Path) -> StepResult:
    """Export the module.

    Raises:
        BuildError: the model is no torch module, or the exporter cannot trace or write it.
    """
    if not isinstance(model, TorchModel):
        raise BuildError("export makes ONNX graphs of torch modules; here the model is an ONNX graph already")
    return StepResult(export(model, examples.probes, folder / "model.onnx", config.exporter))


TECHNIQUE = Technique("export", Export, "module", apply, exact=True, gives="onnx")
