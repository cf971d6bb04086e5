"""How two functions are kept apart while they are weighed: each in fresh processes, or both in this one.

Both ways take the same replicates of rounds in random order, with the baseline's twin as the control, and time each call in
the same loop. A replicate of processes is a fresh set of them; one within this process is a block of rounds.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..optimize.errors import InputError, WeighbridgeError, WorkerError, first_line
from ..optimize.files import work_folder
from .checks import call_length
from .child import Child
from .counters import affinity, changes, counters
from .disturbance import disturbances
from .functions import Function, OpenedFunction, name_of
from .growth import growth_sentences
from .journal import Journal, read_journal
from .metrics import Conditions
from .plan import Plan, ShapePlan
from .samples import CONTROL, Recorder, Replicate, key_of
from .session import OPEN_TIMEOUT_S, Contender, Setting, patience, until_decided, weigh
from .worker import Weigher

CONDITIONS: Conditions = {"batch_size": 1}
"""The one shape of a function: a call is a sample."""
KEY = key_of(CONDITIONS)
_WARM_TIMEOUT_S = 3600.0
"""Of at least two calls whose length nobody knows yet: as patient as the check of a variant."""

Isolation = Literal["processes", "in-process"]
Decided = Callable[[Sequence[Replicate]], bool]


@dataclass(frozen=True)
class Taken:
    """The replicates of a weighing, and sentences on what a reader should know of them."""

    replicates: tuple[Replicate, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Processes:
    """Each function, and the baseline's twin, in a process of its own; `functions` holds `module:qualname` by name."""

    functions: Mapping[str, str]
    threads: int
    isolation: ClassVar[Isolation] = "processes"

    def call_ms(self) -> dict[str, float]:
        """The length of a warm call of each function, in milliseconds.

        Raises:
            InputError: a fresh process cannot import a function.
            WorkerError: a function raised, crashed or hung.
        """
        return {name: self._call_ms(name) for name in self.functions}

    def take(self, plan: Plan, seed: int, decided: Decided) -> Taken:
        """Take replicates until the judge has decided at a look, or all are done; raises WorkerError as `call_ms` does."""
        baseline, candidate = (Contender(name, function=found) for name, found in self.functions.items())
        twin = Contender(CONTROL, function=baseline.function)
        with work_folder() as folder:
            setting = Setting(
                None,
                folder,
                ((baseline, twin, candidate),),
                threads=self.threads,
                seed=seed,
                visit_timeout_s=patience(plan),
            )
            weighed = weigh(
                setting,
                plan,
                Journal(folder),
                lambda so_far: bool(so_far.failed) or decided(so_far.replicates),
                lambda fraction, text: None,  # noqa: ARG005 - there is no one to show the progress to
            )
            events = [event for event in read_journal(folder) if event["event"] == "replicate"]
        for name, reason in weighed.failed.items():
            who = f"a second process of {baseline.name}, the control," if name == CONTROL else name
            raise WorkerError(f"{who} failed {reason}")
        notices = (*growth_sentences(events, baseline.name), *disturbances(events, len(affinity())))
        return Taken(tuple(weighed.replicates), notices)

    def _call_ms(self, name: str) -> float:
        with Child(name, threads=self.threads) as child:
            try:
                opening = Contender(name, function=self.functions[name]).opening(self.threads)
                child.call(*opening, timeout=OPEN_TIMEOUT_S)
                child.call("shape", {"key": KEY, "prepared": None, "conditions": CONDITIONS}, timeout=OPEN_TIMEOUT_S)
                return call_length(child.call("warm", {"key": KEY}, timeout=_WARM_TIMEOUT_S)["calls"])
            except InputError:
                raise  # it cannot be imported there, which `way_of` has an answer to
            except WeighbridgeError as error:
                raise WorkerError(f"{name} failed while it was weighed: {error}") from error


@dataclass(frozen=True)
class InProcess:
    """Both functions in this process; `why` says what keeps them from crossing to others."""

    functions: Mapping[str, Function]
    clock_ns: Callable[[], int]
    why: str
    isolation: ClassVar[Isolation] = "in-process"

    def call_ms(self) -> dict[str, float]:
        """The length of a warm call of each function, in milliseconds; raises WorkerError where a function raises."""
        lengths = {}
        for name in self.functions:
            with _naming(name):
                lengths[name] = call_length(self._weigher(name).warm(KEY)["calls"])
        return lengths

    def take(self, plan: Plan, seed: int, decided: Decided) -> Taken:
        """Take replicates until the judge has decided at a look, or all are done; raises WorkerError as `call_ms` does."""
        replicates: list[Replicate] = []
        events = []
        for number, now in until_decided(plan, replicates, lambda: decided(replicates)):
            before = counters(())
            with _collector_paused():
                replicates.append(self._replicate(number, now.shapes[0], np.random.default_rng([seed, number])))
            events.append({"workers": {}, "machine": changes(before, counters(()))})
        return Taken(tuple(replicates), (self._notice(), *disturbances(events, len(affinity()))))

    def _replicate(self, number: int, shape: ShapePlan, random: np.random.Generator) -> Replicate:
        """A block of rounds; each visits both functions and the baseline once more, the control, in fresh random order."""
        baseline = next(iter(self.functions))
        who = {**{name: name for name in self.functions}, CONTROL: baseline}
        names, weighers = list(who), {name: self._weigher(function) for name, function in who.items()}
        recorder = Recorder(number)
        visit = 0
        for round_ in range(1, shape.rounds + 1):
            for index in random.permutation(len(names)):
                visit += 1
                name = names[index]
                with _naming(who[name]):
                    taken = weighers[name].visit(KEY, round_, shape.settle + shape.timed, shape.settle)
                recorder.add(taken["calls"], taken["phases"], variant=name, shape=KEY, round_=round_, visit=visit)
        return Replicate.of(recorder.columns)

    def _weigher(self, name: str) -> Weigher:
        weigher = Weigher(OpenedFunction(self.functions[name], self.clock_ns))
        weigher.shape(KEY, None, dict(CONDITIONS))
        return weigher

    def _notice(self) -> str:
        return (
            f"Isolation is weaker: {self.why}, so both ran in this process. What lasts as long as the process (memory "
            "placement, caches of the interpreter) is not averaged out. Functions at the top of an importable module are "
            "weighed in processes of their own."
        )


def way_of(
    functions: Mapping[str, Function], threads: int, clock_ns: Callable[[], int] | None
) -> tuple[Processes | InProcess, dict[str, float]]:
    """The strongest isolation that both functions allow, and the length of a call of each.

    `functions` holds the baseline first. A clock that is given cannot cross to another process either.

    Raises:
        WorkerError: a function raised, crashed or hung.
    """
    if clock_ns is not None:
        within = InProcess(functions, clock_ns, "a clock was given")
        return within, within.call_ms()
    found = {name: path for name, function in functions.items() if (path := name_of(function)) is not None}
    hidden = [name for name in functions if name not in found]
    why = f"{' and '.join(hidden)} cannot be imported by name in a fresh process"
    if not hidden:
        try:
            apart = Processes(found, threads)
            return apart, apart.call_ms()
        except InputError as error:
            why = str(error)
    within = InProcess(functions, time.perf_counter_ns, why)
    return within, within.call_ms()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Tell whose call it was that raised."""
    try:
        yield
    except Exception as error:
        raise WorkerError(f"{name} failed while it was weighed: {first_line(error)}") from error


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Collect garbage, keep Python's collector from pausing a timed call, and leave it as it was found."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
