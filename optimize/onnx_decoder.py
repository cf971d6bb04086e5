"""A causal language model in the form in which it is exported: its key/value cache goes in and out as flat tensors.

Attention is one operator a layer (ONNX's Attention of opset 23), which takes the cache and gives the grown one, where the
model lets transformers choose its attention function; else it is what the model itself computes.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .errors import BuildError
from .model import CacheSpec

FUSED_OPSET = 23
"""The first with an Attention operator."""
# Sizes of the traced example: all different and above 1, or the exporter ties dimensions together or fixes them.
_BATCH = 2
_LENGTH = 7
_PAST = 5
_KEPT = (0, 3, 6)

Free = dict[int, str]
"""The free axes of one input, by name."""
Pair = tuple[Any, Any]
"""Keys and values of one layer."""
Pairs = list[Pair]


def past_names(layers: int) -> list[str]:
    """Names of the cache's inputs, in order."""
    return [f"past_key_values.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def present_names(layers: int) -> list[str]:
    """Names of the cache's outputs, in order."""
    return [f"present.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def example_of(module: Any, cache: CacheSpec) -> tuple[dict[str, Any], dict[str, Free]]:
    """What is traced: tensors by input name, in order, and the free axes of each.

    One request is padded: of a mask of ones the exporter would make a constant.
    """
    import torch

    mask = torch.ones(_BATCH, _PAST + _LENGTH, dtype=torch.int64)
    mask[1, :2] = 0
    dtype = next(module.parameters()).dtype
    shape = (_BATCH, cache.heads, _PAST, cache.head_size)
    past = {name: torch.zeros(shape, dtype=dtype) for name in past_names(cache.layers)}
    tensors = {
        "input_ids": torch.ones(_BATCH, _LENGTH, dtype=torch.int64),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -_LENGTH:],
        "logits_to_keep": torch.tensor(_KEPT),
    }
    free: dict[str, Free] = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "past_and_sequence"},
        "position_ids": {0: "batch", 1: "sequence"},
        "logits_to_keep": {0: "kept"},
    }
    return tensors | past, free | {name: {0: "batch", 2: "past"} for name in past}


def plain_decoder(module: Any) -> Any:
    """Wrap a causal language model so that its cache goes in and out as flat tensors; attention is as the model computes it."""
    return _flat(module, _Joined(), _as_given)


@contextlib.contextmanager
def fused_decoder(module: Any) -> Iterator[Any]:
    """Wrap a causal language model as `plain_decoder` does, with one Attention operator a layer, within the block.

    Meanwhile transformers' eager attention, which the module must be set to, is ours. Called, the wrapped module raises
    BuildError where the model does not let its attention be chosen, or asks of it what the operator lacks.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    apart = _Apart()
    ALL_ATTENTION_FUNCTIONS["eager"] = apart.attend
    try:
        yield _flat(module, apart, _causal if _sees_everything(module) else _as_given)
    finally:
        del ALL_ATTENTION_FUNCTIONS["eager"]


class _Joined:
    """The model joins the cache with the new keys and values, and its attention reads both together."""

    def enter(self, past: Pairs) -> Any:
        """The model's cache, filled."""
        return _filled(past)

    def leave(self, cache: Any) -> Pairs:
        """The cache after the call."""
        return [(layer.keys, layer.values) for layer in cache.layers]


class _Apart:
    """The operator joins the cache with the new keys and values; the model's cache only tells how long the past is."""

    def __init__(self) -> None:
        self._past: Pairs = []
        self._present: dict[int, Pair] = {}

    def enter(self, past: Pairs) -> Any:
        """A cache that knows its past and hands new keys and values on alone."""
        self._past, self._present = past, {}
        cache = _filled(past)
        cache.update = lambda keys, values, *_, **__: (keys, values)
        return cache

    def attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        *,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: Any = None,
        **_: Any,
    ) -> tuple[Any, None]:
        """Attention as transformers asks for it: tensors (batch, heads, new, size) in, (batch, new, heads, size) out."""
        import torch

        if s_aux is not None:
            raise BuildError("the model's attention has sinks")
        batch, heads, new, _size = query.shape

        def rows(states: Any) -> Any:
            return states.transpose(1, 2).reshape(batch, new, -1)

        layer = module.layer_idx
        answer, keys, values, _scores = torch.onnx.ops.attention(
            rows(query),
            rows(key),
            rows(value),
            attention_mask,
            *self._past[layer],
            scale=scaling,
            softcap=softcap or 0.0,
            q_num_heads=heads,
            kv_num_heads=key.shape[1],
        )
        self._present[layer] = keys, values
        return answer.reshape(batch, new, heads, -1), None

    def leave(self, cache: Any) -> Pairs:
        """The cache after the call."""
        del cache
        if sorted(self._present) != list(range(len(self._past))):
            raise BuildError("the model computes its attention by itself")
        return [self._present[layer] for layer in range(len(self._past))]


def _filled(past: Pairs) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(past):
        cache.update(keys, values, layer)
    return cache


def _sees_everything(module: Any) -> bool:
    """Whether every layer attends to all positions before its own: no windows, no chunks."""
    config = module.config.get_text_config() if hasattr(module, "config") else None
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return config is not None and kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


def _as_given(mask: Any, new: int, dtype: Any) -> Any:
    """The mask (batch, past + new) of which the model makes its own."""
    del new, dtype
    return mask


def _causal(mask: Any, new: int, dtype: Any) -> Any:
    """What is added to the scores of each new position, shape (batch, 1, new, past + new): nothing where it may look.

    Made of the mask alone, so that the graph does not depend on the size of the cache's tensors (onnx_in_place.py), and in
    fewer steps than the model takes to make it.
    """
    import torch

    places = torch.arange(mask.shape[1])
    seen = (places <= places[mask.shape[1] - new :, None]) & mask[:, None, None, :].bool()
    return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)


def _flat(module: Any, way: _Joined | _Apart, masked: Callable[[Any, int, Any], Any]) -> Any:
    import torch

    class FlatDecoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(
            self, input_ids: Any, attention_mask: Any, position_ids: Any, logits_to_keep: Any, *past: Any
        ) -> tuple[Any, ...]:
            cache = way.enter(list(zip(past[::2], past[1::2], strict=True)))
            answer = self.inner(
                input_ids=input_ids,
                attention_mask=masked(attention_mask, input_ids.shape[1], past[0].dtype),
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=logits_to_keep,
            )
            return (answer.logits, *(part for pair in way.leave(cache) for part in pair))

    return FlatDecoder().eval()
