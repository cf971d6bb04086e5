"""A built variant: a folder that holds the artifact and its manifest.json."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .backends import backend
from .backends.base import Audit, Opened, OpenOptions
from .errors import InputError
from .files import appearing, sha256_of_file
from .model import Signature
from .plain_data import checked, is_inside, parse_json

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Parity:
    """How far the outputs are from the source model's on the probes; the worst over all shapes.

    `agreement` is the share of probe rows (positions, for a decoder) with the same highest score.
    """

    max_abs: float
    max_relative: float
    cosine: float
    agreement: float
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRecord:
    """One step of a build: applied, or rolled back with the reason."""

    step: dict[str, Any]
    status: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    parity: Parity | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a variant, and all that is needed to open it."""

    backend: str
    precision: str
    recipe: dict[str, Any]
    source: dict[str, Any]
    calibration_sha256: str | None
    tools: dict[str, str]
    files: tuple[str, ...]
    sha256: dict[str, str]
    bytes: int
    parameters: int
    sparsity: float
    build_seconds: float
    signature: Signature
    steps: tuple[StepRecord, ...]
    parity: Parity | None
    audit: Audit
    note: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> "Manifest":
        """Read a manifest from plain data.

        Raises:
            ValueError: it is none, or of another version, or names a file outside its folder; the text says where.
        """
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}; this release reads {SCHEMA_VERSION}")
        manifest = checked(Manifest, data)
        outside = [name for name in (*manifest.files, *manifest.sha256) if not is_inside(name)]
        if outside:
            raise ValueError(f"it names '{outside[0]}', which is not a file of its folder")
        return manifest


@dataclass(frozen=True)
class Variant:
    """A folder with an artifact and its manifest."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def read(folder: Path) -> "Variant":
        """Read a variant's manifest; the artifact itself is checked by `damage`.

        Raises:
            InputError: the manifest is missing, cut short or of another version.
        """
        path = folder / MANIFEST
        try:
            return Variant(folder, Manifest.from_dict(parse_json(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a readable manifest ({error}); build the variant again") from error

    def damage(self) -> str:
        """Say what is wrong with the artifact's files, or nothing where each has the hash of the manifest."""
        for name, expected in self.manifest.sha256.items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if sha256_of_file(path) != expected:
                return f"{path} does not have the hash of its manifest"
        return ""

    def copy_to(self, folder: Path) -> "Variant":
        """Copy the artifact and its manifest to a new folder, whole or not at all."""
        with appearing(folder) as partial:
            for name in (*self.manifest.files, MANIFEST):
                shutil.copyfile(self.folder / name, partial / name)
        return Variant(folder, self.manifest)

    def open(self, options: OpenOptions | None = None) -> Opened:
        """Open the artifact for inference in this process."""
        made_by = backend(self.manifest.backend)
        return made_by.open(self.folder, self.manifest.files, self.manifest.signature, options or OpenOptions())
