"""Read evaluation and calibration data: tables, arrays, idx images, text."""

import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError, first_line, one_of
from ..config import Columns

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
MISSING = "missing"
"""The value under which rows without one are judged in a slice."""
_MOST_VALUES = 50
_WHOLE_FLOATS = 2**53
"""Below it a float that is whole is that whole number."""
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 4
"""Of an idx file: images, height, width, channels."""
_MOST_TIMES, _ALWAYS_READ = 200, 2**30
"""A packed file is unpacked to so many times its bytes, and to a gibibyte in any case: real data packs to a hundredth at most."""


@dataclass(frozen=True)
class Rows:
    """Data as it was read: texts or values (first axis: rows), and labels as they are written, or None.

    `slices` are the columns kept for judging within their values, each with a value a row.
    """

    values: NDArray[Any] | None = None
    texts: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts) if self.texts is not None else 0 if self.values is None else len(self.values)

    def take(self, index: Sequence[int] | NDArray[np.int64]) -> "Rows":
        """The rows at these places, in this order."""
        places = [int(place) for place in index]
        return Rows(
            None if self.values is None else self.values[places],
            None if self.texts is None else tuple(self.texts[place] for place in places),
            None if self.labels is None else tuple(self.labels[place] for place in places),
            {column: tuple(values[place] for place in places) for column, values in self.slices.items()},
        )


def kind_of(path: Path) -> str:
    """The kind of a data file by its name, .gz left out: a table's suffix, npz, idx or txt.

    Raises:
        InputError: no such kind is read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    last = suffixes[-1] if suffixes else ""
    if last in TABLES:
        return last
    if last in (".npz", ".txt"):
        return last[1:]
    if "idx" in path.name:
        return "idx"
    raise InputError(f"data {path}: this kind is not read. Allowed: csv, tsv, jsonl, parquet, npz, idx, txt (also .gz)")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends in .gz.

    Raises:
        InputError: it is missing, empty, or cut short.
    """
    if not is_file(path):
        raise InputError(f"data {path} is not a file")
    most = _most_unpacked(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(most + 1) if path.suffix == ".gz" else stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data {path} cannot be unpacked: {error}; it may be cut short") from error
    if not content:
        raise InputError(f"data {path} is empty")
    if path.suffix == ".gz" and len(content) > most:
        raise _refused_bomb(path, most)
    return content


def is_file(path: Path) -> bool:
    """Whether a path is a file; one that cannot be a path, being too long or holding a zero byte, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _most_unpacked(path: Path) -> int:
    return max(_ALWAYS_READ, _MOST_TIMES * path.stat().st_size)


def _refused_bomb(path: Path, most: int) -> InputError:
    return InputError(
        f"data {path} unpacks to more than {most:,} bytes, over {_MOST_TIMES} times its own size, as no data does; unpack it yourself "
        "where that is meant"
    )


def read_text(path: Path) -> str:
    """The text of a file, without the mark of byte order that some programs set before it.

    Raises:
        InputError: as `read_bytes`; or it is not UTF-8, and where not.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"data {path} is not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8"
        ) from error


def read_texts(path: Path, columns: Columns, *, sliced: bool = True) -> Rows:
    """Texts and, where the column is there, labels of a table; where `sliced`, the columns kept for slices too.

    Raises:
        InputError: the file is damaged, has no rows, lacks the text column or one for slices, or has empty labels.
    """
    table = _read_table(path)
    texts = _texts(_column(table, columns.text, path))
    labels = _labels(table, columns.label, path) if columns.label in table.columns else None
    return Rows(texts=texts, labels=labels, slices=_slices(table, columns.slices if sliced else (), path))


