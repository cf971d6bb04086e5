"""The worker's own parts: stability of the warm-up, scores of every example, memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from weighbridge.bench.child import Child
from weighbridge.bench.worker import Weigher
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.errors import BuildError

FakeVariant = Callable[..., Path]
SHAPE = {"batch_size": 4, "threads": 1}


def opened(folder: Path, prepared: Prepared) -> Weigher:
    weigher = Weigher()
    weigher.open(str(folder), threads=1, provider=None)
    weigher.shape("k", str(prepared.folder), SHAPE)
    return weigher


def test_a_steady_series_is_warm_after_two_windows(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """A model whose calls all take 1 ms is stable after ten calls; its slow first call is kept apart by being first."""
    warm = opened(fake_variant(tmp_path / "v", first_call_ms=50.0), fake_workload).warm("k")
    assert warm["stable"]
    assert [call[0] for call in warm["calls"]] == pytest.approx([51.0, *[1.0] * 9])


def test_a_drifting_series_reaches_the_cap_and_says_so(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """A model that slows by a twentieth each call never settles: the cap of 60 calls ends its warm-up, marked unstable."""
    warm = opened(fake_variant(tmp_path / "v", drift_per_call=0.05), fake_workload).warm("k")
    assert not warm["stable"] or len(warm["calls"]) > 30
    assert len(warm["calls"]) <= 60


def test_stalls_and_drift_are_recorded_as_they_are(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """Every fourth call stalls by 9 ms and each is 1 % slower than the one before: the samples say exactly that."""
    folder = fake_variant(tmp_path / "v", stall_every=4, stall_ms=9.0, drift_per_call=0.01, per_row_ms=0.25)
    calls = opened(folder, fake_workload).visit("k", 0, 8)["calls"]
    expected = [2.0 * (1 + 0.01 * index) + (9.0 if index % 4 == 3 else 0.0) for index in range(8)]
    assert [call[0] for call in calls] == pytest.approx(expected)


def test_every_example_is_scored_once_in_order(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """300 examples in batches of 7 give 300 rows of scores whose highest is the row's own class."""
    weigher = opened(fake_variant(tmp_path / "v"), fake_workload)
    assert weigher.predict(str(fake_workload.folder), 0, 7, str(tmp_path / "s.npy")) == {"examples": 300}
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy").argmax(axis=1), fake_workload.labels())


@pytest.mark.parametrize(
    ("outputs", "reason"), [("nan", "not finite numbers for 100.0%"), ("wrong-shape", "gave 8 rows")]
)
def test_scores_that_are_none_are_refused(
    outputs: str, reason: str, tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """NaN scores and a wrong number of rows are errors that say what came."""
    weigher = opened(fake_variant(tmp_path / "v", outputs=outputs), fake_workload)
    with pytest.raises(BuildError, match=reason):
        weigher.predict(str(fake_workload.folder), 0, 7, str(tmp_path / "s.npy"))


def test_memory_growth_is_seen(tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared) -> None:
    """A model that keeps 1 MB a call raises the peak of its process by at least 20 MB in 40 calls."""
    folder = fake_variant(tmp_path / "v", grow_bytes=1_000_000)
    with Child("growing") as child:
        child.call("open", {"variant": str(folder), "threads": 1, "provider": None}, timeout=60)
        shape = {"key": "k", "prepared": str(fake_workload.folder), "conditions": {"batch_size": 1}}
        child.call("shape", shape, timeout=60)
        before = child.call("memory", timeout=60)["peak_bytes"]
        child.call("visit", {"key": "k", "start": 0, "calls": 40}, timeout=60)
        assert child.call("memory", timeout=60)["peak_bytes"] - before >= 20e6
