"""What a build is given to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from weighbridge.bench.building import build, build_in_child, calibration_rows
from weighbridge.bench.config import VariantConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.cache import WAITING


@pytest.mark.parametrize(
    ("numbers", "rows"),
    [(32, 20_000), (3 * 64 * 64, 20_000), (3 * 224 * 224, 1783), (3 * 2000 * 2000, 512)],
)
def test_large_calibration_rows_are_fewer(numbers: int, rows: int) -> None:
    """20,000 rows of tokens or small images, as many float images as make a gigabyte (2^30 / 602,112 = 1783), never below 512."""
    assert calibration_rows({"pixels": np.broadcast_to(np.float32(0), (1, numbers))}) == rows


def test_every_input_of_a_row_counts() -> None:
    """Two inputs of 8 * 16,384 bytes make a row of 2^18, of which a gigabyte holds 4096."""
    row = np.broadcast_to(np.int64(0), (1, 16_384))
    assert calibration_rows({"input_ids": row, "attention_mask": row}) == 4096


def test_a_variant_that_cannot_run_on_the_device_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With device = "cuda" the backend is asked for the GPU before anything is built; the reason and the remedy are the row's."""
    from weighbridge.optimize import cuda_availability
    from weighbridge.optimize.probing import Probe

    monkeypatch.setattr(cuda_availability, "probe", lambda _: Probe(0, "built without CUDA", ""))
    cuda_availability.torch_on_cuda.cache_clear()
    variant = VariantConfig(backend="torch")
    nothing: Any = None
    built = build(variant, nothing, base=Path(), threads=1, progress=lambda *_: None, provider="cuda")
    cuda_availability.torch_on_cuda.cache_clear()
    assert (built.status, built.folder) == ("unavailable", None)
    assert "the installed torch was built without CUDA. To make it available: " in built.reason


def test_who_waited_for_another_process_had_it_from_the_cache(
    tmp_path: Path, fake_workload: Prepared, write_behaviour: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first build is one; the second waits for a lock, says so, and finds the variant, which it has not built."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    arguments = {
        "prepared": str(fake_workload.folder),
        "batch_sizes": [1],
        "artifact": str(write_behaviour(tmp_path / "a.fake.json")),
        "backend": "fake",
        "precision": None,
    }
    first = build_in_child(arguments, lambda _: None)
    lock = FileLock(tmp_path / "cache" / "artifacts" / f"{Path(first['folder']).name}.lock")
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        lock.release()

    lock.acquire()
    assert build_in_child(arguments, tell) == {"folder": first["folder"], "from_cache": True}
    assert told == [WAITING]
    assert not first["from_cache"]
