"""A replicate's samples as they lie in parquet: the columns, and reading them strictly. Light: reports read samples through it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..optimize.errors import InputError
from ..optimize.plain_data import parse_json
from .metrics import SHAPE_KEYS

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "samples"
COUNTS = ("replicate", "round", "visit", "call")
TEXTS = ("phase", "variant", "conditions")
COLUMNS = (*COUNTS, *TEXTS, "milliseconds")
_MOST_MS = 1e12
"""Thirty years: no call takes longer, and what is computed from longer ones would overflow."""


def sample_files(run_folder: Path) -> list[Path]:
    """The files of a run's replicates, in order."""
    return sorted((run_folder / FOLDER).glob("replicate-*.parquet"))


def read_sample_table(path: Path) -> "pa.Table":
    """The samples of one replicate under COLUMNS, the texts dictionary-encoded.

    Raises:
        InputError: the file is damaged (each page has a checksum), or lacks a column or a value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile and not read_table: that one loads pyarrow.dataset, which loads pandas.
        with pq.ParquetFile(path, read_dictionary=list(TEXTS), page_checksum_verification=True) as file:
            table = file.read(columns=list(COLUMNS))
        _need_sound(table)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read as samples ({error}); the run folder is damaged") from error
    return table


def _need_sound(table: "pa.Table") -> None:
    """Raise a ValueError where a column is missing, of another type, or holds what no sample can be."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not table.num_rows:
        return
    kinds: dict[str, Any] = {
        **dict.fromkeys(COUNTS, pa.types.is_integer),
        **dict.fromkeys(TEXTS, lambda kind: pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)),
        "milliseconds": pa.types.is_floating,
    }
    for name, is_kind in kinds.items():
        if name not in table.column_names or not is_kind(table.schema.field(name).type):
            raise ValueError(f"it has no column {name} of the right type")
        if table[name].null_count:
            raise ValueError(f"column {name} lacks {table[name].null_count} values")
    times = table["milliseconds"]
    # The ends and not a comparison with a number: Arrow makes a scalar of that, which loads pandas.
    ends = pc.min_max(times).as_py()
    if pc.any(pc.is_nan(times)).as_py() or ends["min"] < 0 or ends["max"] >= _MOST_MS:
        raise ValueError("column milliseconds holds what is no time")
    for text in pc.unique(table["conditions"]).to_pylist():
        _need_shape(text)


def _need_shape(text: str) -> None:
    shape = parse_json(text)
    if not isinstance(shape, dict) or not set(shape) <= set(SHAPE_KEYS):
        raise ValueError(f"'{text}' is no shape")
    if not all(type(value) in (int, float) and value > 0 for value in shape.values()):
        raise ValueError(f"'{text}' is no shape: a size is a number above 0")
