"""Weigh all variants against each other: replicates of fresh processes, rounds in random order, visits one at a time.

One worker process a variant; one runs while the others block on their pipes. A crash or a hang costs that variant, with its
reason, and nothing else.
"""

import contextlib
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from ..optimize.errors import WeighbridgeError
from .child import Child, Progress
from .counters import changes, counters, together
from .journal import Journal
from .looks import LOOKS
from .plan import Plan, ShapePlan, refined
from .processors import idlest, near
from .samples import CONTROL, Recorder, Replicate

OPEN_TIMEOUT_S = 600.0
VISIT_TIMEOUT_S = 120.0
_PATIENCE = 10.0
"""A visit that lasts so many times as long as a round of all is planned to is taken for a hang; none before VISIT_TIMEOUT_S."""
_ROUNDS_APART = 10_000
"""Inputs and arrivals differ from round to round and from replicate to replicate, and are the same for every variant. The rounds
of a further group are counted on from there, so that a candidate is compared with the visits of its own group."""


@dataclass(frozen=True)
class Contender:
    """Who is weighed: a variant (or the control) by the folder of its artifact, or a function by its `module:qualname`."""

    name: str
    folder: Path | None = None
    function: str = ""

    def opening(self, threads: int, provider: str | None = None) -> tuple[str, dict[str, Any]]:
        """The command that opens it in a worker, with its arguments."""
        if self.folder is None:
            return "open_callable", {"name": self.function, "path": [str(Path(place).absolute()) for place in sys.path]}
        return "open", {"variant": str(self.folder), "threads": threads, "provider": provider}


@dataclass(frozen=True)
class Setting:
    """What is the same for every contender.

    `groups` lists who stands in memory together: all, or each candidate in turn with the baseline and the control.
    `prepared` is the folder of the inputs, None for functions, which take none. `keep_to_one`: processors.py says why.
    """

    prepared: Path | None
    run_folder: Path
    groups: tuple[tuple[Contender, ...], ...]
    threads: int = 1
    provider: str | None = None
    seed: int = 0
    visit_timeout_s: float = VISIT_TIMEOUT_S
    keep_to_one: bool = True

    @property
    def one_processor(self) -> bool:
        """Whether all calls are made on one processor: where a call takes no more than one, and `keep_to_one` is not False.

        Such is a variant with one thread on the CPU. A function may start what it likes.
        """
        variants = all(each.folder is not None for group in self.groups for each in group)
        return self.keep_to_one and variants and self.threads == 1 and self.provider is None


@dataclass
class Weighed:
    """What a session took: its replicates, who failed and why, and the facts of each worker process."""

    replicates: list[Replicate] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    sampling_seconds: float = 0.0


Decided = Callable[[Weighed], bool]


def weigh(
    setting: Setting,
    plan: Plan,
    journal: Journal,
    decided: Decided,
    progress: Progress,
    *,
    before: Weighed | None = None,
) -> Weighed:
    """Take replicates until every rule is decided at a look, or the plan's replicates are done.

    `before` is what an interrupted session had taken by the same plan and setting: it counts, and the rest is taken.
    """
    weighed = before or Weighed()
    for number, now in until_decided(plan, weighed.replicates, lambda: decided(weighed)):
        if number == 2:  # noqa: PLR2004 - what the first replicate made of the plan
            journal.write("plan", **now.facts())
        fraction = (number - 1) / plan.replicates
        progress(fraction, f"replicate {number} of at most {plan.replicates}")
        _replicate(number, setting, now, journal, weighed)
    progress(1.0, f"{len(weighed.replicates)} replicates, {weighed.sampling_seconds:.0f} s of sampling")
    return weighed


