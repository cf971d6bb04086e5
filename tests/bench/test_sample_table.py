"""Samples as they lie in parquet: whole ones are read, damaged and impossible ones refused by name."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from weighbridge.bench.sample_table import COLUMNS, read_sample_table, sample_files
from weighbridge.bench.samples import Recorder, key_of, read_replicates
from weighbridge.optimize.errors import InputError

SHAPE = key_of({"batch_size": 1, "threads": 1})


def recorded(folder: Path) -> Path:
    recorder = Recorder(1)
    recorder.add([[1.0], [2.0]] * 300, ["settle", "timed"] * 300, variant="base", shape=SHAPE, round_=1, visit=0)
    return recorder.write(folder)


def test_samples_survive_their_file(tmp_path: Path) -> None:
    """The columns come back in their order, as they were recorded, and the run lists the file."""
    path = recorded(tmp_path)
    table = read_sample_table(path)
    assert sample_files(tmp_path) == [path]
    assert tuple(table.column_names) == COLUMNS
    assert table["milliseconds"].to_pylist() == [1.0, 2.0] * 300
    assert set(table["conditions"].to_pylist()) == {SHAPE}


def test_a_replicate_without_samples_is_read(tmp_path: Path) -> None:
    """Where every variant failed there is a file without rows."""
    path = Recorder(1).write(tmp_path)
    assert read_sample_table(path).num_rows == 0


def test_a_flipped_bit_never_becomes_another_sample(tmp_path: Path) -> None:
    """Pages are under a checksum: wherever a bit is flipped, the file is refused or its samples are what they were."""
    path = recorded(tmp_path)
    whole, sound = path.read_bytes(), read_sample_table(path)
    refused = 0
    for place in range(0, len(whole), 5):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(bytes(data))
        try:
            assert read_sample_table(path).equals(sound)
        except InputError:
            refused += 1
    assert refused > len(whole) / 5 / 4


def changed(path: Path, column: str, values: list[Any] | None) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = table.drop_columns([column]) if values is None else table.set_column(place, column, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("round", None, "it has no column round of the right type"),
        ("round", ["a"] * 600, "it has no column round of the right type"),
        ("variant", [1] * 600, "it has no column variant of the right type"),
        ("variant", ["base"] * 599 + [None], "column variant lacks 1 values"),
        ("milliseconds", [-1.0] * 600, "column milliseconds holds what is no time"),
        ("milliseconds", [float("nan")] * 600, "column milliseconds holds what is no time"),
        ("milliseconds", [1e13] * 600, "column milliseconds holds what is no time"),
        ("conditions", ["batch 1"] * 600, "Expecting value"),
        ("conditions", ["[1]"] * 600, r"'\[1\]' is no shape"),
        ("conditions", ['{"batch": 1}'] * 600, "is no shape"),
        ("conditions", ['{"batch_size": 0}'] * 600, "is no shape: a size is a number above 0"),
        ("conditions", ['{"batch_size": "1"}'] * 600, "is no shape: a size is a number above 0"),
    ],
)
def test_what_no_sample_can_be_is_refused(column: str, values: list[Any] | None, sentence: str, tmp_path: Path) -> None:
    """A column that is missing or of another type, a value that is missing, a time or shape that is none: each is told."""
    path = recorded(tmp_path)
    changed(path, column, values)
    with pytest.raises(InputError, match=sentence):
        read_replicates(tmp_path)
