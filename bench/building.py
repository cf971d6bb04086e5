"""Build the variants of a run, each in a child process of its own, and say of each what became of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends import backend
from ..optimize.errors import BuildError, InputError, UnavailableError, WorkerError
from ..optimize.model import Batch, Examples
from ..optimize.recipe import Recipe
from ..optimize.variant import Variant
from .child import Child, Progress
from .config import VariantConfig
from .results import Status
from .workloads.base import Prepared, batches, rows

BUILD_TIMEOUT_S = 3600.0
"""Of silence: a training that tells how far it is may take longer."""
_CALIBRATION_BATCH = 8
_CALIBRATION_ROWS = 512
_MOST_CALIBRATION_ROWS = 20_000
_CALIBRATION_BYTES = 2**30


@dataclass(frozen=True)
class Built:
    """A variant of the run: built (its folder), or why not."""

    config: VariantConfig
    status: Status
    folder: Path | None = None
    reason: str = ""
    from_cache: bool = False

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.config.name

    @property
    def variant(self) -> Variant:
        """The built variant, its manifest read from its folder."""
        if self.folder is None:
            raise BuildError(f"{self.name} was not built: {self.reason}")
        return Variant.read(self.folder)


def build(
    variant: VariantConfig,
    prepared: Prepared,
    *,
    base: Path,
    threads: int,
    progress: Progress,
    provider: str | None = None,
    batch_sizes: Sequence[int] = (),
) -> Built:
    """Build or adopt one variant in a child process; whatever goes wrong is that variant's status, not an exception.

    Args:
        variant: what is asked for.
        prepared: the workload.
        base: the folder against which an artifact's path is meant.
        threads: of the child process.
        progress: hears of steps.
        provider: where the variant will run, None for the CPU; one that cannot run there is not built.
        batch_sizes: those that will be measured.

    Raises:
        ConfigError, InputError: the recipe or the artifact cannot be meant; nothing was built.
    """
    available = backend(variant.backend).availability(provider)
    if not available.usable:
        remedy = f" To make it available: {available.remedy}" if available.remedy else ""
        return Built(variant, "unavailable", reason=f"{available.reason}.{remedy}".replace("..", "."))
    arguments = {
        "prepared": str(prepared.folder),
        "backend": variant.backend,
        "precision": variant.precision,
        "steps": list(variant.steps),
        "artifact": str(base / variant.artifact) if variant.artifact else None,
        "batch_sizes": list(batch_sizes),
    }
    try:
        with Child(f"build {variant.name}", threads=threads) as child:
            answer = child.call("build", arguments, timeout=BUILD_TIMEOUT_S, progress=progress)
    except UnavailableError as error:
        return Built(variant, "unavailable", reason=str(error))
    except (BuildError, WorkerError) as error:
        return Built(variant, "failed", reason=str(error))
    return Built(variant, "ok", folder=Path(answer["folder"]), from_cache=bool(answer["from_cache"]))


def built_before(variant: VariantConfig, event: Mapping[str, Any]) -> Built | None:
    """The variant as the journal of an interrupted run tells of it; None where its artifact is gone or damaged since."""
    if event["status"] != "ok":
        return Built(variant, event["status"], reason=event["reason"])
    folder = Path(event["folder"])
    try:
        damage = Variant.read(folder).damage()
    except InputError:
        return None
    return None if damage else Built(variant, "ok", folder=folder, from_cache=event["from_cache"])


def build_in_child(arguments: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """The child's side of `build`: load the examples, build or adopt, and answer with the variant's folder."""
    from ..optimize.build import adopt, optimize
    from ..optimize.cache import WAITING, ArtifactCache

    prepared = Prepared.read(Path(arguments["prepared"]))
    examples = replace(examples_of(prepared), batch_sizes=tuple(arguments["batch_sizes"]))
    told: list[str] = []

    def remember(text: str) -> None:
        told.append(text)
        tell(text)

    if arguments["artifact"]:
        variant = adopt(
            Path(arguments["artifact"]),
            arguments["backend"],
            arguments["precision"],
            examples=examples,
            progress=remember,
        )
    else:
        recipe = Recipe.from_dict({key: arguments[key] for key in ("backend", "precision", "steps")})
        variant = optimize(prepared.source, recipe, examples=examples, cache=ArtifactCache(), progress=remember)
    return {"folder": str(variant.folder), "from_cache": not set(told) - {WAITING}}


def examples_of(prepared: Prepared) -> Examples:
    """What a build may look at: probes at batch 1, 2 and 16 of every length, and the calibration batches."""
    probes: list[Batch] = []
    for length in prepared.lengths:
        arrays = prepared.arrays("evaluation", length)
        for size in (prepared.fixed_batch,) if prepared.fixed_batch else (1, 2, 16):
            probes.append(rows(arrays, len(probes), int(size)))
    calibration: tuple[Batch, ...] = ()
    labels, taken = prepared.labels("calibration"), 0
    if prepared.calibration_sha256 is not None:
        whole = prepared.arrays("calibration", prepared.calibration_length)
        taken = calibration_rows(whole)
        arrays = {name: np.asarray(array[:taken]) for name, array in whole.items()}
        calibration = tuple(batches(arrays, prepared.fixed_batch or _CALIBRATION_BATCH))
    return Examples(
        probes=tuple(probes),
        calibration=calibration,
        calibration_labels=None if labels is None else labels[:taken],
        calibration_sha256=prepared.calibration_sha256,
    )


def calibration_rows(arrays: Mapping[str, NDArray[Any]]) -> int:
    """How many calibration rows a build gets at most: 512, which quantizers and scores take their first from.

    Recovery learns from all that it gets: up to 20,000, as far as a gigabyte holds them.
    """
    bytes_a_row = sum(array[:1].nbytes for array in arrays.values())
    return max(_CALIBRATION_ROWS, min(_MOST_CALIBRATION_ROWS, _CALIBRATION_BYTES // max(1, bytes_a_row)))
