"""An opened TensorRT plan: inputs and outputs in device memory, a stream and a context a thread, CUDA graphs where asked for."""

import statistics
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends.base import DeviceTimes, sleep_until
from .batches import as_types, need_inputs
from .cuda import Buffer, Cuda, Graph
from .errors import BuildError, InputError
from .model import Batch, Signature
from .tensorrt_library import Engine
from .tensorrt_place import EngineFacts, Shape


@dataclass(frozen=True, eq=False)
class Loaded:
    """The inputs of one call, in device memory."""

    buffers: Mapping[str, Buffer]
    shapes: Mapping[str, Shape]


@dataclass(frozen=True)
class Given:
    """The outputs of one call, in device memory, until the next call of the same thread."""

    buffers: Mapping[str, Buffer]
    shapes: Mapping[str, Shape]


class TensorRtPredictor:
    """A plan on one GPU. `infer` is timed from inputs on the device to outputs on the device, and waits for them.

    Each calling thread has a context, a stream and outputs of its own, for a context serves one call at a time.
    """

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    sleep_until: Callable[[int], None] = staticmethod(sleep_until)

    def __init__(self, engine: Engine, facts: EngineFacts, signature: Signature) -> None:
        self._engine = engine
        self._facts = facts
        self._cuda = Cuda()
        self._dtypes = {tensor.name: tensor.dtype for tensor in (*engine.inputs, *engine.outputs)}
        self._inputs = {tensor.name: tensor.dtype for tensor in engine.inputs}
        self._ranges = {each.name: facts.ranges.get(each.name, (each.shape,) * 3) for each in engine.inputs}
        given = [tensor.name for tensor in engine.outputs]
        self._wanted = [name for name in signature.outputs if name in given] or given
        self._own = threading.local()
        self._lanes: list[_Lane] = []
        self._copies = self._cuda.stream()

    def load(self, batch: Batch) -> Loaded:
        """Copy the arrays that the engine takes to the device.

        Raises:
            InputError: the batch lacks one of them, or its shape is outside those that the plan was made for.
        """
        need_inputs(batch, self._inputs)
        arrays = as_types(batch, self._inputs)
        for name, array in arrays.items():
            self._need_in_range(name, array.shape)
        loaded = Loaded(
            {name: self._cuda.buffer(array.nbytes) for name, array in arrays.items()},
            {name: array.shape for name, array in arrays.items()},
        )
        for name, array in arrays.items():
            self._cuda.copy_in(array, loaded.buffers[name], self._copies)
        self._cuda.wait(self._copies)
        return loaded

    def infer(self, tensors: Loaded) -> Given:
        """Run the engine once and wait for the device."""
        return self._lane().run(tensors)

    def arrays(self, outputs: Given) -> dict[str, NDArray[Any]]:
        """Copy the outputs from the device, in the order of the signature; floats as float32."""
        found = {
            name: self._cuda.fetched(outputs.buffers[name], outputs.shapes[name], self._dtypes[name], self._copies)
            for name in self._wanted
        }
        return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in found.items()}

    def device_times(self, tensors: Loaded, calls: int) -> DeviceTimes:
        """Medians of `calls` calls: by the host's clock, by events around the work on the device, and of the copies by events.

        The copies are from and to ordinary (pageable) host memory.
        """
        self.infer(tensors)
        taken = [self._lane().timed(tensors, self._dtypes) for _ in range(calls)]
        host = []
        for _ in range(calls):
            start = self.clock_ns()
            self.infer(tensors)
            host.append((self.clock_ns() - start) / 1e6)
        medians = (statistics.median(each) for each in zip(*taken, strict=True))
        return DeviceTimes(statistics.median(host), *medians)

    def close(self) -> None:
        """Give back streams, events, graphs and the engine; device memory goes with what holds it."""
        for lane in self._lanes:
            lane.close()
        self._cuda.drop_stream(self._copies)
        del self._lanes, self._own, self._engine

    def _lane(self) -> "_Lane":
        try:
            own: _Lane = self._own.lane
        except AttributeError:
            own = self._own.lane = _Lane(self._cuda, self._engine, self._facts)
            self._lanes.append(own)
        return own

    def _need_in_range(self, name: str, shape: Shape) -> None:
        smallest, _, largest = self._ranges[name]
        inside = len(shape) == len(smallest) and all(
            low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)
        )
        if not inside:
            raise InputError(
                f"the input '{name}' of shape {_text(shape)} is outside the shapes that the plan was made for "
                f"({_text(smallest)} to {_text(largest)}); name the batch size or length under [measure] and build again"
            )


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class _Recorded:
    """A call as a graph, and the shapes of its outputs."""

    graph: Graph
    shapes: dict[str, Shape]


