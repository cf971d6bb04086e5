"""The layers of an ONNX graph that quantization can take or leave, by names that last from export to quantized file."""

import ast
import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .onnx_files import weights_of
from .onnx_folding import fold_weights
from .quiet import quiet

LAYERS = ("Attention", "Conv", "Gemm", "LSTM", "MatMul")
"""Operators whose constant weights ONNX Runtime quantizes."""
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes the modules that a node lies in: the root's empty name, then dotted paths, then the call."""
_SHOWN = 3


@dataclass(frozen=True)
class Layer:
    """A node with a constant weight: its name, its operator, and how many floating-point constants it reads."""

    name: str
    op_type: str
    parameters: int


def quantizable_layers(path: Path) -> tuple[Layer, ...]:
    """The layers of a float ONNX file, in graph order, by the names that a step's `exclude` takes.

    A file exported here names them by their modules (`bert.encoder.layer.0.attention.self.query`); in a file from elsewhere
    they keep their own names, and one without a name of its own is called by its first output.
    """
    return layers_of(quantizable_graph(path))


def quantizable_graph(path: Path) -> Any:
    """Read a graph as quantization takes it: weights folded, and a name for every node that may be a layer."""
    import onnx

    with quiet():
        model = fold_weights(onnx.load(str(path)), transposes=True)
    candidates = [node for node in model.graph.node if node.op_type in LAYERS]
    _rename(model, ((node, node.name or node.output[0]) for node in candidates))
    return model


def layers_of(model: Any) -> tuple[Layer, ...]:
    """The nodes of the graph that still read a floating-point weight; subgraphs, which no quantizer enters, left out."""
    sizes = {name: array.size for name, array in weights_of(model) if array.dtype.name.startswith(("float", "bfloat"))}
    return tuple(
        Layer(node.name, node.op_type, sum(sizes.get(name, 0) for name in node.input[1:]))
        for node in model.graph.node
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in sizes
    )


def name_by_modules(model: Any, wrapper: str) -> None:
    """Name the nodes that may be layers by their modules, in place, while the exporter's notes are still there.

    Args:
        model: the graph as the exporter wrote it.
        wrapper: the module's own name where another one was wrapped around it for the export; it is left out.
    """
    candidates = [node for node in model.graph.node if node.op_type in LAYERS]
    paths = (_module_path(node).removeprefix(f"{wrapper}.") for node in candidates)
    _rename(model, ((node, path or node.name or node.output[0]) for node, path in zip(candidates, paths, strict=True)))


def _module_path(node: Any) -> str:
    """The module that a node comes from; empty where it is the root, or where the exporter noted nothing.

    The legacy exporter writes the path into the name: `/encoder/layer.0/query/MatMul`.
    """
    notes = {note.key: note.value for note in node.metadata_props}
    if _SCOPES in notes:
        scopes: list[str] = ast.literal_eval(notes[_SCOPES])
        return scopes[-2] if len(scopes) > 1 else ""
    return ".".join(node.name.split("/")[1:-1])


def _rename(model: Any, wanted: Iterable[tuple[Any, str]]) -> None:
    """Give each node its name, with `#2`, `#3`, ... where another node has it already."""
    pairs = list(wanted)
    renamed = {id(node) for node, _ in pairs}
    taken = {node.name for node in model.graph.node if id(node) not in renamed}
    for node, name in pairs:
        numbered = (f"{name}#{number}" for number in itertools.count(2))
        node.name = next(each for each in itertools.chain([name], numbered) if each not in taken)
        taken.add(node.name)


def layer_details(before: Sequence[Layer], left: Sequence[Layer], exclude: Sequence[str]) -> dict[str, list[str]]:
    """For the record: the layers that are no longer in float, and those that were excluded, both in graph order."""
    still = {layer.name for layer in left}
    return {
        "layers_quantized": [layer.name for layer in before if layer.name not in still],
        "layers_excluded": [layer.name for layer in before if layer.name in exclude],
    }


def need_layers(names: Sequence[str], layers: Sequence[Layer], step: str) -> None:
    """Hold the names that a step is to leave out to the layers that there are.

    Raises:
        ConfigError: there is no layer of such a name; the text names the nearest and where all are listed.
    """
    known = [layer.name for layer in layers]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
            raise ConfigError(
                f"step '{step}' cannot exclude '{name}': the model has no such layer{hint} "
                f"It has {len(known)} ({shown or 'none'}); the manifest of the variant without exclude lists them under "
                "layers_quantized"
            )