def read_prompts(path: Path, columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prompts of a table and, where `columns.reference` names a column, the reference of each; else no references.

    Raises:
        InputError: the file is damaged, has no rows, lacks a column, or a prompt or reference is empty.
    """
    table = _read_table(path)
    found = []
    for name in filter(None, (columns.text, columns.reference)):
        texts = _texts(_column(table, name, path))
        empty = [row for row, text in enumerate(texts, 1) if not text.strip()]
        if empty:
            raise InputError(
                f"data {path}: column '{name}' is empty in {len(empty)} of {len(texts)} rows (the first is row {empty[0]}); "
                "fill or drop them"
            )
        found.append(texts)
    return found[0], found[1] if columns.reference is not None else ()


def read_values(path: Path, columns: Columns, *, sliced: bool = True) -> Rows:
    """The numeric columns of a table as float32 (rows, columns), the label column apart; or an npz's arrays.

    A column for slices is one of the values too where it is numeric.

    Raises:
        InputError: the file is damaged or empty, lacks a column for slices, or another column is not numeric.
    """
    if kind_of(path) == "npz":
        return _read_npz(path)
    table = _read_table(path)
    labels = _labels(table, columns.label, path) if columns.label in table.columns else None
    slices = _slices(table, columns.slices if sliced else (), path)
    aside = [name for name in columns.slices if name in table.columns and table[name].dtype.kind not in "iufb"]
    features = table.drop(columns=[columns.label, *aside], errors="ignore")
    wrong = [str(name) for name in features.columns if features[name].dtype.kind not in "iufb"]
    if wrong:
        raise InputError(
            f"data {path}: column '{wrong[0]}' is not numeric; tables take numbers and one label column ('{columns.label}')"
        )
    with np.errstate(over="ignore"):  # a number that is too large for float32 is told as one that is not finite
        values = features.to_numpy(dtype=np.float32, na_value=np.nan)
    _need_finite(values, path)
    return Rows(values=values, labels=labels, slices=slices)


def _need_finite(values: NDArray[Any], path: Path) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            f"data {path}: {int((~np.isfinite(values)).sum())} cells are empty or not finite; fill or drop them"
        )


def read_images(path: Path) -> Rows:
    """Images of an idx or npz file as they are stored, first axis: images.

    Raises:
        InputError: the file is damaged or of another kind.
    """
    kind = kind_of(path)
    if kind == "idx":
        return Rows(values=read_idx(path))
    if kind == "npz":
        return _read_npz(path)
    raise InputError(f"data {path} holds no images. Allowed: idx (also .gz) and npz")


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels from a file of their own: idx, or one a line.

    Raises:
        InputError: the file is missing, damaged or empty.
    """
    if "idx" in path.name:
        return tuple(str(label) for label in read_idx(path).reshape(-1).tolist())
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def read_idx(path: Path) -> NDArray[Any]:
    """Read an idx file (two zero bytes, type, rank, big-endian sizes, data).

    Raises:
        InputError: it is no idx file, or shorter or longer than its header says.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:  # noqa: PLR2004 - the header's length
        raise InputError(f"data {path} is not an idx file: its first bytes are {content[:4].hex(' ')}")
    rank, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    if not 1 <= rank <= _MOST_AXES:
        raise InputError(f"data {path}: its header says that it has {rank} axes; 1 to {_MOST_AXES} are read")
    start = 4 + 4 * rank
    if len(content) < start:
        raise InputError(f"data {path} is cut short in its header")
    shape = struct.unpack(f">{rank}I", content[4:start])
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) - start != wanted:
        raise InputError(f"data {path}: its header promises {wanted} bytes of data, it has {len(content) - start}")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    _need_finite(values, path)
    return values


def _read_npz(path: Path) -> Rows:
    """Arrays x (or the only one) and y of an npz file; pickled objects are refused."""
    if not is_file(path):
        raise InputError(f"data {path} is not a file")
    most = _most_unpacked(path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        arrays = _arrays(path) if unpacked <= most else {}
    except Exception as error:
        raise InputError(
            f"data {path} is not a readable npz file ({first_line(error)}); it needs an array x and, for labels, y"
        ) from error
    if unpacked > most:
        raise _refused_bomb(path, most)
    values, labels = arrays["x"], arrays.get("y")
    if values.ndim == 0 or values.dtype.kind not in "iufb":
        raise InputError(f"data {path}: x has shape {values.shape} and type {values.dtype}; it must be rows of numbers")
    if not len(values):
        raise InputError(f"data {path} has no rows")
    _need_finite(values, path)
    if labels is not None and labels.ndim != 1:
        raise InputError(f"data {path}: y has shape {labels.shape}; labels are one a row")
    return Rows(values=values, labels=None if labels is None else tuple(str(label) for label in labels.tolist()))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays x, or the only one under that name, and y of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        names = list(file)
        first = "x" if "x" in names else names[0]
        return {"x": file[first], **({"y": file["y"]} if "y" in names else {})}


def _read_table(path: Path) -> Any:
    import pandas

    kind = kind_of(path)
    if kind not in TABLES:
        raise InputError(f"data {path} is not a table. Allowed here: {', '.join(TABLES)} (also .gz)")
    content = io.BytesIO(read_bytes(path)) if kind == ".parquet" else io.StringIO(read_text(path))
    try:
        if kind == ".parquet":
            table = _read_parquet(content, path)
        elif kind == ".jsonl":
            table = pandas.read_json(content, lines=True, dtype=False)
        else:
            table = pandas.read_csv(content, sep="\t" if kind == ".tsv" else ",", keep_default_na=True)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"data {path} is not a readable {kind[1:]} file: {first_line(error)}") from error
    if not len(table):
        raise InputError(f"data {path} has no rows")
    table.columns = [str(name) for name in table.columns]
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InputError(f"data {path}: two columns are named '{twice}'; give each its own name")
    return table


def _read_parquet(content: Any, path: Path) -> Any:
    """A parquet file as a frame, unless what it says of itself is out of all proportion to its size."""
    import pandas
    import pyarrow.parquet

    said = pyarrow.parquet.read_metadata(content)
    if said.num_rows * said.num_columns > _most_unpacked(path):
        raise _refused_bomb(path, _most_unpacked(path))
    content.seek(0)
    return pandas.read_parquet(content)


def _column(table: Any, name: str, path: Path) -> Any:
    if name not in table.columns:
        raise InputError(f"data {path}: {one_of('column', name, map(str, table.columns))}. Set workload.columns.")
    return table[name]


def _labels(table: Any, name: str, path: Path) -> tuple[str, ...]:
    """The label column as texts; whole numbers without a fraction."""
    column = table[name]
    missing = int(column.isna().sum())
    if missing:
        raise InputError(f"data {path}: {missing} rows have no label in column '{name}'; fill or drop them")
    return _texts(_without_fractions(column))


def _slices(table: Any, names: Sequence[str], path: Path) -> dict[str, tuple[str, ...]]:
    """The columns of these names as texts, whole numbers without a fraction; a row without a value has MISSING."""
    found = {}
    for name in names:
        column = _without_fractions(_column(table, name, path))
        values = tuple(value or MISSING for value in _texts(column, absent=MISSING))
        different = len(set(values))
        if different > _MOST_VALUES:
            raise InputError(
                f"data {path}: column '{name}' has {different} different values; a slice takes at most {_MOST_VALUES}. "
                "Slice by a column of groups, such as a language"
            )
        found[name] = values
    return found


def _without_fractions(column: Any) -> Any:
    """A column of floats that are all whole as integers: a missing value makes pandas read numbers as floats."""
    if column.dtype.kind != "f":
        return column
    there = column.dropna()
    whole = (there == there.round()).all() and (there.abs() < _WHOLE_FLOATS).all()
    return column.astype("Int64") if whole else column


def _texts(column: Any, absent: str = "") -> tuple[str, ...]:
    """A column as texts, `absent` where a value is missing."""
    return tuple(absent if gone else str(value) for value, gone in zip(column, column.isna(), strict=True))
