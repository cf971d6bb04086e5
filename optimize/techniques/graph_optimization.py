"""Clean-ups of the ONNX graph, each kept only where it is proved harmless and measurably helps on this machine.

`first-position` lets the last layer compute the one position that a BERT-like classifier reads. `onnxscript-fusions` joins
attention, norms and GELU into ONNX Runtime's own operators. `ort-offline` writes down what ONNX Runtime's optimizer makes of
the graph, at its level EXTENDED: the level above it lays tensors out for the processor of the build. What the last two leave
runs in ONNX Runtime only.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..errors import BuildError, first_line
from ..model import Batch, Examples, Model, OnnxModel
from ..onnx_first_position import read_first_position
from ..parity import Reference, open_model, reference_of
from ..quick_timing import Ratio, time_ratio
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique

_PLACEMENT = 0.005
"""Two equal models in one process differ by up to this share; a gain below it is none."""
_LOSS = 0.02
"""What a pass may cost at one shape where it gains at another."""

Pass = Literal["first-position", "ort-offline", "onnxscript-fusions"]


class GraphOptimization(StepConfig):
    """Which clean-ups are tried, one after another."""

    use: ClassVar[str] = "graph-optimization"
    passes: tuple[Pass, ...] = Field(
        ("first-position", "onnxscript-fusions", "ort-offline"),
        min_length=1,
        description="clean-ups, in order: first-position (the last layer computes only the position that is read), "
        "onnxscript-fusions (ONNX Runtime's fused operators), "
        "ort-offline (what its optimizer makes of the graph, at level EXTENDED)",
    )


def apply(model: Model, config: GraphOptimization, examples: Examples, folder: Path) -> StepResult:
    """Try each pass on what the passes before it left; the record says for each whether it was kept, and why.

    A graph that no pass improves stays as it is.

    Raises:
        BuildError: the model is no ONNX graph.
    """
    if not isinstance(model, OnnxModel):
        raise BuildError("graph-optimization changes ONNX graphs only")
    reference = reference_of(model, examples.probes)
    tried: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(config.passes):
        candidate = OnnxModel(folder / f"{number}-{name}" / "model.onnx", model.signature)
        candidate.path.parent.mkdir()
        broken = _broken(name, model, candidate, reference)
        ratios = {} if broken else _ratios(model, candidate, examples.probes)
        refused = broken or _without_gain(ratios)
        tried[name] = {
            "kept": not refused,
            "reason": refused or "it answers as before and is faster",
            "time_ratio": {shape: [ratio.value, ratio.low, ratio.high] for shape, ratio in ratios.items()},
        }
        model = model if refused else candidate
    return StepResult(model, {"passes": tried})


def _broken(name: Pass, model: OnnxModel, candidate: OnnxModel, reference: Reference) -> str:
    """Write what a pass makes of the graph; why it cannot be used, or nothing."""
    import onnx

    try:
        with quiet():
            _PASSES[name](model.path, candidate.path)
            onnx.checker.check_model(str(candidate.path))
    except BuildError as error:
        return f"discarded: {error}"
    except Exception as error:  # noqa: BLE001 - foreign rewriting of foreign graphs: the reason is recorded, the pass discarded
        return f"discarded: it failed ({first_line(error)})"
    try:
        reference.verify_model(candidate, exact=True)
    except BuildError as error:
        return f"discarded: {error}"
    return ""


def _first_position(source: Path, target: Path) -> None:
    import onnx

    model = onnx.load(str(source))
    read_first_position(model)
    onnx.save(model, str(target))


def _ort_offline(source: Path, target: Path) -> None:
    """Write the optimized graph, without the activations that loading joins to layers anyway: quantizers do not know them."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(target)
    settings.log_severity_level = 4
    onnxruntime.InferenceSession(
        str(source),
        settings,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConvActivationFusion", "GemmActivationFusion"],
    )


def _onnxscript_fusions(source: Path, target: Path) -> None:
    import onnx
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    fused, _ = optimize_for_ort(onnx_ir.serde.deserialize_model(onnx.load(str(source))))
    onnx.save(onnx_ir.serde.serialize_model(fused), str(target))


_PASSES: dict[Pass, Callable[[Path, Path], None]] = {
    "first-position": _first_position,
    "ort-offline": _ort_offline,
    "onnxscript-fusions": _onnxscript_fusions,
}


def _without_gain(ratios: dict[str, Ratio]) -> str:
    """Why a pass is not worth keeping; nothing where it surely helps at one shape and surely costs little at the others."""
    if all(ratio.high >= 1 - _PLACEMENT for ratio in ratios.values()):
        return f"discarded: at no shape is the whole interval of the time ratio below {1 - _PLACEMENT:g}"
    slower = [shape for shape, ratio in ratios.items() if ratio.high > 1 + _LOSS]
    return f"discarded: it may cost more than {_LOSS:.0%} at {slower[0]}" if slower else ""


def _ratios(model: OnnxModel, candidate: OnnxModel, probes: tuple[Batch, ...]) -> dict[str, Ratio]:
    """The time of a call after the pass over that before it, on the smallest and the largest probe."""
    ratios = {}
    for probe in _smallest_and_largest(probes):
        with _calling(model, probe) as before, _calling(candidate, probe) as after:
            ratios[_shape(probe)] = time_ratio(before, after)
    return ratios


def _smallest_and_largest(probes: tuple[Batch, ...]) -> tuple[Batch, ...]:
    by_size = sorted(probes, key=lambda probe: next(iter(probe.values())).size)
    return (by_size[0], by_size[-1]) if len(by_size) > 1 else tuple(by_size)


def _shape(probe: Batch) -> str:
    return "x".join(map(str, next(iter(probe.values())).shape))


@contextmanager
def _calling(model: OnnxModel, probe: Batch) -> Iterator[Callable[[], object]]:
    """A function that calls the model once; a decoder reads the prompt and takes one step."""
    with ExitStack() as closing:
        opened: Any = open_model(model)
        closing.callback(opened.close)
        if model.signature.kind == "decoder":
            yield lambda: _prefill_and_step(opened, probe)
        else:
            tensors = opened.load(probe)
            yield lambda: opened.infer(tensors)


def _prefill_and_step(decoder: Any, probe: Batch) -> None:
    ids, mask = (np.asarray(probe[name], np.int64) for name in ("input_ids", "attention_mask"))
    _, past = decoder.step(ids, mask, None)
    longer = np.concatenate([mask, np.ones_like(mask[:, :1])], axis=1)
    decoder.step(np.ascontiguousarray(ids[:, -1:]), longer, past)


TECHNIQUE = Technique(
    "graph-optimization",
    GraphOptimization,
    "onnx",
    apply,
    exact=True,
    excludes=("nncf-int8",),
    backends=("onnxruntime",),
)
