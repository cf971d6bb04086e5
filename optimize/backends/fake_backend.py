"""A backend whose answers and times are known: for tests of the meter, of the judge and of everything behind them.

Its artifact, `<name>.fake.json`, describes a behaviour; its clock is synthetic and advances only when a call says so, so that
a test knows the true latency of every call. The faults are real: a crash kills the process, a hang never answers.
"""

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import BuildError, InputError
from ..model import Batch, FakeModel, Kind, Model, Signature, TensorSpec
from ..recipe import StepConfig, explain
from .base import Audit, Availability, OpenOptions

SUFFIX = ".fake.json"
_MEMORY, _PIECE = 2**30, 2**24
FEATURES = 2
"""Inputs are (batch, 2): the true class of the row, and a number that tells the rows apart."""


class Behaviour(BaseModel):
    """How a fake model behaves; times in milliseconds of its own clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(3, ge=1, le=1000)
    latency_ms: float = 1.0
    per_row_ms: float = 0.0
    load_ms: float = 0.0
    """Time that loading inputs takes, which only calls that start from raw inputs count."""
    noise: float = 0.0
    drift_per_call: float = 0.0
    first_call_ms: float = 0.0
    stall_every: int = 0
    stall_ms: float = 0.0
    seed: int = 0
    error_rate: float = 0.0
    outputs: Literal["scores", "nan", "constant", "wrong-shape", "random"] = "scores"
    fail_at_open: str = ""
    fault_at_call: int = 0
    fault: Literal["exception", "kill", "segfault", "exit", "hang", "memory"] = "exception"
    grow_bytes: int = 0
    real_ms: float = 0.0
    """Time that really passes in a call, so that a test can interrupt a run."""


def read_behaviour(path: Path) -> Behaviour:
    """Read a behaviour file.

    Raises:
        InputError: it is missing, not JSON or describes something else.
    """
    try:
        return Behaviour.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"fake model {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"fake model {path}: {explain(error, Behaviour)}") from error


def signature_of(behaviour: Behaviour) -> Signature:
    """The signature of every fake classifier."""
    del behaviour
    return Signature("classifier", (TensorSpec("x", "float32", ("batch", FEATURES)),), ("scores",))


class FakePredictor:
    """Answers with the class that the row names, wrong for a known share of rows, on a synthetic clock.

    Every calling thread has a clock of its own, as if each had a core to itself.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        if behaviour.fail_at_open:
            raise BuildError(behaviour.fail_at_open)
        self._behaviour = behaviour
        self._clock = threading.local()
        self._calls = 0
        self._ballast: list[bytes] = []
        self._random = np.random.default_rng(behaviour.seed)
        self.clock_ns: Callable[[], int] = lambda: getattr(self._clock, "ns", 0)
        self.sleep_until: Callable[[int], None] = lambda at_ns: setattr(self._clock, "ns", at_ns)

    def load(self, batch: Batch) -> NDArray[Any]:
        """Return the rows themselves, after the time that this takes."""
        self._clock.ns = self.clock_ns() + round(self._behaviour.load_ms * 1e6)
        return batch["x"]

    def infer(self, tensors: NDArray[Any]) -> NDArray[np.float32]:
        """Advance the clock by this call's time, misbehave where told to, and answer."""
        self._calls += 1
        self._misbehave()
        self._clock.ns = self.clock_ns() + round(self._milliseconds(len(tensors)) * 1e6)
        return self._scores(tensors)

    def arrays(self, outputs: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Name the scores."""
        return {"scores": outputs}

    def close(self) -> None:
        """Drop the ballast."""
        self._ballast.clear()

    def _milliseconds(self, rows: int) -> float:
        told = self._behaviour
        time_ms = (told.latency_ms + told.per_row_ms * rows) * (1 + told.drift_per_call * (self._calls - 1))
        if told.noise:
            time_ms *= float(np.exp(told.noise * self._random.standard_normal()))
        if self._calls == 1:
            time_ms += told.first_call_ms
        if told.stall_every and self._calls % told.stall_every == 0:
            time_ms += told.stall_ms
        return time_ms

    def _misbehave(self) -> None:
        told = self._behaviour
        if told.real_ms:
            time.sleep(told.real_ms / 1e3)
        if told.grow_bytes:
            self._ballast.append(os.urandom(told.grow_bytes))
        if told.fault_at_call and self._calls == told.fault_at_call:
            _FAULTS[told.fault]()

    def _scores(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        told = self._behaviour
        if told.outputs == "wrong-shape":
            return np.eye(len(rows) + 1, told.classes, dtype=np.float32)
        if told.outputs == "nan":
            return np.full((len(rows), told.classes), np.nan, np.float32)
        if told.outputs == "constant":
            return np.zeros((len(rows), told.classes), np.float32)
        if told.outputs == "random":
            return self._random.standard_normal((len(rows), told.classes)).astype(np.float32)
        wrong = (
            np.random.default_rng(told.seed).permutation(1000)[rows[:, 1].astype(int) % 1000] < 1000 * told.error_rate
        )
        answered = (rows[:, 0].astype(int) + wrong) % told.classes
        return np.asarray(np.eye(told.classes)[answered], dtype=np.float32)


def _raise() -> None:
    raise RuntimeError("the fake model was told to fail at this call")


def _hang() -> None:
    while True:
        time.sleep(3600)


def _exhaust() -> None:
    """Take memory until there is none; the limit is this process's own, so that the machine keeps some."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    hoard = []
    while True:
        hoard.append(bytearray(_PIECE))


_FAULTS: dict[str, Callable[[], object]] = {
    "exception": _raise,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(3),
    "hang": _hang,
    "memory": _exhaust,
}


class FakeBackend:
    """The four questions, answered from the behaviour file."""

    name = "fake"
    form = "fake"
    precisions = ("fp32", "fp16", "bf16", "int8", "int4")
    calibrated: tuple[str, ...] = ()

    def availability(self, provider: str | None = None) -> Availability:
        """Always usable."""
        del provider
        return Availability(usable=True)

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """None: a fake model has nothing to change."""
        del precision, kind
        return ()

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Write the behaviour down."""
        if not isinstance(model, FakeModel):
            raise BuildError("the fake backend builds from fake models (*.fake.json) only")
        name = f"model{SUFFIX}"
        (folder / name).write_text(json.dumps(model.behaviour), encoding="utf-8")
        return (name,)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> FakePredictor:
        """Read the behaviour and obey it."""
        del signature, options
        return FakePredictor(read_behaviour(folder / files[0]))

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Nothing to prove: the file says everything."""
        size = (folder / files[0]).stat().st_size
        return Audit(ok=True, nodes={"Fake": 1}, weight_bytes={precision: size}, providers=("FakeProvider",))

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Say that it is no real model."""
        del precision, steps
        return "a fake model with a synthetic clock"


BACKEND = FakeBackend()
