"""Ways of damaging a file: its bytes, or what they say in JSON, TOML, a table, arrays or an ONNX graph. The same again for the same draw."""

import contextlib
import copy
import gzip
import io
import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_A_PART, _MOST = 0.2, 0.65
"""Shares of the cases that one way is taken in rather than another."""


def nasty(rnd: random.Random) -> Any:
    """A value that stands where another kind of value is meant."""
    deep: Any = []
    for _ in range(rnd.choice((3, 60))):
        deep = [deep]
    numbers = (
        True,
        -1,
        0,
        1,
        7,
        2**31,
        2**63,
        -(2**70),
        10**400,
        0.5,
        1e308,
        -1e308,
        1e-320,
        float("nan"),
        float("inf"),
    )
    texts = (
        "",
        " ",
        "x" * 70_000,
        "a\0b",
        "\x1b[31m",
        "../../x",
        "/etc/passwd",
        "\u202e",
        "\ud800",
        "<script>",
        "=1+1",
        "[/]",
        "nan",
    )
    return rnd.choice((*numbers, *texts, None, [], {}, [None], {"a": {}}, deep))


def of_bytes(content: bytes, rnd: random.Random) -> bytes:
    """Cut, flipped, shortened, doubled, mixed with noise, blanked, or another content altogether."""
    start, size = rnd.randrange(len(content) + 1), rnd.choice((1, 8, 200))
    before, inside, after = content[:start], content[start : start + size], content[start + size :]
    ways = (
        lambda: before,
        lambda: _flipped(content, rnd),
        lambda: before + after,
        lambda: before + 2 * inside + after,
        lambda: before + rnd.randbytes(size) + inside + after,
        lambda: before + bytes([rnd.choice((0, 0x30, 0x7F, 0xFF))]) * len(inside) + after,
        lambda: rnd.choice(
            (b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"[" * 30_000, b"\xef\xbb\xbf" + content, b"\xff\xfe", b"\r")
        ),
    )
    return rnd.choice(ways)()


def _flipped(content: bytes, rnd: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rnd.choice((1, 3, 30)) if data else 0):
        data[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
    return bytes(data)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) within plain data."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        yield data, key
        yield from places(data[key])


def of_tree(data: Any, rnd: random.Random) -> Any:
    """Plain data with one to three of its parts replaced, dropped, doubled or renamed."""
    data = copy.deepcopy(data)
    for _ in range(rnd.choice((1, 1, 3))):
        found = list(places(data))
        if not found:
            return nasty(rnd)
        owner, key = rnd.choice(found)
        way = rnd.choice(("drop", "rename", "double", "replace"))
        if way == "drop":
            del owner[key]
        elif way == "rename" and isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        elif way == "double" and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        else:
            owner[key] = nasty(rnd)
    return data


def of_json(content: bytes, rnd: random.Random) -> bytes:
    """JSON, or one of the lines of JSON, with its tree damaged."""
    lines = content.decode().splitlines()
    try:
        return json.dumps(of_tree(json.loads(content), rnd)).encode()
    except ValueError:
        row = rnd.randrange(len(lines))
        lines[row] = json.dumps(of_tree(json.loads(lines[row]), rnd))
        return "\n".join(lines).encode()


def of_toml(content: bytes, rnd: random.Random) -> bytes:
    """TOML with its tree damaged, or a value of it replaced as text where no TOML can hold it."""
    import tomli_w

    with contextlib.suppress(TypeError, AttributeError, UnicodeEncodeError):  # None, no table, half a pair
        return tomli_w.dumps(of_tree(tomllib.loads(content.decode()), rnd)).encode()
    lines = content.splitlines()
    row = rnd.randrange(len(lines))
    value = rnd.choice(
        (b"1" * 5000, b"0x" + b"f" * 5000, b"[" * 3000, b"1979-13-45", b"nan", b"-inf", b"'''", b"{ a.b.c = {} }")
    )
    lines[row] = lines[row].split(b"=")[0] + b"= " + value
    return b"\n".join(lines)


def of_rows(content: bytes, rnd: random.Random) -> bytes:
    """A table of text with one of its cells replaced."""
    lines = content.decode().split("\n")
    row = rnd.randrange(len(lines))
    separator = "\t" if "\t" in lines[0] else ","
    cells = lines[row].split(separator)
    cells[rnd.randrange(len(cells))] = str(rnd.choice((nasty(rnd), nasty(rnd), '"'))).replace("\ud800", "?")
    lines[row] = separator.join(cells)
    return "\n".join(lines).encode()


