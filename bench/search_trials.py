"""The trials of a search: each built and tried in child processes, journalled when it is done, never repeated.

search/trials.jsonl               a line a trial: layers in float, time ratios of every round, seconds
search/trials/<n>/scores.npy      what it answered on the choosing part, shape (examples, classes); of a generator scored.npz
search/trials/<n>/manifest.json   what was built
"""

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from ..optimize.cache import in_use
from ..optimize.errors import BuildError, WorkerError
from ..optimize.files import appearing, write_json, write_text
from .building import Built, build
from .child import Child
from .config import VariantConfig
from .journal import Journal, read_journal
from .metrics import Conditions
from .reporter import Reporter, ignore
from .samples import key_of
from .search_config import float_of, leaving
from .search_findings import Phase
from .search_outcome import Record
from .search_split import Parts
from .session import OPEN_TIMEOUT_S, only_one_weighs
from .workloads.base import Prepared

TRIALS = "trials.jsonl"
_FOLDER = "trials"
_TRY_TIMEOUT_S = 3600.0
_SENSITIVITY_SHARE = 0.6
"""Of the time budget: the rest is kept for the rollback."""


@dataclass(frozen=True)
class Setting:
    """What is the same for every trial of a search.

    Attributes:
        folder: the search's folder within the run's.
        searched: the variant whose layers are tried.
        parts: the workload's parts; only `choosing` and `sample` are ever read here.
        conditions: the shape at which calls are timed.
        base: folder against which paths of the config are meant.
        provider: the execution provider, None for the CPU's.
        seed: of the order of calls.
        max_seconds: what all trials together may take, builds included.
    """

    folder: Path
    searched: VariantConfig
    parts: Parts
    conditions: Conditions
    base: Path
    provider: str | None
    seed: int
    max_seconds: float

    @property
    def threads(self) -> int:
        """Compute threads of a call."""
        return int(self.conditions["threads"])

    def variant(self, record: Record) -> VariantConfig:
        """What a trial builds."""
        if record.phase == "float":
            return float_of(self.searched)
        return leaving(self.searched, record.kept, self.parts.choosing.kind)

    def part(self, *, sampled: bool) -> Prepared:
        """The examples that a trial answers."""
        return self.parts.sample if sampled else self.parts.choosing