@dataclass(eq=False)
class _Lane:
    """What one thread calls the engine with. Outputs lie at the same place from call to call, as graphs need it."""

    cuda: Cuda
    engine: Engine
    facts: EngineFacts
    graphs: "weakref.WeakKeyDictionary[Loaded, _Recorded]" = field(default_factory=weakref.WeakKeyDictionary)
    met: "weakref.WeakSet[Loaded]" = field(default_factory=weakref.WeakSet)
    """Inputs that were given once: a graph is worth its recording where they come again."""

    def __post_init__(self) -> None:
        self.context = self.engine.engine.create_execution_context()
        self.stream = self.cuda.stream()
        self.events = [self.cuda.event() for _ in range(4)]
        self.outputs = {
            tensor.name: self.cuda.buffer(int(np.prod(shape)) * tensor.dtype.itemsize)
            for tensor, shape in zip(self.engine.outputs, self._largest_outputs(), strict=True)
        }
        for name, buffer in self.outputs.items():
            self._need(self.context.set_tensor_address(name, buffer.address), f"the place of output '{name}'")

    def run(self, loaded: Loaded) -> Given:
        """One call, finished."""
        shapes = self.enqueue(loaded)
        self.cuda.wait(self.stream)
        return Given(self.outputs, shapes)

    def enqueue(self, loaded: Loaded) -> dict[str, Shape]:
        """Ask the device for one call; returns the shapes of the outputs."""
        known = self.graphs.get(loaded)
        if known is None and self.facts.cuda_graph and loaded in self.met:
            known = self.graphs[loaded] = self._recorded(loaded)
        if known is not None:
            self.cuda.launch(known.graph, self.stream)
            return known.shapes
        self.met.add(loaded)
        shapes = self._bound(loaded)
        self._execute()
        return shapes

    def timed(self, loaded: Loaded, dtypes: Mapping[str, np.dtype[Any]]) -> tuple[float, float, float]:
        """Milliseconds by events of the work on the device, of copying the inputs in and of copying the outputs out."""
        inputs = {
            name: self.cuda.fetched(buffer, loaded.shapes[name], dtypes[name], self.stream)
            for name, buffer in loaded.buffers.items()
        }
        start, copied, worked, done = self.events
        self.cuda.mark(start, self.stream)
        for name, array in inputs.items():
            self.cuda.copy_in(array, loaded.buffers[name], self.stream)
        self.cuda.mark(copied, self.stream)
        shapes = self.enqueue(loaded)
        self.cuda.mark(worked, self.stream)
        outputs = {name: np.empty(shape, dtypes[name]) for name, shape in shapes.items()}
        for name, array in outputs.items():
            self.cuda.copy_out(self.outputs[name], array, self.stream)
        self.cuda.mark(done, self.stream)
        self.cuda.wait(self.stream)
        spans = ((copied, worked), (start, copied), (worked, done))
        work, copy_in, copy_out = (self.cuda.milliseconds(first, last) for first, last in spans)
        return work, copy_in, copy_out

    def close(self) -> None:
        """Give everything back."""
        self.graphs.clear()
        for event in self.events:
            self.cuda.drop_event(event)
        self.cuda.drop_stream(self.stream)

    def _bound(self, loaded: Loaded) -> dict[str, Shape]:
        """Tell the context where the inputs lie and what shapes they have; returns the shapes of the outputs."""
        for name, buffer in loaded.buffers.items():
            self._need(
                self.context.set_input_shape(name, loaded.shapes[name]), f"input '{name}' of {loaded.shapes[name]}"
            )
            self._need(self.context.set_tensor_address(name, buffer.address), f"the place of input '{name}'")
        return {name: tuple(self.context.get_tensor_shape(name)) for name in self.outputs}

    def _recorded(self, loaded: Loaded) -> "_Recorded":
        """A call with these inputs as a graph; TensorRT wants an ordinary call at its shapes just before it is recorded."""
        shapes = self._bound(loaded)
        self._execute()
        self.cuda.wait(self.stream)
        return _Recorded(self.cuda.recorded(self.stream, self._execute), shapes)

    def _execute(self) -> None:
        self._need(self.context.execute_async_v3(int(self.stream)), "the call")

    def _largest_outputs(self) -> list[Shape]:
        """The shapes of the outputs where every input is as large as it may be."""
        for name, (_, _, largest) in self.facts.ranges.items():
            self._need(self.context.set_input_shape(name, largest), f"input '{name}' of {largest}")
        shapes = [tuple(self.context.get_tensor_shape(tensor.name)) for tensor in self.engine.outputs]
        if any(size < 0 for shape in shapes for size in shape):
            raise BuildError(
                "the plan gives outputs whose shape depends on the data, for which no memory can be set aside"
            )
        return shapes

    def _need(self, accepted: bool, what: str) -> None:
        """Raise BuildError where TensorRT answered False, with its own reason."""
        if not accepted:
            raise BuildError(f"TensorRT refuses {what}: {self.engine.complaint()}")
