"""The evaluation data of a search in two parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from weighbridge.bench.config import WorkloadConfig
from weighbridge.bench.search_split import Parts, expected_sentence, split
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.optimize.errors import ConfigError, InputError


def numbers(part: Prepared) -> list[int]:
    """The row numbers, which fake rows hold in their second column."""
    return [int(row[1]) for row in part.arrays("evaluation", 0)["x"]]


@pytest.fixture
def parts(fake_workload: Prepared, tmp_path: Path) -> Parts:
    return split(fake_workload, tmp_path / "parts", seed=3, sample=48)


def test_every_example_is_in_one_part_and_classes_are_shared_out(parts: Parts) -> None:
    """Choosing and judging part share no row and leave none out; each class, and the sample, has its share in both."""
    assert sorted(numbers(parts.choosing) + numbers(parts.judging)) == list(range(300))
    for part, share in ((parts.choosing, 50), (parts.judging, 50), (parts.sample, 16)):
        labels = part.labels()
        assert labels is not None
        assert np.bincount(labels).tolist() == [share] * 3
        assert [int(row[0]) for row in part.arrays("evaluation", 0)["x"]] == labels.tolist()
    assert numbers(parts.sample) == numbers(parts.choosing)[:48]


def test_a_seed_gives_one_division(fake_workload: Prepared, parts: Parts, tmp_path: Path) -> None:
    """The same seed divides alike, another one otherwise; parts are told apart by their hash."""
    again = split(fake_workload, tmp_path / "again", seed=3, sample=48)
    other = split(fake_workload, tmp_path / "other", seed=4, sample=48)
    assert numbers(again.judging) == numbers(parts.judging) != numbers(other.judging)
    assert again.judging.data_sha256 == parts.judging.data_sha256 != parts.choosing.data_sha256


def test_a_part_keeps_what_belongs_to_its_rows(tmp_path: Path, write_behaviour: type) -> None:
    """Slices go with their rows, calibration data and raw inputs are the whole workload's, and the judging part tells of the search."""
    path = write_behaviour(tmp_path / "m.fake.json")
    config = WorkloadConfig(name="w", task="tabular-classification", model=str(path), columns={"slices": ("parity",)})
    prepared = prepare_fake(config, path, tmp_path / "prepared")
    (prepared.folder / "raw").mkdir()
    (prepared.folder / "raw" / "texts.json").write_text("[]", encoding="utf-8")
    judging = split(prepared, tmp_path, seed=0).judging
    assert (judging.folder / "raw" / "texts.json").is_file()
    expected = ["odd" if number % 2 else "even" for number in numbers(judging)]
    assert list(judging.slices()["parity"]) == expected
    assert Prepared.read(judging.folder) == judging
    whole, part = (each.arrays("calibration", 0)["x"] for each in (prepared, judging))
    assert np.array_equal(whole, part)
    assert judging.notices == (
        "Searched: judged on 150 examples that the search did not choose on; it chose on 150 others.",
    )


def test_what_cannot_be_divided_is_refused(fake_workload: Prepared, tmp_path: Path) -> None:
    """A handful of windows, a handful of examples, and data without labels are refused with what to do."""
    with pytest.raises(
        InputError, match=r"windows of text in two, and 7 are too few for that: give at least 8, by more text"
    ):
        split(replace(fake_workload, kind="decoder", examples=7), tmp_path, seed=0)
    labels = fake_workload.folder / "evaluation" / "labels.npy"
    kept = np.load(labels)
    np.save(labels, kept[:39])
    with pytest.raises(InputError, match="39 examples are too few for that: give at least 40"):
        split(fake_workload, tmp_path, seed=0)
    labels.unlink()
    with pytest.raises(ConfigError, match="search needs labels: set"):
        split(fake_workload, tmp_path, seed=0)


def test_the_interval_to_expect_is_told() -> None:
    """With 2 % of 2000 answers changed evenly, Tango's bounds are the normal approximation's z * sqrt(0.02 / n), 0.62, and a little more."""
    assert expected_sentence(2000, 0.025) == (
        "With 2% of the answers changed, as many for better as for worse, 2,000 judging examples would bound the difference of "
        "accuracies to -0.65 and +0.65 points."
    )
    assert 100 * 1.96 * np.sqrt(0.02 / 2000) == pytest.approx(0.62, abs=0.005)
