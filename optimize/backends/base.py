"""What a backend answers: can it run here, how is an artifact made, how is it opened, what is in it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..model import Batch, Form, Kind, Model, Signature
from ..recipe import StepConfig


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; where not, why, and the command that would make it available."""

    usable: bool
    reason: str = ""
    remedy: str = ""
    version: str = ""


@dataclass(frozen=True)
class OpenOptions:
    """How an artifact is opened: compute threads, and the execution provider asked for (backend's default when None)."""

    threads: int = 1
    provider: str | None = None


@dataclass(frozen=True)
class Audit:
    """Proof of what an artifact is, read from the artifact itself.

    `ok` is False where it is not what its precision says, and `reason` then says what was found instead.
    """

    ok: bool
    reason: str = ""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Operators (or module classes) by type."""
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of weights by data type."""
    parameters: int = 0
    sparsity: float = 0.0
    """Share of exact zeros among the parameters, 0 to 1."""
    providers: tuple[str, ...] = ()
    """What really runs it, in order of preference."""


_SPIN_NS = 200_000
"""A sleeping process wakes up to about so late; the rest is waited for awake."""


def sleep_until(at_ns: int) -> None:
    """Wait until `time.perf_counter_ns` shows `at_ns`, to within a few microseconds."""
    while (left := at_ns - time.perf_counter_ns()) > 0:
        if left > _SPIN_NS:
            time.sleep((left - _SPIN_NS) / 1e9)


class Predictor(Protocol):
    """An opened classifier. Only `infer` is timed: native tensors in, native tensors out, device work finished."""

    clock_ns: Callable[[], int]
    sleep_until: Callable[[int], None]
    """Wait until the clock shows so many nanoseconds."""

    def load(self, batch: Batch) -> Any:
        """Turn named arrays into the backend's own tensors (not timed)."""

    def infer(self, tensors: Any) -> Any:
        """Run the model once."""

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """Turn the backend's outputs into named arrays, floats as float32 (not timed)."""

    def close(self) -> None:
        """Give back what was opened."""


@dataclass(frozen=True)
class DeviceTimes:
    """Medians of a few calls on an accelerator, in milliseconds.

    Attributes:
        host_ms: a call by the host's clock, device work finished: what latencies are.
        device_ms: of it, the work on the device.
        copy_in_ms: copying the inputs to the device, which no latency counts.
        copy_out_ms: copying the outputs back, which no latency counts either.
    """

    host_ms: float
    device_ms: float
    copy_in_ms: float
    copy_out_ms: float


@runtime_checkable
class OnDevice(Protocol):
    """An opened classifier whose work an accelerator does, which has a clock of its own."""

    def device_times(self, tensors: Any, calls: int) -> DeviceTimes:
        """Take `calls` calls apart: the host's time, the device's time, the copies."""


class Decoder(Protocol):
    """An opened generator with a key/value cache; bench/generation.py owns the loop and the timestamps."""

    clock_ns: Callable[[], int]

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any | None, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Any]:
        """Feed `ids` (batch, new) after `past` (None: empty cache); `mask` is (batch, past + new), 0 for padding.

        Returns the logits (batch, new, vocabulary), with `last` those of the last position alone (batch, 1, vocabulary), and
        the cache that now holds past + new positions; the cache that was given is used up.
        """

    def close(self) -> None:
        """Give back what was opened."""


Opened = Predictor | Decoder


class Backend(Protocol):
    """One inference library. `form` is the form of model that its artifacts are made from."""

    name: str
    form: Form
    precisions: tuple[str, ...]
    calibrated: tuple[str, ...]
    """The precisions whose default steps learn from calibration data."""

    def availability(self, provider: str | None = None) -> Availability:
        """Say whether it can run here, on that provider (cheaply: no model is loaded)."""

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """The steps that `precision` alone stands for, for a model of this kind; empty for the source's own precision."""

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Write the artifact into `folder` and return its file names, the main one first."""

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Open an artifact for inference. Raises BuildError where another provider than the one asked for would run it."""

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Read from the artifact what it is."""

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """What a row should honestly say where no gain is to be expected on this machine; empty otherwise."""
