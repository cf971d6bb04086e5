"""The arrays of a prepared workload: every input in a file of its own, whatever a model calls it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.workloads.base import array_file, need_room
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.model import Signature, TensorSpec

NAMES = ["x", "../x", "/etc/x", "a/b:0", "..", "", ".npy", "a.npy", "%2e%2e%2f", "\u00e9t\u00e9", "a\0b", "C:\\x"]


def test_arrays_come_back_under_the_names_of_the_inputs(fake_workload: object, tmp_path: Path) -> None:
    """Names that climb out of a folder, name a folder in it or are no file names are kept, each in a file of the folder."""
    place = tmp_path / "evaluation" / "0"
    place.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        np.save(array_file(place, name), np.full(2, number))
    assert len(list(place.iterdir())) == len(NAMES)
    found = type(fake_workload)(**{**vars(fake_workload), "folder": tmp_path}).arrays("evaluation", 0)
    assert {name: int(array[0]) for name, array in found.items()} == {name: at for at, name in enumerate(NAMES)}


@given(name=st.text(max_size=15))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    """Whatever the name, the file lies directly in the folder."""
    assert array_file(Path("folder"), name).parent == Path("folder")
    assert "/" not in array_file(Path("folder"), name).name


def test_a_name_that_no_file_can_have_is_refused() -> None:
    """A name of 300 letters is told with its beginning."""
    with pytest.raises(InputError, match=r"input 'xxxx.*\.\.\.' has a name of 300 letters; give it a shorter one"):
        array_file(Path(), "x" * 300)


@pytest.mark.parametrize(
    ("shape", "examples", "fits"),
    [
        (("batch", 224, 224, 3), 256, True),
        (("batch", "length"), 256, True),
        (("batch", 2**40), 1, False),
        ((2**31, 4), 1, False),
        ((), 1, True),
    ],
)
def test_inputs_that_no_memory_holds_are_refused(shape: tuple[int | str, ...], examples: int, fits: bool) -> None:
    """What one batch, or the examples asked for, would take is counted before anything is allocated; free sizes count once."""
    signature = Signature("classifier", (TensorSpec("x", "float32", shape),), ("y",))
    if fits:
        need_room(signature, examples)
    else:
        with pytest.raises(InputError, match="numbers, more than can be held"):
            need_room(signature, examples)