def of_parquet(content: bytes, rnd: random.Random) -> bytes:
    """A parquet file with a column dropped, renamed, of another type, with a value missing, or with other values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    column = rnd.randrange(table.num_columns)
    name, rows = table.column_names[column], table.num_rows
    replacements: list[list[Any]] = [
        [None] * rows,
        [*table[name].to_pylist()[:-1], None],
        [rnd.choice((-1, 0, 10**9, 2**62))] * rows,
        [rnd.choice((float("nan"), float("inf"), -1.0, 1e300))] * rows,
        [rnd.choice(("", "x", "{}", "[1", '{"batch_size": 0}', '{"a": 1}', "\x1b[31m"))] * rows,
        [[]] * rows,
        [[1.0], *[[1.0, 2.0]] * (rows - 1)],
        rnd.sample(table[name].to_pylist(), rows),
    ]
    kind = rnd.randrange(len(replacements) + 3)
    if kind == len(replacements):
        table = table.drop_columns([name])
    elif kind == len(replacements) + 1:
        table = table.rename_columns([f"{each}x" if each == name else each for each in table.column_names])
    elif kind == len(replacements) + 2:
        table = table.slice(0, rnd.randrange(rows))
    else:
        table = table.set_column(column, name, pa.array(replacements[kind]))
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def of_npz(content: bytes, rnd: random.Random) -> bytes:
    """An npz file of other arrays."""
    x: Any = rnd.choice(
        (
            np.float64(1),
            np.zeros((0, 4)),
            np.full((6, 4), np.nan),
            np.array([["a"]] * 6),
            np.zeros((6, 2, 2, 2, 2)),
            1j * np.ones((6, 4)),
        )
    )
    y: Any = rnd.choice((np.int64(1), np.zeros((6, 3)), np.zeros(5), np.array(["a"] * 6), np.full(6, np.inf)))
    stream = io.BytesIO()
    np.savez_compressed(stream, **{rnd.choice(("x", "z")): x, rnd.choice(("y", "w")): y})
    return stream.getvalue() or content


def of_onnx(content: bytes, rnd: random.Random) -> bytes:
    """An ONNX file with one to three fields of its tree set to another value, or a part of it dropped or doubled."""
    import onnx

    model = onnx.load_model_from_string(content)
    for _ in range(rnd.choice((1, 1, 3))):
        message: Any = model
        while True:
            fields = message.ListFields()
            if not fields:
                break
            field, value = rnd.choice(fields)
            many = not isinstance(value, str | bytes | int | float) and hasattr(value, "__len__")
            if many and (not len(value) or rnd.random() < _A_PART):
                message.ClearField(field.name)
                break
            inner = value[rnd.randrange(len(value))] if many else value
            if hasattr(inner, "ListFields"):
                message = inner
                continue
            _set(message, field.name, rnd, many=many)
            break
    return bytes(model.SerializeToString())


def _set(message: Any, name: str, rnd: random.Random, *, many: bool) -> None:
    """Set a plain field of a protobuf message to the first of some values that it can hold."""
    values = [
        "../w.bin",
        "/etc/passwd",
        "x",
        "",
        "\x1b[31m",
        "n" * 300,
        0,
        -1,
        1,
        3,
        99,
        2**31 - 1,
        2**62,
        1e30,
        float("nan"),
        b"",
        b"\xff" * 9,
    ]
    rnd.shuffle(values)
    for value in values:
        with contextlib.suppress(TypeError, ValueError):
            if many:
                getattr(message, name)[0] = value
            else:
                setattr(message, name, value)
            return


BY_SUFFIX = {
    ".json": of_json,
    ".jsonl": of_json,
    ".toml": of_toml,
    ".csv": of_rows,
    ".tsv": of_rows,
    ".txt": of_rows,
    ".parquet": of_parquet,
    ".npz": of_npz,
    ".onnx": of_onnx,
}


def damage(folder: Path, pattern: str, rnd: random.Random) -> Path:
    """Damage one of the files: its bytes, or what they say; of packed ones the one or the other way round."""
    path = rnd.choice(sorted(each for each in folder.rglob(pattern) if each.is_file()))
    content, packed = path.read_bytes(), path.suffix == ".gz" and rnd.random() < _MOST
    content = gzip.decompress(content) if packed else content
    suffix = path.with_suffix("").suffix if packed else path.suffix
    structured = BY_SUFFIX.get(suffix) if rnd.random() < _MOST else None
    content = (structured or of_bytes)(content, rnd)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path
