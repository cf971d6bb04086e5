"""Find the units of a torch module that can surely be removed, and every tensor that holds them.

Transformer blocks are known by the names of their parts (only classes of transformers and torch are trusted with them).
Everything else is found in the traced graph (pruning_trace.py). What is in neither is left as it is.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .pruning_layers import Layer, Piece, grouped, layer_of
from .pruning_plan import Group
from .pruning_trace import traced_groups

_FFNS = (
    (("intermediate.dense",), "output.dense"),  # BERT and its kin
    (("c_fc",), "c_proj"),  # GPT-2
    (("gate_proj", "up_proj"), "down_proj"),  # Llama
    (("lin1",), "lin2"),  # DistilBERT
    (("linear1",), "linear2"),  # torch.nn.TransformerEncoderLayer
)
_LAYER_LISTS = ("encoder.layer", "h", "layers", "transformer.layer")


@dataclass(frozen=True)
class _Attention:
    """Names of the parts of an attention block, of its head size, and of the attributes that count in heads or widths.

    `blocks` is how many of query, key and value lie in one layer.
    """

    inputs: tuple[str, ...]
    output: str
    size: str
    heads: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    blocks: int = 1


_ATTENTIONS = (
    _Attention(
        ("self.query", "self.key", "self.value"),
        "output.dense",
        "self.attention_head_size",
        ("self.num_attention_heads",),
        ("self.all_head_size",),
    ),
    _Attention(("c_attn",), "c_proj", "head_dim", ("num_heads",), ("split_size",), blocks=3),
    _Attention(("q_proj", "k_proj", "v_proj"), "o_proj", "head_dim"),
    _Attention(("q_lin", "k_lin", "v_lin"), "out_lin", "attention_head_size", ("n_heads",)),
)


def find_groups(module: Any) -> tuple[tuple[Group, ...], str]:
    """The groups of a module that share no tensor with another place, and, where it cannot be traced, why."""
    shared = _shared(module)
    found = {group.name: group for group in _of_transformers(module)}
    traced, reason = ((), "") if _trusted(module) else traced_groups(module)
    found = {group.name: group for group in traced} | found
    alone = (group for group in found.values() if not shared & {member.tensor for member in group.members})
    return tuple(alone), reason


def _shared(module: Any) -> set[str]:
    """Names of the parameters that are in more than one place."""
    places = list(module.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in places)
    return {name for name, parameter in places if uses[id(parameter)] > 1}


def layer_list(module: Any) -> str | None:
    """The name of a transformer's list of equal layers, of which whole ones can be left out."""
    for name, block in module.named_modules():
        kinds = getattr(getattr(block, "config", None), "layer_types", None) or ()
        if not _trusted(block) or len(set(kinds)) > 1:
            continue
        for path in _LAYER_LISTS:
            layers = _part(block, path)
            if type(layers).__name__ == "ModuleList" and len({type(layer) for layer in layers}) == 1:
                return f"{name}.{path}".lstrip(".")
    return None


def _of_transformers(module: Any) -> Iterator[Group]:
    for name, block in module.named_modules():
        if _trusted(block):
            found = [_ffn(name, block, makers, reader) for makers, reader in _FFNS]
            found += [_heads(name, block, parts) for parts in _ATTENTIONS]
            yield from (group for group in found if group is not None)


def _trusted(block: Any) -> bool:
    return type(block).__module__.startswith(("transformers.", "torch.nn.modules.transformer"))


def _ffn(name: str, block: Any, makers: tuple[str, ...], reader: str) -> Group | None:
    """The units between the layers of a feed-forward block."""
    layers = _layers(name, block, (*makers, reader))
    if layers is None or any(maker.outputs != layers[-1].inputs for maker in layers[:-1]):
        return None
    pieces = [*(maker.makes() for maker in layers[:-1]), layers[-1].reads()]
    return grouped("ffn", layers[0].name, layers[-1].inputs, pieces)


def _heads(name: str, block: Any, parts: _Attention) -> Group | None:
    """The heads of an attention block; where several share a key/value head, they go together with it."""
    layers = _layers(name, block, (*parts.inputs, parts.output))
    owner, _, attribute = parts.size.rpartition(".")
    size = getattr(_part(block, owner), attribute, None)
    if layers is None or not isinstance(size, int):
        return None
    widths = [maker.outputs // parts.blocks for maker in layers[:-1]]
    count = min(widths) // size
    if widths[0] != layers[-1].inputs or any(width % (count * size) for width in widths):
        return None
    pieces = [maker.makes(width // count, parts.blocks) for maker, width in zip(layers, widths, strict=False)]
    counts = [(f"{name}.{each}", 1) for each in parts.heads] + [(f"{name}.{each}", size) for each in parts.widths]
    stated = Piece((), tuple((path.lstrip("."), share) for path, share in counts))
    return grouped("heads", layers[0].name, count, [*pieces, layers[-1].reads(widths[0] // count), stated])


def _layers(name: str, block: Any, paths: tuple[str, ...]) -> list[Layer] | None:
    """The linear layers of these names, or None where one is missing or something else."""
    found = [layer_of(f"{name}.{path}".lstrip("."), _part(block, path)) for path in paths]
    layers = [layer for layer in found if layer is not None]
    return layers if len(layers) == len(paths) else None


def _part(module: Any, path: str) -> Any:
    """The submodule of that path (itself for none), or None."""
    for name in filter(None, path.split(".")):
        module = getattr(module, "_modules", {}).get(name)
    return module
