"""results.csv: one row a measurement, comparison and control; no cell is read as a formula by a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..bench.results import Results
from .rows import RESULT_COLUMNS, result_rows

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the wide forms of the first four, which some spreadsheets read alike."""


def to_csv(runs: Sequence[Results]) -> str:
    """Return the rows of one or several runs under the columns of `rows.RESULT_COLUMNS`."""
    return csv_text(RESULT_COLUMNS, (row for results in runs for row in result_rows(results)))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV under a heading of these columns, which every row has."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
