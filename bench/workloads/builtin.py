"""What a built-in workload is: a name, default variants, and a function that makes model and data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...optimize.source import Source, Task
from ..child import Progress
from .data import Rows

DEFAULT_VARIANTS: tuple[dict[str, Any], ...] = (
    {"backend": "torch", "precision": "fp32", "baseline": True},
    {"backend": "torch", "precision": "bf16"},
    {"backend": "onnxruntime", "precision": "fp32"},
    {"backend": "onnxruntime", "precision": "int8"},
)


@dataclass(frozen=True)
class Made:
    """A built-in workload's trained model and its data; generators have a text file instead of rows."""

    source: Source
    evaluation: Rows = field(default_factory=Rows)
    calibration: Rows | None = None
    class_names: tuple[str, ...] = ()
    evaluation_file: Path = Path()


@dataclass(frozen=True)
class Builtin:
    """A built-in workload; `make(seed, progress)` trains on first use and takes from the cache afterwards."""

    name: str
    description: str
    task: Task
    make: Callable[[int, Progress], Made]
    variants: tuple[dict[str, Any], ...] = DEFAULT_VARIANTS