class Trials:
    """Makes the trials of one search, one after another, and remembers those that were made before."""

    def __init__(self, setting: Setting, reporter: Reporter) -> None:
        self._setting = setting
        self._reporter = reporter
        self._journal = Journal(setting.folder, TRIALS)
        self._made = _read_records(setting.folder)
        self._counted: set[int] = set()
        self._waited = 0.0
        self._whole: Built | None = None
        self._held = contextlib.ExitStack()
        self._child: Child | None = None
        self.seconds = 0.0
        """What the trials took so far, those of an interrupted search included."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._held.close()

    def take(self, kept: tuple[str, ...], phase: Phase) -> Record | None:
        """Try the searched variant with these layers in float; for phase `float`, its float model.

        None where the time budget has ended; a trial that was made before costs nothing again (a failed `whole` or `float` does).
        """
        sampled = phase == "sensitivity" and self._setting.parts.has_sample
        wanted = (phase == "float", kept, sampled)
        known = next((each for each in self._made if _is_known(each) and _asked(each) == wanted), None)
        if known is None:
            if phase not in ("whole", "float") and self.seconds >= self._limit(phase):
                return None
            known = self._new(kept, phase, sampled=sampled)
            self._made.append(known)
        if known.number not in self._counted:
            self._counted.add(known.number)
            self.seconds += known.seconds
        return known

    def place(self, record: Record) -> Path:
        """The folder of what a trial answered."""
        return self._setting.folder / _FOLDER / f"{record.number:03d}"

    def whole(self) -> Built:
        """The whole quantized variant, built; it stays in the cache until the trials end.

        Raises:
            BuildError: it cannot be; without it there is nothing to search.
        """
        if self._whole is None:
            made = self._build(self._setting.searched)
            if made.folder is None:
                raise BuildError(f"{made.name}, which is to be searched, is {made.status}: {made.reason}")
            self._held.enter_context(in_use(made.folder))
            self._whole = made
        return self._whole

    def _limit(self, phase: Phase) -> float:
        return self._setting.max_seconds * (_SENSITIVITY_SHARE if phase == "sensitivity" else 1.0)

    def _new(self, kept: tuple[str, ...], phase: Phase, *, sampled: bool) -> Record:
        started, self._waited = time.monotonic(), 0.0
        record = Record(len(self._made), phase, kept, sampled, 0.0)
        self.whole()
        place = self.place(record)
        shutil.rmtree(place, ignore_errors=True)  # of a trial that was cut short before its line was written
        with self._reporter.stage(f"trial {record.number}: {_words(phase, kept)}"):
            try:
                with appearing(place) as partial:
                    record = self._tried(record, partial)
            except (BuildError, WorkerError) as error:
                self._close()
                record = replace(record, reason=str(error))
        record = replace(record, seconds=time.monotonic() - started - self._waited)
        self._journal.write("trial", **asdict(record))
        return record

    def _tried(self, record: Record, place: Path) -> Record:
        made = self._build(self._setting.variant(record))
        if made.folder is None:
            raise BuildError(f"{made.status}: {made.reason}")
        with in_use(made.folder):
            write_json(place / "manifest.json", made.variant.manifest.to_dict())
            return self._compared(record, made.folder, place)

    def _compared(self, record: Record, artifact: Path, place: Path) -> Record:
        """Have a built variant scored, and timed in turn with the whole one."""
        setting = self._setting
        arguments = {
            "variant": str(artifact),
            "threads": setting.threads,
            "provider": setting.provider,
            "scored": str(setting.part(sampled=record.sampled).folder),
            "timed": str(setting.parts.choosing.folder),
            "conditions": dict(setting.conditions),
            "seed": setting.seed + record.number,
            "float_trial": self._float_trial(),
            "out": str(place),
        }
        asked = time.monotonic()
        with only_one_weighs(self._reporter.tell):
            self._waited = time.monotonic() - asked  # another run's time is not this search's
            answer = self._opened().call("try_variant", arguments, timeout=_TRY_TIMEOUT_S)
        return replace(record, log_ratios=tuple(answer["log_ratios"]), whole_ms=answer["whole_ms"])

    def _float_trial(self) -> str | None:
        return next((str(self.place(each)) for each in self._made if each.phase == "float" and not each.reason), None)

    def _build(self, variant: VariantConfig) -> Built:
        return build(variant, self._setting.parts.choosing, base=self._setting.base, threads=2, progress=ignore)

    def _opened(self) -> Child:
        """The process that tries variants, with the whole quantized one open and warm in it."""
        if self._child is None:
            setting, key = self._setting, key_of(self._setting.conditions)
            self._child = child = Child("trials", threads=setting.threads)
            opening = {"variant": str(self.whole().folder), "threads": setting.threads, "provider": setting.provider}
            child.call("open", opening, timeout=OPEN_TIMEOUT_S)
            shape = {"prepared": str(setting.parts.choosing.folder), "conditions": dict(setting.conditions)}
            child.call("shape", {"key": key, **shape}, timeout=OPEN_TIMEOUT_S)
            child.call("warm", {"key": key}, timeout=OPEN_TIMEOUT_S)
        return self._child

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _read_records(folder: Path) -> list[Record]:
    """The trials that were made before; a line cut short is taken out, so that the next one does not join it."""
    path = folder / TRIALS
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        write_text(path, text[: text.rfind("\n") + 1])
    return [Record.from_dict(event) for event in read_journal(folder, TRIALS)]


def _asked(record: Record) -> tuple[bool, tuple[str, ...], bool]:
    return record.phase == "float", record.kept, record.sampled


def _is_known(record: Record) -> bool:
    """Whether a trial need not be made again: one without which there is no search may have failed by what has passed since."""
    return not record.reason or record.phase not in ("whole", "float")


def _words(phase: Phase, kept: Sequence[str]) -> str:
    if phase in ("whole", "float"):
        return {"whole": "the whole variant", "float": "its float model"}[phase]
    return f"{kept[0]} in float" if len(kept) == 1 else f"{len(kept)} layers in float"
