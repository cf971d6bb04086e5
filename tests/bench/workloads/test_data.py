"""Data files as users have them: every kind read right, every damage told in a sentence."""

import contextlib
import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.config import Columns
from weighbridge.bench.workloads import data
from weighbridge.bench.workloads.data import (
    Rows,
    kind_of,
    read_idx,
    read_images,
    read_labels,
    read_text,
    read_texts,
    read_values,
)
from weighbridge.optimize.errors import InputError

COLUMNS = Columns(text="text", label="label")
TEXTS, LABELS = ("one, two", 'a "quoted" text', "schön"), ("b", "a", "b")


def write_table(path: Path) -> Path:
    table = pandas.DataFrame({"text": TEXTS, "label": LABELS})
    if ".csv" in path.suffixes:
        table.to_csv(path, index=False)
    elif ".tsv" in path.suffixes:
        table.to_csv(path, index=False, sep="\t")
    elif ".jsonl" in path.suffixes:
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz", "t.jsonl.gz"])
def test_every_kind_of_table_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    """CSV, TSV, JSON lines and parquet, packed or not, hold the same texts and labels."""
    rows = read_texts(write_table(tmp_path / name), COLUMNS)
    assert (rows.texts, rows.labels) == (TEXTS, LABELS)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_a_mark_of_byte_order_is_no_part_of_the_data(name: str, tmp_path: Path) -> None:
    """Tables, texts and labels that a program has begun with a byte-order mark are read as without it."""
    path = write_table(tmp_path / name)
    plain = path.read_text(encoding="utf-8")
    path.write_text(plain, encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = read_texts(path, COLUMNS)
    assert (rows.texts, rows.labels) == (TEXTS, LABELS)
    assert read_text(path) == plain
    path.write_text("cat\ndog\n", encoding="utf-8-sig")
    assert read_labels(path) == ("cat", "dog")


def test_numbers_and_labels_come_apart(tmp_path: Path) -> None:
    """The label column is no feature; whole-number labels have no fraction even where pandas reads floats."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n1.5,2,0\n3,4,1.0\n", encoding="utf-8")
    rows = read_values(path, COLUMNS)
    np.testing.assert_array_equal(rows.values, np.array([[1.5, 2], [3, 4]], np.float32))
    assert rows.labels == ("0", "1")


def idx(array: Any, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_with_their_shape(packed: bool, tmp_path: Path) -> None:
    """An idx file of images gives its own array back, packed or not."""
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / ("images-idx3-ubyte.gz" if packed else "images-idx3-ubyte")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    np.testing.assert_array_equal(read_images(path).values, array)


@given(content=st.binary(max_size=64))
def test_no_bytes_crash_the_idx_reader(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes stand in an idx file, they give an array or an InputError."""
    path = tmp_path_factory.mktemp("idx") / "x-idx1-ubyte"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert read_idx(path).nbytes <= len(content)


def test_labels_of_their_own_are_read_from_idx_or_lines(tmp_path: Path) -> None:
    """Labels may stand in an idx file or one a line."""
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(idx(np.array([3, 1, 2], np.uint8)))
    assert read_labels(path) == ("3", "1", "2")
    lines = tmp_path / "labels.txt"
    lines.write_text("cat\ndog\n\n", encoding="utf-8")
    assert read_labels(lines) == ("cat", "dog")


def test_npz_holds_x_and_y_and_no_pickles(tmp_path: Path) -> None:
    """An npz's x and y are values and labels; one with a pickled object is refused."""
    path = tmp_path / "t.npz"
    np.savez(path, x=np.ones((2, 4), np.float32), y=np.array([0, 1]))
    rows = read_values(path, COLUMNS)
    assert rows.labels == ("0", "1")
    assert len(rows) == 2
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="is not a readable npz file"):
        read_values(path, COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"text,label\n", "has no rows"),
        ("t.csv", b"text,label\n\xff\xfe,a\n", r"is not UTF-8 text \(line 2, byte 11\)"),
        ("t.csv", b"txt,label\nhello,a\n", "unknown column 'text'; did you mean 'txt'"),
        ("t.csv", b"text,label\nhello,\n", "1 rows have no label in column 'label'"),
        ("t.csv.gz", gzip.compress(b"text,label\nhello,a\n", mtime=0)[:-4], "cannot be unpacked"),
        ("t.csv.gz", b"no gzip at all", "cannot be unpacked"),
        ("t.jsonl", b'{"text": "a"\n', "is not a readable jsonl file"),
        ("t.parquet", b"PAR1 cut", "is not a readable parquet file"),
    ],
)
def test_damaged_tables_are_told_in_a_sentence(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    """Each kind of damage names the file and what is wrong with it."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_texts(path, COLUMNS)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x01\x02\x03\x04", "is not an idx file: its first bytes are 01 02 03 04"),
        (b"\0\0\x08\x03\0\0", "is cut short in its header"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "its header promises 5 bytes of data, it has 3"),
    ],
)
def test_damaged_idx_files_are_told_in_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    """A wrong magic, a header cut short and missing pixels are told apart."""
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_idx(path)


def test_missing_files_and_unknown_kinds_are_refused(tmp_path: Path) -> None:
    """A file that is absent, of an unread kind, or no table where a table is needed, is an InputError."""
    with pytest.raises(InputError, match="is not a file"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="this kind is not read. Allowed: csv"):
        kind_of(Path("model.docx"))
    path = tmp_path / "t.txt"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="is not a table"):
        read_texts(path, COLUMNS)
    with pytest.raises(InputError, match="holds no images"):
        read_images(path)


SLICED = Columns(text="text", label="label", slices=("language", "age"))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_columns_for_slices_are_kept_as_texts(name: str, tmp_path: Path) -> None:
    """A row without a value has the value `missing`, whole numbers have no fraction, and other columns are not kept."""
    table = pandas.DataFrame(
        {"text": TEXTS, "label": LABELS, "language": ["de", None, "fr"], "age": [30.0, 41.0, None], "other": [1, 2, 3]}
    )
    path = tmp_path / name
    if path.suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    rows = read_texts(path, SLICED)
    assert rows.slices == {"language": ("de", "missing", "fr"), "age": ("30", "41", "missing")}
    assert read_texts(path, SLICED, sliced=False).slices == {}


def test_a_column_for_slices_is_a_value_of_a_table_only_where_it_is_a_number(tmp_path: Path) -> None:
    """Of a table of numbers the column of names is set aside, in evaluation and calibration; that of numbers stays."""
    path = tmp_path / "t.csv"
    path.write_text("a,age,language,label\n1.5,30,de,0\n3,41,fr,1\n", encoding="utf-8")
    for sliced in (True, False):
        rows = read_values(path, SLICED, sliced=sliced)
        np.testing.assert_array_equal(rows.values, np.array([[1.5, 30], [3, 41]], np.float32))
    assert read_values(path, SLICED).slices == {"language": ("de", "fr"), "age": ("30", "41")}


def test_a_column_for_slices_must_be_there_and_hold_groups(tmp_path: Path) -> None:
    """An absent column names the nearest; one with more than 50 values is refused, one with 50 is not."""
    path = tmp_path / "t.csv"
    for count in (50, 51):
        lines = [f"text {row},a,{row}" for row in range(count)]
        path.write_text("\n".join(["text,label,language", *lines]), encoding="utf-8")
        columns = Columns(slices=("language",))
        if count == 50:
            assert len(set(read_texts(path, columns).slices["language"])) == 50
        else:
            with pytest.raises(InputError, match="column 'language' has 51 different values; a slice takes at most 50"):
                read_texts(path, columns)
    with pytest.raises(InputError, match="unknown column 'langage'; did you mean 'language'"):
        read_texts(path, Columns(slices=("langage",)))


def test_rows_are_taken_in_the_order_asked_for() -> None:
    """Taking rows keeps values, texts, labels and slices together."""
    rows = Rows(np.array([[0], [1], [2]]), ("x", "y", "z"), ("a", "b", "c"), {"k": ("1", "2", "3")}).take([2, 0])
    assert rows.texts == ("z", "x")
    assert rows.slices == {"k": ("3", "1")}
    assert rows.labels == ("c", "a")
    np.testing.assert_array_equal(rows.values, [[2], [0]])


@pytest.mark.parametrize("name", ["t.csv.gz", "t.npz", "t.parquet"])
def test_a_file_that_unpacks_out_of_all_proportion_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros that pack to a thousandth are refused before they fill the memory, in every packed kind; up to the bound they are read."""
    path = tmp_path / name
    zeros = np.zeros(2_000_000, np.float32)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(b"a,label\n" + b"0,0\n" * 500_000))
    elif name.endswith(".npz"):
        np.savez_compressed(path, x=zeros)
    else:
        pandas.DataFrame({"a": zeros, "label": 0}).to_parquet(path)
    monkeypatch.setattr(data, "_ALWAYS_READ", 1000)
    with pytest.raises(InputError, match="unpacks to more than .* bytes, over 200 times its own size"):
        read_values(path, COLUMNS)
    monkeypatch.setattr(data, "_ALWAYS_READ", 10_000_000)
    assert len(read_values(path, COLUMNS)) >= 500_000


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.float64(1)}, r"x has shape \(\) and type float64; it must be rows of numbers"),
        ({"x": np.array([["a"]])}, "it must be rows of numbers"),
        ({"x": np.array([[1j]])}, "it must be rows of numbers"),
        ({"x": np.array([[np.nan]])}, "1 cells are empty or not finite"),
        ({"x": np.ones((2, 1)), "y": np.ones((2, 3))}, r"y has shape \(2, 3\); labels are one a row"),
        ({}, "is not a readable npz file"),
    ],
)
def test_arrays_that_are_no_rows_of_numbers_are_refused(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    """A single number, texts, complex numbers, gaps, labels of several axes and an empty archive are told apart."""
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(InputError, match=sentence):
        read_values(tmp_path / "t.npz", COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.jsonl", b'{"text": "a", "label": "x"}\n5\n', "is not a readable jsonl file"),
        ("x-idx255-ubyte", b"\0\0\x08\xff" + b"\0\0\0\1" * 255, "says that it has 255 axes; 1 to 4 are read"),
        ("x-idx0-ubyte", b"\0\0\x08\x00\1", "says that it has 0 axes"),
        ("x-idx4-ubyte", b"\0\0\x08\x04" + b"\0\1\0\0" * 4, "promises 18446744073709551616 bytes of data, it has 0"),
        ("x-idx1-float", b"\0\0\x0d\x01\0\0\0\1\x7f\xc0\0\0", "1 cells are empty or not finite"),
    ],
)
def test_contents_that_foreign_readers_stumble_over_are_told(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    """Rows that are no objects, headers out of all bounds and pixels that are no numbers are refused in a sentence."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_images(path) if "idx" in name else read_texts(path, COLUMNS)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Parquet may hold two columns of one name, which no config could tell apart."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array(["a", "b"])
    pq.write_table(pa.table([texts, texts], names=["text", "text"]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="two columns are named 'text'|is not a readable parquet file"):
        read_texts(tmp_path / "t.parquet", COLUMNS)


def test_columns_whose_names_are_numbers_are_found(tmp_path: Path) -> None:
    """JSON lines with the keys "1" and "2" have columns of these names."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"1": "a", "2": "x"}\n{"1": "b", "2": "y"}\n', encoding="utf-8")
    rows = read_texts(path, Columns(text="1", label="2"))
    assert (rows.texts, rows.labels) == (("a", "b"), ("x", "y"))


def test_numbers_without_bounds_stay_labels(tmp_path: Path) -> None:
    """Labels of float columns that are infinite or huge stay as they are written."""
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,inf\nb,1e300\nc,2\n", encoding="utf-8")
    assert read_texts(path, COLUMNS).labels == ("inf", "1e+300", "2.0")


def test_a_path_that_is_too_long_is_no_file(tmp_path: Path) -> None:
    """A name that no file system takes is a missing file."""
    with pytest.raises(InputError, match="is not a file"):
        read_text(tmp_path / ("x" * 300 + ".txt"))
