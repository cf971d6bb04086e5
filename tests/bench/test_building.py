"""What a build is given to look at."""

import numpy as np
import pytest
from weighbridge.bench.building import calibration_rows


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
