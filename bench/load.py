"""How calls reach an opened classifier: one after another, from raw inputs or from several callers, or at random arrival times.

In every way each call's milliseconds are kept, the settle calls apart from the timed ones.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..optimize.backends.base import Predictor
from ..optimize.model import Batch


@dataclass(frozen=True)
class Visit:
    """What one visit took.

    Attributes:
        calls: milliseconds a call; of a generator's request, those of each of its tokens.
        phases: settle or timed, one a call.
        seconds: how long the visit lasted.
    """

    calls: tuple[tuple[float, ...], ...]
    phases: tuple[str, ...]
    seconds: float

    @staticmethod
    def of_calls(calls: Sequence[Sequence[float]], settle: int) -> "Visit":
        """Of calls that were made one after another, the first `settle` of them to settle."""
        phases = ("settle",) * settle + ("timed",) * (len(calls) - settle)
        return Visit(tuple(map(tuple, calls)), phases, sum(map(sum, calls)) / 1e3)


def one_after_another(predictor: Predictor, inputs: Sequence[Any], settle: int) -> Visit:
    """Call once for each input; nothing but the call stands between the two readings of the clock."""
    clock, infer = predictor.clock_ns, predictor.infer
    durations = []
    for tensors in inputs:
        start = clock()
        infer(tensors)
        durations.append(((clock() - start) / 1e6,))
    return Visit.of_calls(durations, settle)


def from_raw_inputs(predictor: Predictor, requests: Sequence[Callable[[], Batch]], settle: int) -> Visit:
    """Call once for each request, which makes the arrays itself (from text or pixels); loading them counts too."""
    clock, infer, load = predictor.clock_ns, predictor.infer, predictor.load
    durations = []
    for request in requests:
        start = clock()
        infer(load(request()))
        durations.append(((clock() - start) / 1e6,))
    return Visit.of_calls(durations, settle)


def callers_at_once(predictor: Predictor, inputs: Sequence[Any], settle: int, callers: int) -> Visit:
    """Let `callers` threads take inputs from one queue, each waiting for its answer before it takes the next (closed loop).

    The calls taken first settle. All callers go on until the last timed call has its answer, so that every timed call has
    the others beside it; what they take beyond the inputs is recorded as settling too.
    """
    timed = range(settle, len(inputs))
    tickets = itertools.count()
    open_calls = set(timed)
    lock, done = threading.Lock(), threading.Event()
    taken: list[tuple[int, float]] = []

    def caller() -> None:
        clock, infer = predictor.clock_ns, predictor.infer
        try:
            while not done.is_set():
                ticket = next(tickets)
                start = clock()
                infer(inputs[ticket % len(inputs)])
                milliseconds = (clock() - start) / 1e6
                with lock:
                    taken.append((ticket, milliseconds))
                    open_calls.discard(ticket)
                    if not open_calls:
                        done.set()
        finally:
            done.set()  # a caller that fails must not leave the others waiting for its call

    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(caller) for _ in range(callers)]:
            future.result()
    calls = tuple((milliseconds,) for _, milliseconds in taken)
    phases = tuple("timed" if ticket in timed else "settle" for ticket, _ in taken)
    return Visit(calls, phases, sum(map(sum, calls)) / 1e3 / callers)


def random_arrivals(
    predictor: Predictor,
    inputs: Sequence[Any],
    settle: int,
    rate: float,
    seed: int,
) -> Visit:
    """Let requests arrive at random (Poisson, `rate` a second) at one server that answers them in order (open loop).

    A request's milliseconds count from its intended arrival, whether or not the server was free then: a slow answer is
    charged to everyone who waits behind it (no coordinated omission). The arrivals depend on `seed` alone, so that every
    variant meets the same ones.
    """
    clock, infer = predictor.clock_ns, predictor.infer
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, len(inputs))
    start = clock()
    latencies = []
    for tensors, arrival in zip(inputs, (start + gaps.cumsum()).astype(np.int64).tolist(), strict=True):
        if clock() < arrival:
            predictor.sleep_until(arrival)
        infer(tensors)
        latencies.append(((clock() - arrival) / 1e6,))
    return replace(Visit.of_calls(latencies, settle), seconds=(clock() - start) / 1e9)
