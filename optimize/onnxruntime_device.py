"""Classifiers that ONNX Runtime runs on a GPU: inputs and outputs stay there, and every product must run there too."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends.base import sleep_until
from .batches import as_types, need_inputs
from .errors import BuildError
from .model import Batch, Signature
from .onnx_audit import INTEGER_NODES, WEIGHTED_NODES

TELL_PLACES = "session.record_ep_graph_assignment_info"
"""The setting with which a session remembers what provider runs which node."""
_OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""FP32 means FP32: on NVIDIA's tensor cores it would silently be rounded to TF32."""
_BEHIND = {"TensorrtExecutionProvider": ("CUDAExecutionProvider",)}
"""What may run the nodes that a provider does not take."""


def providers_for(wanted: str) -> list[tuple[str, dict[str, str]]]:
    """A provider with its options, then those that may run what it does not take."""
    return [(name, _OPTIONS.get(name, {})) for name in (wanted, *_BEHIND.get(wanted, ()))]


def need_no_fall_back(session: Any, wanted: str) -> None:
    """Hold a session to its provider: matrix products, convolutions and recurrent layers must all run on it.

    Small nodes, such as those that compute shapes, may run elsewhere: that is where they are fastest.

    Raises:
        BuildError: some of them would silently run on another provider.
    """
    heavy = {*WEIGHTED_NODES, *INTEGER_NODES}
    places: Counter[tuple[str, str]] = Counter(
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if node.op_type in heavy
    )
    elsewhere = {place: count for place, count in places.items() if place[0] != wanted}
    if elsewhere:
        listed = ", ".join(f"{count} {kind} on {provider}" for (provider, kind), count in sorted(elsewhere.items()))
        raise BuildError(
            f"asked for {wanted}, but ONNX Runtime silently runs {sum(elsewhere.values())} of {places.total()} matrix products, "
            f"convolutions and recurrent layers elsewhere: {listed}"
        )


class OnnxRuntimeDevicePredictor:
    """A session with its inputs and outputs on a device; `infer` is the bare call, and waits for the device."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    sleep_until: Callable[[int], None] = staticmethod(sleep_until)

    def __init__(
        self, session: Any, signature: Signature, dtypes: Mapping[str, np.dtype[Any]], device: str = "cuda"
    ) -> None:
        import onnxruntime

        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._session = session
        self._dtypes = dtypes
        self._device = device
        self._given = [value.name for value in session.get_outputs()]
        self._wanted = [name for name in signature.outputs if name in self._given] or self._given

    def load(self, batch: Batch) -> dict[str, Any]:
        """Copy the arrays that the graph takes to the device, in its own data types.

        Raises:
            InputError: the batch lacks one of them.
        """
        need_inputs(batch, self._dtypes)
        return {name: self._value(array, self._device, 0) for name, array in as_types(batch, self._dtypes).items()}

    def infer(self, tensors: dict[str, Any]) -> Any:
        """Run the session once; its outputs are on the device and finished."""
        binding = self._session.io_binding()
        for name, value in tensors.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._given:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding.get_outputs()

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """Copy the outputs from the device, in the order of the signature; floats as float32."""
        named = dict(zip(self._given, outputs, strict=True))
        arrays = {name: named[name].numpy() for name in self._wanted}
        return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()}

    def close(self) -> None:
        """Drop the session."""
        del self._session
