"""What a built-in workload is: a name, default variants, and a function that makes model and data."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...optimize.source import Source, Task
from ..child import Progress
from .data import Rows

FLOAT_VARIANTS: tuple[dict[str, Any], ...] = (
    {"backend": "torch", "precision": "fp32", "baseline": True},
    {"backend": "torch", "precision": "bf16"},
    {"backend": "onnxruntime", "precision": "fp32"},
    {"backend": "onnxruntime", "precision": "fp16"},
)
DEFAULT_VARIANTS: tuple[dict[str, Any], ...] = (
    *FLOAT_VARIANTS,
    {"backend": "torch", "precision": "int8"},
    {"backend": "onnxruntime", "precision": "int8"},
)


def pruned(step: Mapping[str, Any]) -> dict[str, Any]:
    """The variant that is pruned by this step and runs in ONNX Runtime."""
    return {"name": "onnxruntime-pruned", "backend": "onnxruntime", "precision": "fp32", "steps": [dict(step)]}


@dataclass(frozen=True)
class Request:
    """What is asked of a built-in workload: a seed, and what a user brings instead of its own data and model.

    Attributes:
        seed: of every draw and training.
        training: own rows to train and calibrate on.
        evaluation: own rows to evaluate.
        training_text: generators: own text to train on.
        evaluation_text: generators: own text to evaluate.
        model: transformers folder or hub id to start from, where the system takes one.
    """

    seed: int
    training: Rows | None = None
    evaluation: Rows | None = None
    training_text: str | None = None
    evaluation_text: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Made:
    """A built-in workload's trained model and its data; generators have a text file instead of rows.

    `tokenizer` is the folder of the tokenizer of a text model that has none of its own.
    """

    source: Source
    evaluation: Rows = field(default_factory=Rows)
    calibration: Rows | None = None
    class_names: tuple[str, ...] = ()
    evaluation_file: Path = Path()
    calibration_file: Path | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class Builtin:
    """A built-in workload.

    Attributes:
        name: by which it is asked for.
        description: what it is, in a line.
        task: what it is for; this also says which kind of own data it takes.
        make: makes model and data of a request; it trains on first use and takes from the cache afterwards.
        variants: those that are weighed where a config names none.
        sequence_lengths: the default of measure.sequence_lengths, where it is not empty.
        max_new_tokens: the default of measure.max_new_tokens, where it is not None.
        takes_model: whether a model to start from may be given.
        accuracy_floor: what the baseline's accuracy exceeds on the workload's own data; 0 where it has no accuracy.
    """

    name: str
    description: str
    task: Task
    make: Callable[[Request, Progress], Made]
    variants: tuple[dict[str, Any], ...] = DEFAULT_VARIANTS
    sequence_lengths: tuple[int, ...] = ()
    max_new_tokens: int | None = None
    takes_model: bool = False
    accuracy_floor: float = 0.0

    def measure_defaults(self, given: Collection[str]) -> dict[str, Any]:
        """What `[measure]` has by default here, by key, where it is not given."""
        own = {"sequence_lengths": list(self.sequence_lengths), "max_new_tokens": self.max_new_tokens}
        return {key: value for key, value in own.items() if value and key not in given}