def until_decided(plan: Plan, taken: Sequence[Replicate], decided: Callable[[], bool]) -> Iterator[tuple[int, Plan]]:
    """The number and the plan of each replicate to take, until the judge has decided at a look or all are done.

    The caller adds each to `taken`; what it holds at the start is not taken again, and looks that led on from there are not
    repeated. The first tells how noisy the machine is, and the plan of the others follows it.
    """
    had = len(taken)
    for number in range(1, plan.replicates + 1):
        if number > had:
            yield number, plan
        if number == 1:
            plan = refined(plan, taken[0])
        if number in LOOKS and number >= had and decided():
            return


def _replicate(number: int, setting: Setting, plan: Plan, journal: Journal, weighed: Weighed) -> None:
    """Take one replicate: every group with fresh processes; then write its samples and a line in the journal."""
    random = np.random.default_rng([setting.seed, number])
    recorder = Recorder(number)
    workers: dict[str, dict[str, Any]] = {}
    machine: list[dict[str, float]] = []
    for place, group in enumerate(setting.groups):
        alive = [contender for contender in group if contender.name not in weighed.failed]
        with _Weighers(alive, setting, weighed.failed) as weighers:
            processor = idlest(number) if setting.one_processor else None
            weighers.open(processor)
            weighers.prepare(plan, recorder)
            if processor is not None:
                weighers.keep_to(processor)
            before = counters(weighers.processes)
            weighers.take_rounds(plan, recorder, random, _ROUNDS_APART * place)
            machine.append(changes(before, counters(weighers.processes)))
            workers.update(weighers.facts())
            weighed.sampling_seconds += weighers.seconds
    recorder.write(setting.run_folder)
    weighed.replicates.append(Replicate.of(recorder.columns))
    journal.write(
        "replicate",
        number=number,
        workers=workers,
        failed=weighed.failed,
        machine=together(machine),
        sampling_seconds=weighed.sampling_seconds,
    )


