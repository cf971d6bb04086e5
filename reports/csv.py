"""results.csv: one row a measurement, comparison and control; no cell is read as a formula by a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from ..bench.results import Results
from .rows import RESULT_COLUMNS, result_rows

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(runs: Sequence[Results]) -> str:
    """Return the rows of one or several runs under the columns of `rows.RESULT_COLUMNS`."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, RESULT_COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for results in runs:
        writer.writerows({key: _safe(value) for key, value in row.items()} for row in result_rows(results))
    return stream.getvalue()


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
