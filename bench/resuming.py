"""What an interrupted run has done already, by its journal, and whether it may be gone on with here and now."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..optimize.errors import ConfigError, InputError
from ..optimize.files import remove_partial
from ..optimize.plain_data import checked, parse_json
from . import environment
from .config import Config
from .journal import JOURNAL, mend_journal, read_journal
from .plan import Plan
from .sample_table import sample_files
from .samples import read_replicates
from .session import Weighed
from .sound_run import need_sound_events
from .workloads.base import Prepared

CHECKS = "checks"
"""Folder of a run in which finished checks lie until all are."""
ENVIRONMENT = "environment.json"
_FILES = (JOURNAL, "config.toml", ENVIRONMENT, "predictions.parquet", "generations.parquet")
_FOLDERS = ("samples", "variants", CHECKS)


@dataclass(frozen=True)
class Begun:
    """How a run was begun: the first line of its journal.

    Attributes:
        config: the resolved config, as plain data.
        base: folder against which its relative paths are meant.
        looks: at most so many looks at the verdicts; None: as many as the budget buys.
        inconclusive: whether an undecided rule fails the run or is only told.
    """

    config: dict[str, Any]
    base: str
    looks: int | None = None
    inconclusive: Literal["fail", "warn"] = "fail"


@dataclass(frozen=True)
class Past:
    """What the journal of a run says is done; of a new run nothing is."""

    events: tuple[Mapping[str, Any], ...] = ()

    def first(self, name: str) -> Mapping[str, Any] | None:
        """The first event of that name."""
        return next(self.of(name), None)

    def of(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Every event of that name, in order."""
        return (event for event in self.events if event["event"] == name)

    def by_variant(self, name: str) -> dict[str, Mapping[str, Any]]:
        """The events of that name, by the variant that they are about."""
        return {event["variant"]: event for event in self.of(name)}

    @property
    def finished(self) -> bool:
        """Whether all was weighed, so that nothing is left to be done but to derive the results."""
        return self.first("weighed") is not None


def read_past(folder: Path) -> Past:
    """What is done of the run in a folder; what a killed process left half-written there is removed.

    Raises:
        InputError: the journal is damaged.
    """
    if not (folder / JOURNAL).is_file():
        return Past()
    remove_partial(folder)
    mend_journal(folder)
    events = read_journal(folder)
    try:
        need_sound_events(events)
    except ValueError as error:
        raise InputError(f"{folder} is not a whole run folder: {error}") from error
    return Past(tuple(events))


def begun(folder: Path, past: Past) -> Begun:
    """How the run in a folder was begun.

    Raises:
        InputError: its journal does not say it.
    """
    try:
        return checked(Begun, past.first("begun") or {})
    except ValueError as error:
        raise InputError(
            f"{folder} cannot be gone on with: its journal does not say how the run was begun ({error}). "
            "Give a folder that `weighbridge run` wrote and did not finish, or start the run again."
        ) from error


def is_begun(folder: Path, config: Config) -> bool:
    """Whether the folder holds a run of this very config."""
    first = read_past(folder).first("begun")
    return first is not None and first.get("config") == plain(config)


def plain(config: Config) -> dict[str, Any]:
    """A config as the plain data that the journal keeps."""
    return config.model_dump(mode="json", exclude_none=True)


def forget(folder: Path) -> None:
    """Remove the raw files of a run from its folder; whatever else is there stays."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def hashes_of(prepared: Prepared) -> dict[str, str | None]:
    """The hashes of all that is measured with."""
    return {
        "model": prepared.source.sha256,
        "data": prepared.data_sha256,
        "calibration data": prepared.calibration_sha256,
    }


def need_same_material(prepared: Prepared, before: Mapping[str, Any], what: str) -> None:
    """Refuse to go on with `what` (a run, a search) where something was measured with other things.

    Raises:
        ConfigError: the model or its data has another hash than before.
    """
    other = [name for name, now in hashes_of(prepared).items() if before.get(name) != now]
    if other:
        raise ConfigError(
            f"the {' and the '.join(other)} changed since the {what} began, so that what it measured does not count; start it again"
        )


def need_same_place(folder: Path, now: Mapping[str, Any]) -> None:
    """Refuse to go on where the machine or its software is another than the run was begun with.

    Raises:
        ConfigError: they differ in what a timing depends on.
        InputError: the run's environment.json is damaged.
    """
    try:
        before = parse_json((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        differences = [*environment.unlike(before, now), *environment.unlike_software(before, now)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{folder} is not a whole run folder: its {ENVIRONMENT} cannot be read ({error})") from error
    if differences:
        raise ConfigError(
            f"{folder} was begun under other conditions: {'; '.join(differences)}. What was measured under both is no one run: "
            "finish it where it was begun, or start it again."
        )


def weighed_before(folder: Path, past: Past) -> Weighed:
    """What an interrupted run had weighed: every replicate that the journal has a line of.

    Samples without their line are removed: their replicate was not finished, and is taken again from the same seed.

    Raises:
        InputError: samples that the journal tells of are gone or damaged.
    """
    lines = list(past.of("replicate"))
    if not lines:
        _remove_beyond(folder, 0)
        return Weighed()
    _remove_beyond(folder, lines[-1]["number"])
    replicates = read_replicates(folder)
    if [each.number for each in replicates] != [line["number"] for line in lines]:
        raise InputError(
            f"{folder} is not a whole run folder: its journal tells of {len(lines)} replicates, and its samples are of "
            f"{[each.number for each in replicates]}"
        )
    return Weighed(replicates, dict(lines[-1]["failed"]), float(lines[-1].get("sampling_seconds", 0.0)))


def _remove_beyond(folder: Path, last: int) -> None:
    for path in sample_files(folder)[last:]:
        path.unlink()


def planned_before(folder: Path, past: Past) -> tuple[Plan, list[list[str]]] | None:
    """The plan that the run was begun with, and who stands in memory together; None where it was not planned yet.

    Raises:
        InputError: the journal's plan is none.
    """
    line = past.first("plan")
    if line is None:
        return None
    try:
        groups = checked(_Groups, line).groups
        return Plan.of_facts(line), [list(names) for names in groups]
    except ValueError as error:
        raise InputError(f"{folder} is not a whole run folder: the plan in its journal is none ({error})") from error


@dataclass(frozen=True)
class _Groups:
    groups: tuple[tuple[str, ...], ...]


def resumed_sentences(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """That a run was interrupted, for whoever reads its results."""
    for event in events:
        if event["event"] == "resumed":
            yield f"The run was interrupted after {event['replicates']} replicates and gone on with at {event['date']}."
