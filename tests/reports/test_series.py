"""The numbers behind the charts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.samples import CONTROL, read_replicates
from weighbridge.optimize.errors import InputError
from weighbridge.reports import rows
from weighbridge.reports.scales import axis_for, place_labels
from weighbridge.reports.series import LEVELS, curves, frontier

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_holds_exactly_what_nothing_dominates(points: Sequence[tuple[float, float]]) -> None:
    """A point is on the Pareto front exactly where no other is at least as good in both and better in one."""

    def dominated(point: tuple[float, float]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    assert sorted(frontier(points)) == [index for index, point in enumerate(points) if not dominated(point)]


def test_the_front_is_in_the_order_of_a_line() -> None:
    """The front runs from fast to slow, so that a line can be drawn through it."""
    assert frontier([(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.8)]) == [1, 3, 0]


def test_curves_are_the_quantiles_of_the_timed_calls(classifier_run: Path) -> None:
    """A curve goes through numpy's quantiles of every timed call of all replicates; the control has none."""
    found = curves(classifier_run)
    assert {each.what for each in found} == {"latency"}
    assert CONTROL not in {each.variant for each in found}
    mine = next(each for each in found if each.variant == "ort-int8" and each.conditions["batch_size"] == 8)
    key = '{"batch_size":8,"sequence_length":32,"threads":1}'
    calls = np.concatenate([each.timed["ort-int8", key].ravel() for each in read_replicates(classifier_run)])
    assert mine.n == len(calls) == 960
    assert mine.milliseconds == pytest.approx(np.quantile(calls, LEVELS).tolist())
    assert len(LEVELS) <= 200


def test_generators_have_two_kinds_of_samples(generator_run: Path) -> None:
    """A generator's first tokens and its further tokens are distributions of their own."""
    found = [each for each in curves(generator_run) if each.variant == "ort-int8"]
    assert {each.what: each.n for each in found} == {"time to first token": 60, "inter-token latency": 480}


def test_a_run_without_samples_has_no_curves(tmp_path: Path) -> None:
    """No samples folder means no curve, not an error."""
    assert curves(tmp_path) == []


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    """A samples file that is cut short is an input error that names it."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "replicate-000.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match=r"replicate-000\.parquet cannot be read as samples"):
        curves(tmp_path)


def test_the_controls_name_is_the_samples_own() -> None:
    """The name of the control in tables is the one under which its samples are written."""
    assert rows.CONTROL == CONTROL


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values(values: list[float], linear: bool) -> None:
    """Every value lies within the axis, and pixels and values are each other's inverse."""
    axis = axis_for(values, 100, linear=linear, room_after=0.2)
    for value in values:
        assert 0 <= axis.pixel(value) <= 100
        assert axis.value(axis.pixel(value)) == pytest.approx(value)


def test_a_wide_range_is_logarithmic_with_round_ticks() -> None:
    """Values that differ by more than a factor of three get a logarithmic axis with ticks at 1, 2 and 5."""
    axis = axis_for([0.9, 40.0], 100)
    assert axis.log
    assert axis.ticks == [1, 2, 5, 10, 20, 50]
    assert not axis_for([10, 20], 100).log


@given(st.lists(st.tuples(st.floats(0, 360), st.floats(0, 240)), min_size=1, max_size=6))
def test_labels_do_not_cover_each_other(points: list[tuple[float, float]]) -> None:
    """Labels that share columns of pixels lie a line apart."""
    texts = ["a-variant-name"] * len(points)
    places = place_labels(points, texts, 360, 240)
    length = 6.2 * len(texts[0])
    boxes = [(x - 10 - length if place.left else x + 10, place.y) for (x, _), place in zip(points, places, strict=True)]
    for index, (start, y) in enumerate(boxes):
        for other, at in boxes[:index]:
            assert abs(start - other) >= length or abs(y - at) >= 13 - 1e-6
