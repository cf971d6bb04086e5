"""The end of every build: audit what was written, open it again, check its answers, and write the manifest."""

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backends.base import Audit, Backend, Opened, OpenOptions
from .errors import BuildError, UnavailableError
from .files import sha256_of_file, write_json
from .model import Signature
from .source import Source
from .variant import MANIFEST, Manifest, Parity, StepRecord

TOOLS = (
    "weighbridge",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "numpy",
    "openvino",
    "nncf",
    "torchao",
    "tensorrt",
)


def tools() -> dict[str, str]:
    """The versions of the tools that make artifacts; those that are not installed are left out."""
    return installed(TOOLS)


def installed(names: Iterable[str]) -> dict[str, str]:
    """The version of each distribution; those that are not installed are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def need_usable(made_by: Backend) -> None:
    """Check that this machine can run a backend.

    Raises:
        UnavailableError: it cannot; the text says why and what would help.
    """
    available = made_by.availability()
    if not available.usable:
        remedy = f". To make it available: {available.remedy}" if available.remedy else ""
        raise UnavailableError(f"{available.reason}{remedy}")


@dataclass(frozen=True)
class Written:
    """Files that a build has put into a folder, and what their manifest says beside what they show themselves."""

    folder: Path
    files: tuple[str, ...]
    backend: Backend
    precision: str
    recipe: dict[str, Any]
    source: Source
    signature: Signature
    calibration_sha256: str | None = None
    steps: tuple[StepRecord, ...] = ()
    note: str = ""


def seal(written: Written, check: Callable[[Opened], Parity | None], seconds: Callable[[], float]) -> None:
    """Prove that the files are what they are called and answer as they should, and write the manifest beside them.

    Raises:
        BuildError: the audit or the check refused them; the text says what was found.
    """
    audit = written.backend.audit(written.folder, written.files, written.precision)
    if not audit.ok:
        raise BuildError(f"the artifact is not what its name says: {audit.reason}")
    parity = _checked(written, check)
    write_json(written.folder / MANIFEST, _manifest(written, audit, parity, seconds()).to_dict())


def _checked(written: Written, check: Callable[[Opened], Parity | None]) -> Parity | None:
    opened = written.backend.open(written.folder, written.files, written.signature, OpenOptions())
    try:
        return check(opened)
    except BuildError as error:
        raise BuildError(f"the artifact was discarded: {error}") from error
    finally:
        opened.close()


def _manifest(written: Written, audit: Audit, parity: Parity | None, seconds: float) -> Manifest:
    paths = {name: written.folder / name for name in written.files}
    return Manifest(
        backend=written.backend.name,
        precision=written.precision,
        recipe=written.recipe,
        source=written.source.to_dict(),
        calibration_sha256=written.calibration_sha256,
        tools=tools(),
        files=written.files,
        sha256={name: sha256_of_file(path) for name, path in paths.items()},
        bytes=sum(path.stat().st_size for path in paths.values()),
        parameters=audit.parameters,
        sparsity=audit.sparsity,
        build_seconds=seconds,
        signature=written.signature,
        steps=written.steps,
        parity=parity,
        audit=audit,
        note=written.note,
    )
