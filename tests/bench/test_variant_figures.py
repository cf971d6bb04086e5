"""The script behind the classifiers' figures: how many times as fast a variant is as any other, not only as the baseline."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from weighbridge.bench.samples import CONTROL, Recorder, key_of

LEVELS = {"base": 2.0, CONTROL: 2.0, "light": 1.0, "other": 4.0}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return load_script("variant_figures")


@pytest.mark.parametrize(("other", "speed"), [("base", "2.00x [2.00, 2.00]"), ("other", "4.00x [4.00, 4.00]")])
def test_the_control_is_the_baselines_twin_whoever_is_compared(
    script: ModuleType, tmp_path: Path, other: str, speed: str
) -> None:
    """1 ms against 2 and 4 ms is 2 and 4 times as fast, to the last digit where the twin is like the baseline; nobody is against itself."""
    for number in range(1, 5):
        recorder = Recorder(number)
        for name, milliseconds in LEVELS.items():
            for shape in ({"batch_size": 1, "sequence_length": 32, "threads": 1},):
                calls = [[milliseconds]] * 10
                recorder.add(calls, ["timed"] * 10, variant=name, shape=key_of(shape), round_=1, visit=1)
        recorder.write(tmp_path)
    results = SimpleNamespace(folder=tmp_path, baseline=SimpleNamespace(name="base"))
    assert script.speeds_over(results, "light", other) == [("1x32", speed)]
    assert script.speeds_over(results, other, other) == []