class _Weighers:
    """The worker processes of one group in one replicate; one that fails is closed and its reason noted."""

    def __init__(self, contenders: Sequence[Contender], setting: Setting, failed: dict[str, str]) -> None:
        self._contenders = contenders
        self._setting = setting
        self._failed = failed
        self._children: dict[str, Child] = {}
        self._opened: dict[str, dict[str, Any]] = {}
        self._warm_bytes: dict[str, int] = {}
        self._calls: dict[str, int] = defaultdict(int)
        self.seconds = 0.0
        """Sampling time so far: what the visits lasted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.close()

    def open(self, processor: int | None) -> None:
        """Start every process side by side (the slow part is importing), then wait for each.

        What they load lies near the processor that they will be kept to.
        """
        setting = self._setting
        where = {} if processor is None else {"processors": near(processor)}
        for contender in self._contenders:
            child = Child(contender.name, threads=setting.threads)
            self._children[contender.name] = child
            with self._costing(contender.name):
                command, arguments = contender.opening(setting.threads, setting.provider)
                child.send(command, {**arguments, **where})
        for name in list(self._children):
            with self._costing(name):
                self._opened[name] = self._children[name].receive(timeout=OPEN_TIMEOUT_S)

    def keep_to(self, processor: int) -> None:
        """Let everyone call on this processor alone from now on: after the warm-up, whose compilers may use more."""
        for name in list(self._children):
            with self._costing(name):
                self._ask(name, "keep_to", {"processor": processor})
                self._opened[name]["processor"] = processor

    @property
    def processes(self) -> list[int]:
        """The process ids of those that are still alive."""
        return [child.pid for child in self._children.values()]

    def prepare(self, plan: Plan, recorder: Recorder) -> None:
        """Load the inputs and warm up, one process at a time; first and warm-up calls are recorded as such."""
        prepared = str(self._setting.prepared) if self._setting.prepared else None
        for name in list(self._children):
            with self._costing(name):
                for shape in plan.shapes:
                    arguments = {"key": shape.key, "prepared": prepared, "conditions": dict(shape.conditions)}
                    self._ask(name, "shape", arguments)
                    calls = self._ask(name, "warm", {"key": shape.key})["calls"]
                    phases = ["first", *["warmup"] * (len(calls) - 1)]
                    recorder.add(calls, phases, variant=name, shape=shape.key, round_=0, visit=0)
                self._warm_bytes[name] = self._ask(name, "memory", {})["resident_bytes"]

    def take_rounds(self, plan: Plan, recorder: Recorder, random: np.random.Generator, after: int) -> None:
        """Visit everyone once a round, shape by shape, in fresh random order; the rounds are counted on from `after`."""
        visit = 0
        for round_ in range(1, max(shape.rounds for shape in plan.shapes) + 1):
            for shape in plan.shapes:
                if round_ > shape.rounds:
                    continue
                names = list(self._children)
                for index in random.permutation(len(names)):
                    visit += 1
                    start = _ROUNDS_APART * recorder.replicate + round_
                    taken = self._visit(names[index], shape, start)
                    recorder.add(
                        taken["calls"],
                        taken["phases"],
                        variant=names[index],
                        shape=shape.key,
                        round_=after + round_,
                        visit=visit,
                    )

    def facts(self) -> dict[str, dict[str, Any]]:
        """Of each process that is still alive: load time (ms), processors, threads, calls after the warm-up, memory (bytes).

        `warm_bytes` is what it held after the warm-up, `resident_bytes` what it holds now, `peak_bytes` the most.
        """
        facts: dict[str, dict[str, Any]] = {}
        for name in list(self._children):
            with self._costing(name):
                memory = {"warm_bytes": self._warm_bytes[name], **self._ask(name, "memory", {})}
                facts[name] = {**self._opened[name], "calls": self._calls[name], **memory}
        return facts

    def _visit(self, name: str, shape: ShapePlan, start: int) -> dict[str, Any]:
        """The calls of a visit and the phase of each, its inputs counted from `start`; none where it failed."""
        taken: dict[str, Any] = {"calls": [], "phases": [], "seconds": 0.0}
        with self._costing(name):
            calls = {"calls": shape.settle + shape.timed, "settle": shape.settle}
            taken = self._ask(name, "visit", {"key": shape.key, "start": start, **calls})
        self.seconds += taken["seconds"]
        self._calls[name] += len(taken["calls"])
        return taken

    def _ask(self, name: str, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._children[name].call(command, arguments, timeout=self._setting.visit_timeout_s)

    @contextlib.contextmanager
    def _costing(self, name: str) -> Iterator[None]:
        """Let an error cost the variant `name` alone: note the reason, end its process."""
        try:
            yield
        except WeighbridgeError as error:
            self._failed[name] = f"while it was weighed: {error}"
            self._children.pop(name).close()


def patience(plan: Plan) -> float:
    """How long a visit or warm-up may take before it is taken for a hang, in seconds: longer where a round is long."""
    return max(VISIT_TIMEOUT_S, _PATIENCE * plan.longest_visit_seconds)


def groups_that_fit(
    contenders: Sequence[Contender], peak_bytes: dict[str, int], available_bytes: int
) -> tuple[tuple[Contender, ...], ...]:
    """Stand all contenders in memory together, or else each candidate in turn with the baseline and the control.

    The first contender is the baseline; the control needs as much as it does.
    """
    needed = sum(peak_bytes.get(each.name, peak_bytes[contenders[0].name]) for each in contenders)
    if needed <= 0.8 * available_bytes:
        return (tuple(contenders),)
    reference = tuple(each for each in contenders if each.name in (contenders[0].name, CONTROL))
    return tuple((*reference, each) for each in contenders if each not in reference) or (reference,)


@contextlib.contextmanager
def only_one_weighs(tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine-wide lock: two runs that weigh at once would measure each other."""
    lock = FileLock(Path(tempfile.gettempdir()) / "weighbridge-weighing.lock", mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("another run is weighing on this machine; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
