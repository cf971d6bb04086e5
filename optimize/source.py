"""Where a model comes from: a transformers folder or hub id, an .onnx file, or a factory `package.module:factory`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

SourceKind = Literal["transformers", "onnx", "module", "fake"]
Task = Literal["text-classification", "image-classification", "tabular-classification", "text-generation"]


@dataclass(frozen=True)
class Source:
    """A reference to a trained model; nothing is loaded until `optimize.loading.load` is asked.

    Attributes:
        kind: how it is loaded.
        reference: folder, hub id, file, or `package.module:factory`.
        task: what it is for.
        sha256: hash of everything that decides its outputs (weights, config, the factory's code and what it imports of the user's own).
        search_path: folder put on the import path for a factory.
        weights: safetensors file loaded into the factory's module, where it does not load its own.
        input_names: names of the inputs, for a factory whose inputs are positional.
        arguments: what the factory is called with, by name: the sizes of a model that is made in more than one.
    """

    kind: SourceKind
    reference: str
    task: Task
    sha256: str
    search_path: str | None = None
    weights: str | None = None
    input_names: tuple[str, ...] = ()
    arguments: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The reference as a path."""
        return Path(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Source":
        """Read a source from plain data."""
        return Source(**{**data, "input_names": tuple(data.get("input_names", ()))})
