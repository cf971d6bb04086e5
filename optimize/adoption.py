"""Existing artifacts as variants: copied, audited and checked, never rebuilt."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .artifact import Written, need_usable, seal, tools
from .backends import backend
from .backends.base import Backend, Opened
from .cache import ArtifactCache, Tell
from .errors import BuildError, InputError, NotAvailableYetError
from .factory import ARCHITECTURE, WEIGHTS, is_built
from .files import sha256_of_json
from .int8_plan import INT8
from .loading import describe, load, read_source_signature
from .model import Batch, Examples, Form
from .onnx_files import external_files
from .origin import task_of
from .parity import need_sound, reference_of
from .pruning_plan import PLAN
from .source import Source, SourceKind
from .variant import Parity, Variant

ADOPTION_SCHEMA = 2
"""Part of every cache key; raised when the same artifact would be taken otherwise."""

_KINDS: dict[Form, SourceKind] = {"onnx": "onnx", "module": "transformers", "fake": "fake"}
_GUESSES = ("fp32", "int8", "fp16", "bf16", "int4")


@dataclass(frozen=True)
class _Adoption:
    """What is taken, by which backend it runs, and what it is compared with."""

    source: Source
    backend: Backend
    precision: str | None
    probes: tuple[Batch, ...]
    reference: Source | None

    @property
    def key(self) -> str:
        compared = self.reference.sha256 if self.reference else None
        parts = [ADOPTION_SCHEMA, "adopted", self.source.sha256, self.backend.name, self.precision, compared, tools()]
        return sha256_of_json(parts)[:32]


def adopt(
    path: Path,
    backend_name: str,
    precision: str | None,
    *,
    examples: Examples,
    reference: Source | None = None,
    cache: ArtifactCache | None = None,
    progress: Tell | None = None,
) -> Variant:
    """Take an existing artifact as a variant: an .onnx file with the data files beside it, or a folder of a torch model.

    `precision` is what the artifact is said to be, None to be told by the audit. Where `reference` is given, the
    artifact must agree with it on half of the probes; else its answers must be numbers that differ between inputs.

    Raises:
        InputError: it is missing or damaged, or cannot be run on the probes.
        UnavailableError: this machine cannot run the backend.
        BuildError: it is not what its precision says, cannot be opened, or gives answers that are none.
        NotAvailableYetError: it is a TensorRT plan.
    """
    made_by = backend(backend_name)
    if made_by.form not in _KINDS:
        raise NotAvailableYetError(
            f"an existing {backend_name} plan as an artifact is not available yet in this release; give the .onnx file that it "
            "was made from as [workload] model, and a variant with this backend"
        )
    need_usable(made_by)
    if not examples.probes:
        raise InputError("an artifact is checked on real inputs; give at least one batch as Examples.probes")
    kind = "module" if is_built(path) and made_by.form == "module" else _KINDS[made_by.form]
    task = reference.task if reference else task_of(kind, str(path), examples.probes[0])
    taken = _Adoption(describe(kind, str(path), task), made_by, precision, examples.probes, reference)
    return _adopted(taken, cache or ArtifactCache(), progress)


def _adopted(taken: _Adoption, cache: ArtifactCache, progress: Tell | None) -> Variant:
    with cache.locked(taken.key, progress):
        found = cache.get(taken.key, progress)
        if found is None:
            if progress is not None:
                progress("copying, auditing and checking the artifact")
            with cache.adding(taken.key) as folder:
                _take(taken, folder)
            found = cache.get(taken.key)
    if found is None:
        raise BuildError(f"the artifact vanished from {cache.root}; run again without clearing the cache")
    return found


def _take(taken: _Adoption, folder: Path) -> None:
    started = time.perf_counter()
    signature = read_source_signature(taken.source)
    files = _copied(taken.source, folder)
    precision = taken.precision or _precision_of(taken.backend, folder, files)
    written = Written(
        folder=folder,
        files=files,
        backend=taken.backend,
        precision=precision,
        recipe={"artifact": taken.source.sha256},
        source=taken.source,
        signature=signature,
        note=taken.backend.note(precision, ()),
    )

    def check(opened: Opened) -> Parity | None:
        if taken.reference is None:
            need_sound(opened, signature, taken.probes)
            return None
        return reference_of(load(taken.reference), taken.probes).verify(opened, exact=False)

    seal(written, check, lambda: time.perf_counter() - started)


def _copied(source: Source, folder: Path) -> tuple[str, ...]:
    """Copy the artifact's files, the main one first."""
    if source.kind in ("transformers", "module"):
        described = ARCHITECTURE if source.kind == "module" else "config.json"
        plans = [name for name in (PLAN, INT8) if (source.path / name).is_file()]
        origins = {name: source.path / name for name in (WEIGHTS, described, *plans)}
    else:
        main = "model.onnx" if source.kind == "onnx" else "model.fake.json"
        beside = external_files(source.path) if source.kind == "onnx" else ()
        origins = {main: source.path, **{name: source.path.parent / name for name in beside}}
    for name, path in origins.items():
        if not path.is_file():
            raise InputError(
                f"{source.reference} holds no {name}; save the model with save_pretrained as one safetensors file"
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    return tuple(origins)


def _precision_of(made_by: Backend, folder: Path, files: tuple[str, ...]) -> str:
    """The precision that the audit confirms.

    Raises:
        BuildError: it confirms none.
    """
    guesses = [name for name in _GUESSES if name in made_by.precisions]
    for name in guesses:
        if made_by.audit(folder, files, name).ok:
            return name
    reason = made_by.audit(folder, files, guesses[0]).reason
    raise BuildError(f"the audit finds none of {', '.join(guesses)} in the artifact: {reason}")
