"""Generators opened by ONNX Runtime: the cache stays in the runtime's own values, copied at every step or grown in place."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import positions_of
from .model import CacheSpec

_BLOCK = 128
"""Positions by which a buffer grows."""


@dataclass(frozen=True)
class Graph:
    """What a decoder must know of its session: the names of the cache going in and out, its type and its spec; the logits."""

    session: Any
    past: tuple[str, ...]
    present: tuple[str, ...]
    dtype: np.dtype[Any]
    cache: CacheSpec
    logits_type: np.dtype[Any]
    vocabulary: int
    """Its size; 0 where the graph leaves it free."""
    value_of: Callable[[NDArray[Any]], Any]
    """The runtime's view of an array, which it does not copy."""

    def inputs(self, ids: NDArray[np.int64], mask: NDArray[np.int64], *, last: bool) -> dict[str, Any]:
        """All inputs but the cache; positions are counted from the mask, so that left padding changes nothing."""
        new = ids.shape[1]
        arrays = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions_of(mask, new),
            "logits_to_keep": np.arange(new - 1 if last else 0, new),
        }
        return {name: self.value_of(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def zeros(self, rows: int, positions: int) -> NDArray[Any]:
        """An empty part of a cache with room for so many positions, shape (rows, heads, positions, head size)."""
        return np.zeros((rows, self.cache.heads, positions, self.cache.head_size), self.dtype)


@dataclass(frozen=True)
class Buffers:
    """A cache that is grown in place: a buffer for each part, all bound as what goes in and as what comes out.

    `last` takes the logits of the last position, shape (rows, 1, vocabulary), anew at every step.
    """

    parts: tuple[Any, ...]
    capacity: int
    binding: Any
    last: NDArray[Any]


class CopyingDecoder:
    """A session that gives a new cache at every step."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any | None, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Any]:
        """Feed new tokens; see `Decoder`."""
        graph = self._graph
        held = past or [graph.value_of(graph.zeros(len(ids), 0)) for _ in graph.past]
        feeds = {**graph.inputs(ids, mask, last=last), **dict(zip(graph.past, held, strict=True))}
        logits, *present = graph.session.run_with_ort_values(["logits", *graph.present], feeds)
        return logits.numpy().astype(np.float32, copy=False), present

    def close(self) -> None:
        """Drop the session."""
        del self._graph


class InPlaceDecoder:
    """A session that writes new keys and values behind those that its buffers hold (onnx_in_place.py)."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Buffers | None, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Buffers]:
        """Feed new tokens; see `Decoder`."""
        if past is not None and len(ids) > 1 and ids.shape[1] > 1:
            return self._one_by_one(ids, mask, past, last=last)
        rows, total = mask.shape
        if past is None or total > past.capacity:
            past = self._grown(past, rows, total - ids.shape[1], total)
        binding = past.binding
        inputs = self._graph.inputs(
            ids, mask, last=last
        )  # kept until the call is over: the binding only points at them
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        if last:
            binding.bind_ortvalue_output("logits", self._graph.value_of(past.last))
            self._graph.session.run_with_iobinding(binding)
            return past.last.astype(np.float32), past
        binding.bind_output("logits")
        self._graph.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy().astype(np.float32, copy=False), past

    def close(self) -> None:
        """Drop the session."""
        del self._graph

    def _one_by_one(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Buffers, *, last: bool
    ) -> tuple[NDArray[np.float32], Buffers]:
        """Feed several tokens of several requests after their past, which the operator does not take at once."""
        steps = []
        for place in range(ids.shape[1]):
            end = mask.shape[1] - ids.shape[1] + place + 1
            logits, past = self.step(ids[:, place : place + 1], mask[:, :end], past)
            steps.append(logits)
        return (steps[-1] if last else np.concatenate(steps, axis=1)), past

    def _grown(self, past: Buffers | None, rows: int, held: int, total: int) -> Buffers:
        """Buffers with room for `total` positions, of which the first `held` are copied."""
        graph = self._graph
        capacity = -(-total // _BLOCK) * _BLOCK
        arrays = [graph.zeros(rows, capacity) for _ in graph.past]
        for array, part in zip(arrays, past.parts if past else (), strict=False):
            array[:, :, :held] = part.numpy()[:, :, :held]
        parts = tuple(graph.value_of(array) for array in arrays)
        binding = graph.session.io_binding()
        for given, taken, part in zip(graph.past, graph.present, parts, strict=True):
            binding.bind_ortvalue_input(given, part)
            binding.bind_ortvalue_output(taken, part)
        return Buffers(parts, capacity, binding, np.empty((rows, 1, graph.vocabulary), graph.logits_type))


def open_decoder(
    session: Any, cache: CacheSpec, numpy_type: Callable[[Any], np.dtype[Any]]
) -> CopyingDecoder | InPlaceDecoder:
    """The decoder that fits a session's graph: one whose cache goes in and out with the same axes is grown in place."""
    import onnxruntime

    past = [value for value in session.get_inputs() if value.name.startswith("past_key_values.")]
    present = tuple(each.name.replace("past_key_values.", "present.") for each in past)
    given = {value.name: value for value in session.get_outputs()}
    logits = given["logits"]
    graph = Graph(
        session,
        tuple(each.name for each in past),
        present,
        numpy_type(past[0]),
        cache,
        numpy_type(logits),
        logits.shape[-1] if isinstance(logits.shape[-1], int) else 0,
        onnxruntime.OrtValue.ortvalue_from_numpy,
    )
    in_place = given[present[0]].shape == past[0].shape and graph.vocabulary > 0
    return InPlaceDecoder(graph) if in_place else CopyingDecoder(graph)
