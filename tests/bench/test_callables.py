"""Any two functions: known truth through both ways of weighing them, and what is refused."""

import functools
import gc
import importlib
import math
import os
import string
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from filelock import FileLock, Timeout
from weighbridge.bench import Weighing, weigh
from weighbridge.bench.child import Child
from weighbridge.bench.functions import find, name_of
from weighbridge.bench.isolation import CONDITIONS, KEY, Processes
from weighbridge.bench.looks import per_look_error
from weighbridge.bench.plan import Plan, make_plan
from weighbridge.bench.samples import CONTROL
from weighbridge.bench.session import Contender
from weighbridge.optimize.errors import ConfigError, InputError, WorkerError

MODULE = '''
"""Functions on a clock of their own, in a module that any process can import."""

import os
import time
from pathlib import Path

now = [0]
kept = []
calls = [0]
time.perf_counter_ns = lambda: now[0]
(Path(__file__).parent / f"pid-{os.getpid()}").touch()
if "CRASH_AT_IMPORT" in os.environ:
    os._exit(3)


def base():
    now[0] += 1_000_000


def leaky():
    now[0] += 1_100_000
    kept.append(os.urandom(200_000))


def broken():
    raise ValueError("no such file\\nand more")


def breaks_late():
    now[0] += 1_000_000
    calls[0] += 1
    if calls[0] == 100:
        raise ValueError("no such file\\nand more")
'''


class Clock:
    """A clock that only the functions made by it advance; `log` holds who was called, in order."""

    def __init__(self) -> None:
        self.ns = 0
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.ns

    def taking(self, milliseconds: float, name: str = "") -> Callable[[], None]:
        return self.taking_each(lambda _: milliseconds, name)

    def taking_each(self, milliseconds: Callable[[int], float], name: str = "") -> Callable[[], None]:
        """A function whose call number n, from 0, takes that time."""
        numbers = iter(range(10**9))

        def function() -> None:
            self.log.append(name)
            self.ns += round(milliseconds(next(numbers)) * 1e6)

        return function


def weighed(ratio: float, **options: Any) -> Weighing:
    clock = Clock()
    return weigh(clock.taking(1.0), clock.taking(ratio), clock_ns=clock, **options)


def isolation_notice(found: Weighing) -> str:
    return next((notice for notice in found.notices if notice.startswith("Isolation")), "")


