"""Let ONNX Runtime grow a generator's key/value cache where it lies; tried on every generator that is exported for it.

Sound as ONNX's own Attention to a caller who knows nothing of it, and faster with buffers that have room: the runtime then writes
the new keys and values only, where Attention copies the whole cache at every token.
"""

from pathlib import Path
from typing import ClassVar

from ..errors import BuildError
from ..model import Examples, Model, OnnxModel
from ..onnx_in_place import grow_in_place
from ..recipe import StepConfig
from . import StepResult, Technique


class InPlaceCache(StepConfig):
    """There is nothing to choose."""

    use: ClassVar[str] = "in-place-cache"


def apply(model: Model, config: InPlaceCache, examples: Examples, folder: Path) -> StepResult:
    """Rewrite the attention of an exported generator.

    Raises:
        BuildError: the model is no exported generator, or its attention cannot be rewritten; see `grow_in_place`.
    """
    import onnx

    del config, examples
    if not isinstance(model, OnnxModel) or model.signature.kind != "decoder":
        raise BuildError("in-place-cache changes the ONNX graph of a generator; a classifier has no cache")
    graph = onnx.load(str(model.path))
    replaced = grow_in_place(graph)
    path = folder / "model.onnx"
    onnx.save(graph, str(path))
    return StepResult(OnnxModel(path, model.signature), {"nodes_replaced": replaced})


TECHNIQUE = Technique(
    "in-place-cache",
    InPlaceCache,
    "onnx",
    apply,
    exact=True,
    backends=("onnxruntime",),
    after_export=("decoder",),
)
