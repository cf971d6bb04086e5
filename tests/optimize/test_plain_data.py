"""Plain data from files: read strictly, made into dataclasses only where it fits, every refusal a ValueError in words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize.plain_data import checked, is_inside, parse_json, parse_toml

WHOLE = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(data=PLAIN)
def test_json_that_is_within_bounds_is_read_as_the_library_reads_it(data: Any) -> None:
    """Whatever is written as JSON, whole numbers of up to 64 bits among it, comes back equal."""
    assert parse_json(json.dumps(data)) == data


@given(numbers=st.dictionaries(st.text(), WHOLE))
def test_toml_that_is_within_bounds_is_read_as_the_library_reads_it(numbers: dict[str, int]) -> None:
    """Whole numbers of up to 64 bits come back equal."""
    assert parse_toml(tomli_w.dumps({"a": numbers})) == {"a": numbers}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("NaN", "NaN is no number that can be read"),
        ('{"a": [-Infinity]}', "-Infinity is no number that can be read"),
        ("1e999", "1e999 is no number that can be read"),
        ("9223372036854775808", r"922337203\.\.\. is no number that can be read"),
        ("1" * 5000, "Exceeds the limit"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_json_out_of_bounds_is_refused(text: str, sentence: str) -> None:
    """Numbers that are none, or that no 64 bits hold, and depths that no stack holds, are told."""
    with pytest.raises(ValueError, match=sentence):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = " + "[" * 100_000, "it is nested too deeply"),
        ("a = [{ b = 0x1" + 16 * "0" + " }]", "it holds a whole number of more than 64 bits"),
        ("a = " + "1" * 5000, "Exceeds the limit"),
        ("a = ", "Invalid value"),
    ],
)
def test_toml_out_of_bounds_is_refused(text: str, sentence: str) -> None:
    """Depths that no stack holds and numbers that no 64 bits hold are told, wherever they stand."""
    with pytest.raises(ValueError, match=sentence):
        parse_toml(text)


@dataclass(frozen=True)
class Inner:
    values: tuple[float, ...]
    names: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()


def test_plain_data_becomes_nested_dataclasses() -> None:
    """Lists become tuples, maps keep their types, and what the kind does not know is left out."""
    data = {"name": "x", "inner": [{"values": [1, 2.5], "names": {"a": 1, "b": "1"}}], "later": True}
    assert checked(Outer, data) == Outer("x", (Inner((1.0, 2.5), {"a": 1, "b": "1"}),))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "Input should be a dictionary"),
        ({}, "name: Field required"),
        ({"name": 1}, "name: Input should be a valid string"),
        ({"name": "x", "inner": [{"values": ["a"]}]}, r"inner\.0\.values\.0: Input should be a valid number"),
        ({"name": "x", "inner": [{"values": ["nan"]}]}, "a number in it is not finite"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(data: Any, sentence: str) -> None:
    """A missing part, a part of another type and a text that becomes no finite number are refused."""
    with pytest.raises(ValueError, match=sentence):
        checked(Outer, data)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("w.bin", True),
        ("data/w.bin", True),
        ("..w.bin", True),
        ("", False),
        ("..", False),
        ("a/../../b", False),
        ("/etc/passwd", False),
        ("C:\\w.bin", False),
        ("C:w.bin", False),
        ("\\\\host\\w.bin", False),
        ("a\\..\\b", False),
    ],
)
def test_a_name_is_inside_where_it_is_on_every_system(name: str, inside: bool) -> None:
    """Absolute names, drives and ways up are outside, be they of POSIX or of Windows."""
    assert is_inside(name) is inside
