"""How calls reach a model: known truth on the synthetic clock, in closed and open loop."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge.bench.load import callers_at_once, from_raw_inputs, one_after_another, random_arrivals
from weighbridge.optimize.backends.base import sleep_until
from weighbridge.optimize.backends.fake_backend import Behaviour, FakePredictor

ROWS = np.zeros((1, 2), np.float32)


def milliseconds(calls: tuple[tuple[float, ...], ...]) -> list[float]:
    return [call for (call,) in calls]


def test_calls_one_after_another_settle_first() -> None:
    """Five calls of 2 ms, two of them to settle, last 10 ms."""
    visit = one_after_another(FakePredictor(Behaviour(latency_ms=2.0)), [ROWS] * 5, 2)
    assert visit.phases == ("settle", "settle", "timed", "timed", "timed")
    assert milliseconds(visit.calls) == [2.0] * 5
    assert visit.seconds == pytest.approx(0.01)


def test_calls_from_raw_inputs_count_what_comes_before_the_model() -> None:
    """A request of 0.5 ms to load and 2 ms to answer lasts 2.5 ms, and each makes its own arrays."""
    made = []

    def request() -> dict[str, np.ndarray]:
        made.append(len(made))
        return {"x": ROWS}

    visit = from_raw_inputs(FakePredictor(Behaviour(latency_ms=2.0, load_ms=0.5)), [request] * 3, 1)
    assert milliseconds(visit.calls) == [2.5] * 3
    assert visit.phases == ("settle", "timed", "timed")
    assert made == [0, 1, 2]


def test_every_caller_has_the_models_own_latency() -> None:
    """Three callers of a model that serves them side by side: 30 timed calls of 2 ms, whoever makes them."""
    visit = callers_at_once(FakePredictor(Behaviour(latency_ms=2.0)), [ROWS] * 36, 6, 3)
    timed = [call for call, phase in zip(milliseconds(visit.calls), visit.phases, strict=True) if phase == "timed"]
    assert timed == [2.0] * 30


def test_callers_really_call_at_once() -> None:
    """The first call of each of three callers waits until all three are under way, which only callers at once bring about."""
    together = threading.Barrier(3, timeout=20)
    arrived = threading.local()

    class Meeting(FakePredictor):
        def infer(self, tensors: np.ndarray) -> np.ndarray:
            if not hasattr(arrived, "yes"):
                together.wait()
                arrived.yes = True
            return super().infer(tensors)

    visit = callers_at_once(Meeting(Behaviour()), [ROWS] * 3, 0, 3)
    assert visit.phases.count("timed") == 3


def test_a_caller_that_fails_ends_the_visit() -> None:
    """An exception in one caller is raised, and the others do not wait for its call for ever."""
    predictor = FakePredictor(Behaviour(fault_at_call=5))
    with pytest.raises(RuntimeError, match="told to fail at this call"):
        callers_at_once(predictor, [ROWS] * 20, 0, 4)


def queue_by_hand(rate: float, service_ms: float, requests: int, seed: int) -> list[float]:
    """Lindley's recursion: a request waits for what is left of those before it, then is served."""
    gaps = np.random.default_rng(seed).exponential(1e3 / rate, requests)
    waiting, latencies = 0.0, []
    for index, gap in enumerate(gaps):
        waiting = max(0.0, waiting + service_ms - gap) if index else 0.0
        latencies.append(waiting + service_ms)
    return latencies


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 500), st.floats(0.5, 50), st.integers(0, 1000))
def test_latency_counts_from_the_intended_arrival(rate: float, service_ms: float, seed: int) -> None:
    """Whatever the rate, the latencies are those of a queue of one server, the waiting included."""
    visit = random_arrivals(FakePredictor(Behaviour(latency_ms=service_ms)), [ROWS] * 40, 10, rate, seed)
    assert milliseconds(visit.calls) == pytest.approx(queue_by_hand(rate, service_ms, 40, seed), abs=1e-4)
    assert visit.phases.count("timed") == 30


def test_a_stall_is_charged_to_all_who_wait_behind_it() -> None:
    """At 1,000 requests/s of 0.1 ms, one stall of 50 ms makes tens of later requests slow, not one."""
    predictor = FakePredictor(Behaviour(latency_ms=0.1, stall_every=20, stall_ms=50.0))
    latencies = milliseconds(random_arrivals(predictor, [ROWS] * 39, 0, 1000.0, 3).calls)
    assert sum(latency > 10 for latency in latencies) > 10
    assert milliseconds(one_after_another(predictor, [ROWS] * 20, 0).calls).count(0.1) == 19


def test_arrivals_are_the_same_for_every_variant_of_a_round() -> None:
    """Two models of the same speed meet the same arrivals under one seed, others under another."""
    one, two, other = (
        random_arrivals(FakePredictor(Behaviour(latency_ms=5.0)), [ROWS] * 20, 0, 150.0, seed).calls
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


def test_waiting_ends_when_the_clock_says_so() -> None:
    """A wait of two milliseconds is over no earlier, and one that lies in the past is over at once."""
    import time

    at = time.perf_counter_ns() + 2_000_000
    sleep_until(at)
    assert time.perf_counter_ns() >= at
    sleep_until(at - 1)