def plan_of_equals(max_seconds: float) -> Plan:
    """The plan of two functions of 1 ms, the baseline's twin beside them."""
    return make_plan([CONDITIONS], {KEY: [1.0] * 3}, max_seconds=max_seconds)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module above, imported here as in every worker."""
    folder = tmp_path_factory.mktemp("importable")
    (folder / "weighed_functions.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with pytest.MonkeyPatch.context() as clock:  # the module's own clock is for the workers alone
            clock.setattr(time, "perf_counter_ns", time.perf_counter_ns)
            imported = importlib.import_module("weighed_functions")
        yield imported
    del sys.modules["weighed_functions"]


@pytest.fixture(scope="module")
def apart(module: Any) -> Weighing:
    """1.1 ms against 1 ms, and 200 kB kept a call, in processes."""
    return weigh(module.base, module.leaky)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, "fail"), (1.0, "pass"), (0.5, "pass")])
def test_known_ratios_are_recovered_and_judged(ratio: float, verdict: str) -> None:
    """On a clock of their own 1.1x fails a limit of 1.03, 1x and 0.5x pass; without noise the interval is the ratio."""
    found = weighed(ratio)
    assert (found.verdict, found.isolation) == (verdict, "in-process")
    assert (found.comparison.value, found.comparison.low, found.comparison.high) == pytest.approx((ratio,) * 3)
    assert found.comparison.per_replicate == pytest.approx([ratio] * found.comparison.replicates)
    assert (found.control.low, found.control.high) == (1.0, 1.0)


def test_the_interval_is_students_over_replicates() -> None:
    """Log ratios of alternately log 1.2 + 0.01 and log 1.2 - 0.01 have the interval that scipy's t gives, looks accounted for."""
    plan = plan_of_equals(10.0)
    (shape,) = plan.shapes
    warm, a_replicate = 10, shape.rounds * (shape.settle + shape.timed)
    clock = Clock()

    def milliseconds(call: int) -> float:
        return 1.2 * math.exp(0.01 if ((call - warm) // a_replicate) % 2 else -0.01)

    found = weigh(clock.taking(1.0), clock.taking_each(milliseconds), clock_ns=clock, names=("old", "new"))
    logs = math.log(1.2) + 0.01 * np.array([-1, 1, -1, 1])
    t = scipy.stats.t.ppf(1 - per_look_error(0.01, plan.replicates), 3)
    half = t * logs.std(ddof=1) / 2
    expected = [math.exp(logs.mean() + side * half) for side in (0, -1, 1)]
    assert found.comparison.per_replicate == pytest.approx(np.exp(logs), rel=1e-5)
    assert [found.comparison.value, found.comparison.low, found.comparison.high] == pytest.approx(expected, rel=1e-5)
    assert found.sentence.startswith("new: latency_p50 1.2x [")
    assert found.sentence.endswith("of old, limit at most 1.03x: fail (4 replicates)")


def test_without_a_limit_nothing_is_judged() -> None:
    """max_ratio=None gives the ratio, the verdict not_judged and a sentence that says so."""
    found = weighed(0.5, max_ratio=None, metric="latency_mean")
    assert found.verdict == "not_judged"
    assert (
        found.sentence
        == "b: latency_mean 0.5x [0.5x, 0.5x] of a (4 replicates); no limit was given: nothing was judged"
    )


def test_without_a_limit_weighing_goes_on_until_the_ratio_is_known_to_two_percent() -> None:
    """A ratio that swings by a tenth from replicate to replicate is not left at four of them."""
    (shape,) = plan_of_equals(10.0).shapes
    a_replicate = shape.rounds * (shape.settle + shape.timed)
    clock = Clock()
    swinging = clock.taking_each(lambda call: 1.1 if ((call - 10) // a_replicate) % 2 else 1.0)
    found = weigh(clock.taking(1.0), swinging, clock_ns=clock, max_ratio=None)
    assert found.comparison.replicates == plan_of_equals(10.0).replicates


def test_an_open_verdict_says_what_to_change() -> None:
    """A ratio that swings around its limit is inconclusive, and the sentence names the argument, not a config's key."""
    (shape,) = plan_of_equals(3.0).shapes
    a_replicate = shape.rounds * (shape.settle + shape.timed)
    clock = Clock()
    swinging = clock.taking_each(lambda call: 1.03 if ((call - 10) // a_replicate) % 2 else 0.99)
    found = weigh(clock.taking(1.0), swinging, clock_ns=clock, max_seconds=3.0)
    assert found.verdict == "inconclusive"
    assert "; set max_seconds = " in found.sentence
    assert ": max_ratio = " in found.sentence


def test_a_round_visits_both_and_the_twin_in_random_order() -> None:
    """Each round holds three visits of settle and timed calls, two of them the baseline's; the timed ones are the samples."""
    (shape,) = plan_of_equals(10.0).shapes
    visit = shape.settle + shape.timed
    clock = Clock()
    found = weigh(clock.taking(1.0, "a"), clock.taking(1.0, "b"), clock_ns=clock)
    visits = clock.log[20:]
    rounds = ["".join(visits[start : start + 3 * visit : visit]) for start in range(0, len(visits), 3 * visit)]
    assert len(rounds) == found.comparison.replicates * shape.rounds
    assert set(rounds) == {"aab", "aba", "baa"}
    for name in ("a", "b", CONTROL):
        assert [len(calls) for calls in found.milliseconds(name)] == [shape.rounds * shape.timed] * len(found.samples)


def test_what_is_printed_is_what_was_found() -> None:
    """A printed weighing, as in a failed assertion, shows the verdict and its sentence, and none of the calls behind it."""
    clock = Clock()
    found = weigh(clock.taking(1.0), clock.taking(2.0), clock_ns=clock, names=("old", "new"))
    assert repr(found).startswith(f"Weighing(verdict='fail', sentence={found.sentence!r}")
    assert "array(" not in repr(found)


def test_the_seed_gives_the_order() -> None:
    """The same seed visits in the same order, another in another."""

    def order(seed: int) -> list[str]:
        clock = Clock()
        weigh(clock.taking(1.0, "a"), clock.taking(1.0, "b"), clock_ns=clock, seed=seed)
        return clock.log

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_the_collector_rests_while_calls_are_timed() -> None:
    """It is off in every timed block and on again afterwards, also where a function raised; off, it stays off."""
    clock, seen = Clock(), []
    work = clock.taking(1.0)

    def looking() -> None:
        work()
        seen.append(gc.isenabled())

    weigh(looking, clock.taking(1.0), clock_ns=clock)
    assert set(seen[10:]) == {False}
    assert gc.isenabled()
    failing = clock.taking_each(lambda call: 1.0 / (call - 40))
    with pytest.raises(WorkerError):
        weigh(failing, clock.taking(1.0), clock_ns=clock)
    assert gc.isenabled()
    gc.disable()
    try:
        weighed(1.0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_function_raises_is_told_with_its_name() -> None:
    """The error names the function and what it raised, and is chained to it."""
    clock = Clock()
    failing = clock.taking_each(lambda call: 1.0 / (call - 40))
    with pytest.raises(
        WorkerError, match="^new failed while it was weighed: ZeroDivisionError: float division"
    ) as error:
        weigh(clock.taking(1.0), failing, clock_ns=clock, names=("old", "new"))
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_what_a_function_raises_in_a_worker_is_told_alike(module: Any) -> None:
    """From the first call in another process the text is the same as within this one."""
    with pytest.raises(WorkerError, match="^broken failed while it was weighed: ValueError: no such file$"):
        weigh(module.base, module.broken)


def test_what_a_function_raises_late_is_told_alike(module: Any) -> None:
    """A baseline that breaks in its 100th call ends the weighing, whichever of its two processes was the first to."""
    with pytest.raises(
        WorkerError, match="breaks_late(, the control,)? failed while it was weighed: ValueError: no such file$"
    ):
        weigh(module.breaks_late, module.base)


def test_a_module_that_crashes_a_fresh_process_is_told_with_the_functions_name(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends while it imports the module is no function that cannot be found: the weighing ends with its name."""
    monkeypatch.setenv("CRASH_AT_IMPORT", "1")
    with pytest.raises(
        WorkerError, match="^base failed while it was weighed: its process ended by itself with status 3"
    ):
        weigh(module.base, module.leaky)


def test_the_first_calls_may_take_an_hour(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody knows how long a call is, a function is waited for as long as a model in its check, not two minutes."""
    call, waited = Child.call, {}

    def asking(child: Child, command: str, arguments: Any = None, *, timeout: float, **more: Any) -> dict[str, Any]:
        waited[command] = timeout
        return call(child, command, arguments, timeout=timeout, **more)

    monkeypatch.setattr(Child, "call", asking)
    assert Processes({"base": name_of(module.base) or ""}, threads=1).call_ms() == {"base": 1.0}
    assert waited["warm"] == 3600


def test_importable_functions_are_weighed_in_processes(apart: Weighing) -> None:
    """Their known ratio is recovered in processes of their own, and no notice speaks of weaker isolation."""
    assert (apart.isolation, apart.verdict) == ("processes", "fail")
    assert apart.comparison.value == pytest.approx(1.1)
    assert apart.sentence.startswith("leaky: latency_p50 1.1x [1.1x, 1.1x] of base")
    assert isolation_notice(apart) == ""


def test_every_replicate_has_fresh_processes(apart: Weighing, module: Any) -> None:
    """Beside this process and the two that were asked for the length of a call, each replicate had three."""
    started = [path.name for path in Path(module.__file__).parent.glob("pid-*")]
    assert f"pid-{os.getpid()}" in started
    assert len(started) >= 1 + 2 + 3 * apart.comparison.replicates


def test_a_function_that_keeps_memory_is_told_of(apart: Weighing) -> None:
    """200 kB a call are told in megabytes over the calls of a replicate."""
    assert [notice for notice in apart.notices if notice.startswith("leaky grew by")]


def test_what_cannot_cross_keeps_both_here() -> None:
    """Where one of two functions has no name in a fresh process both stay, and the notice names it and says what it means."""
    letters = string.capwords
    found = weigh(lambda: letters("a b" * 2000), gc.get_count, max_ratio=None, max_seconds=0.01, names=("a", "b"))
    assert found.isolation == "in-process"
    notice = isolation_notice(found)
    assert notice.startswith("Isolation is weaker: a cannot be imported by name in a fresh process, so both ran")
    assert "memory placement" in notice


def test_a_module_that_a_fresh_process_lacks_keeps_both_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module made at run time is found here and not there: the notice holds the reason."""
    made = types.ModuleType("made_at_run_time")
    exec("def one(): pass\ndef two(): pass", made.__dict__)  # noqa: S102 - a module without a file
    monkeypatch.setitem(sys.modules, made.__name__, made)
    found = weigh(made.one, made.two, max_ratio=None, max_seconds=0.01)
    assert found.isolation == "in-process"
    assert "made_at_run_time:one cannot be imported in a fresh process (ModuleNotFoundError" in isolation_notice(found)


class Holder:
    @staticmethod
    def nested() -> None: ...

    def method(self) -> None: ...


def test_names_lead_back_to_the_function_or_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions, builtins and static methods have names; lambdas, locals, bound methods, partials and __main__'s do not."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, types.SimpleNamespace(Holder=Holder)))
    for function in (gc.collect, string.capwords, dict, Holder.nested):
        name = name_of(function)
        assert name is not None
        assert find(name) is function
    in_main = types.FunctionType((lambda: None).__code__, {}, "f")
    in_main.__module__, in_main.__qualname__ = "__main__", "f"
    moved = types.FunctionType((lambda: None).__code__, {}, "f")
    moved.__module__, moved.__qualname__ = "string", "capwords"
    for function in (lambda: None, Holder().method, functools.partial(dict), in_main, moved):
        assert name_of(function) is None


def test_a_worker_gets_the_parents_import_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folders that are searched here are sent with the function, the current one made absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    command, arguments = Contender("f", function="module:f").opening(threads=2)
    assert (command, arguments) == ("open_callable", {"name": "module:f", "path": [str(tmp_path), "/somewhere"]})


def test_the_machine_is_ours_alone_while_we_weigh() -> None:
    """The lock that keeps two runs from measuring each other is held in every call."""
    clock, free = Clock(), []
    work = clock.taking(1.0)

    def trying() -> None:
        work()
        lock = FileLock(Path(tempfile.gettempdir()) / "weighbridge-weighing.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        free.append(lock.release())

    weigh(trying, clock.taking(1.0), clock_ns=clock, max_seconds=0.1)
    assert free == []


def test_slow_functions_take_longer_than_they_may_and_it_is_told() -> None:
    """Four replicates of five rounds of 1 s calls, settle and timed, for both and the twin, are 120 s."""
    clock = Clock()
    found = weigh(clock.taking(1000.0), clock.taking(1000.0), clock_ns=clock, metric="latency_mean")
    assert "Sampling took about 120 s, over max_seconds = 10: fewer replicates could not be judged." in found.notices


def test_short_calls_are_told_of() -> None:
    """Calls of 2 us are weighed, and a notice says that the clock's own reading is a part of them."""
    clock = Clock()
    found = weigh(clock.taking(0.004), clock.taking(0.002), clock_ns=clock, max_ratio=None)
    assert "A call of b takes 2 us, of which reading the clock is a part" in found.notices[-1]


def test_an_implausible_gain_is_told_of() -> None:
    """A function that is a hundred times as fast passes, with a notice beside it."""
    found = weighed(0.01)
    assert (found.verdict, found.suspicious) == ("pass", True)
    assert found.notices[-1] == "b is over 30 times as fast: look whether it does the work."
    assert not weighed(0.5).suspicious


def test_calls_that_take_no_time_are_refused() -> None:
    """Where the clock stands still there is no ratio."""
    clock = Clock()
    with pytest.raises(InputError, match="a call of b takes no time that the clock can tell: let it repeat its work"):
        weigh(clock.taking(1.0), clock.taking(0.0), clock_ns=clock)


def test_a_percentile_that_the_time_does_not_buy_is_refused_before_the_weighing() -> None:
    """p99 needs 662 calls a replicate; of 100 ms each they take more than 10 s, and the text says how much more."""
    clock = Clock()
    with pytest.raises(
        InputError, match="latency_p99 needs 662 timed calls a replicate, more than max_seconds = 10 buys"
    ):
        weigh(clock.taking(100.0), clock.taking(100.0), clock_ns=clock, metric="latency_p99")


def test_a_percentile_that_the_time_buys_is_weighed() -> None:
    """A stall of 9 ms in every tenth call of 1 ms is a p99 of 10 ms, tenfold that of a function without, and fails."""
    clock = Clock()
    stalling = clock.taking_each(lambda call: 10.0 if call % 10 == 9 else 1.0)
    found = weigh(clock.taking(1.0), stalling, clock_ns=clock, metric="latency_p99", max_seconds=60)
    assert (found.verdict, found.comparison.value) == ("fail", pytest.approx(10.0))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("throughput", "'throughput' cannot be weighed between two functions. Allowed: latency_mean, latency_p50"),
        ("accuracy", "'accuracy' cannot be weighed between two functions"),
        ("latency_means", "unknown metric 'latency_means'; did you mean 'latency_mean'"),
    ],
)
def test_only_latencies_of_calls_are_weighed(metric: str, words: str) -> None:
    """A metric of another family, or unknown, is refused with those that are allowed."""
    with pytest.raises(ConfigError, match=words):
        weighed(1.0, metric=metric)


def generator() -> Any:
    yield


async def asynchronous() -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (3, "b is of type int; give a function without arguments, as in lambda: model"),
        (math.sqrt, "b cannot be called without arguments .missing a required argument: 'x'.; bind them"),
        (generator, "b is a generator or async function: a call of it does no work"),
        (asynchronous, "b is a generator or async function"),
    ],
)
def test_what_is_no_function_without_arguments_is_refused(function: Any, words: str) -> None:
    """The text says what was given instead, and what to give."""
    with pytest.raises(ConfigError, match=f"weigh: {words}"):
        weigh(gc.collect, function)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_ratio": 0.0}, "max_ratio = 0.0; it must be a number above 0, or None to judge nothing"),
        ({"error_rate": 0.5}, "error_rate = 0.5; it must be a number between 0 and 0.5"),
        ({"max_seconds": 0}, "max_seconds = 0; it must be a number above 0"),
        ({"threads": 0}, "threads = 0; it must be a whole number of at least 1"),
        ({"seed": -1}, "seed = -1; it must be a whole number of at least 0"),
        ({"names": ("x", "x")}, "names = .*; give two different ones, neither empty nor <control>"),
        ({"names": ("x", CONTROL)}, "names = .*; give two different ones"),
        ({"names": ("x",)}, "names = .*; give two different ones"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(options: dict[str, Any], words: str) -> None:
    """Each says what was given and what is allowed."""
    with pytest.raises(ConfigError, match=f"weigh: {words}"):
        weighed(1.0, **options)


def test_names_are_the_functions_own_where_they_differ() -> None:
    """Two named functions keep their names; two lambdas are a and b."""
    clock = Clock()
    first, second = clock.taking(1.0), clock.taking(1.0)
    first.__name__, second.__name__ = "old", "new"
    assert weigh(first, second, clock_ns=clock).sentence.startswith(
        "new: latency_p50 1.0000x [1.0000x, 1.0000x] of old"
    )
    second.__name__ = "old"
    assert weigh(first, second, clock_ns=clock).sentence.startswith("b: latency_p50")


def test_a_worker_that_imports_the_script_does_not_weigh_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that weighs while it is imported is told to put the call under __main__."""
    worker = types.SimpleNamespace(__spec__=types.SimpleNamespace(name="weighbridge.bench.worker"))
    monkeypatch.setitem(sys.modules, "__main__", worker)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="called by importing a module; put the call under"):
        weighed(1.0)
