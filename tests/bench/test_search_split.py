"""The evaluation data of a search in two parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from weighbridge.bench.config import WorkloadConfig
from weighbridge.bench.search_split import Parts, expected_sentence, split
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.bench.workloads.prompts import Prompts
from weighbridge.bench.workloads.text_windows import Windows
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.optimize.files import write_json
from weighbridge.optimize.source import Source


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


def test_a_sample_of_all_is_the_choosing_part(fake_workload: Prepared, tmp_path: Path) -> None:
    """Half of 300 examples are fewer than a sample may hold: no part of its own is written. One fewer than they are is a sample."""
    parts = split(fake_workload, tmp_path / "parts", seed=3)
    assert parts.sample == parts.choosing
    assert not parts.has_sample
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["choosing", "judging"]
    assert not split(fake_workload, tmp_path / "equal", seed=3, sample=150).has_sample
    assert split(fake_workload, tmp_path / "fewer", seed=3, sample=149).has_sample


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


def generator_workload(folder: Path, references: tuple[int, ...] = ()) -> Prepared:
    """A prepared workload of 16 windows, whose tokens are their numbers; of some the references are asked for."""
    for part in ("evaluation", "calibration"):
        (folder / part / "0").mkdir(parents=True)
    ids = np.repeat(np.arange(16)[:, None], 4, axis=1)
    Windows(ids, np.ones_like(ids), np.ones_like(ids), np.arange(16)).write(folder / "scoring")
    texts = tuple(f"prompt {window}" for window in references or (0, 1))
    prompts = Prompts(
        tuple(np.array([1, 2]) for _ in texts), texts, texts if references else (), 4, windows=references, folder=folder
    )
    (folder / "generation").mkdir()
    write_json(folder / "generation" / "prompts.json", prompts.facts())
    (folder / "generation" / "tokenizer.json").write_text("{}", encoding="utf-8")
    made = Prepared(
        folder=folder,
        name="w",
        task="text-generation",
        kind="decoder",
        source=Source("transformers", "model", "text-generation", "0"),
        class_names=(),
        lengths=(8,),
        examples=16,
        drawn=False,
        fixed_batch=None,
        data_sha256="0",
        calibration_sha256="1",
        notices=("Perplexity is over 16 windows.",),
    )
    made.write()
    return made


def test_a_generators_windows_are_in_one_part_each(tmp_path: Path) -> None:
    """Half of the windows are chosen on, the others judged, bytes with them; the sample is all, prompts and calibration are shared."""
    parts = split(generator_workload(tmp_path / "whole"), tmp_path / "parts", seed=1)
    found = [part.arrays("scoring", 0)["input_ids"][:, 0].tolist() for part in (parts.choosing, parts.judging)]
    assert sorted(found[0] + found[1]) == list(range(16))
    assert len(found[0]) == len(found[1]) == 8
    for part, numbers_ in zip((parts.choosing, parts.judging), found, strict=True):
        assert np.load(part.folder / "scoring" / "bytes.npy").tolist() == numbers_
        assert Prompts.read(part.folder).texts == ("prompt 0", "prompt 1")
        assert (part.folder / "generation" / "tokenizer.json").is_file()
        assert (part.folder / "calibration" / "0").is_dir()
        assert Prepared.read(part.folder) == part
    assert not parts.has_sample
    assert parts.choosing.data_sha256 != parts.judging.data_sha256
    assert parts.judging.notices == (
        "Perplexity is over 16 windows.",
        "Searched: of all windows of text 8 were chosen on, and what this run says is of the other 8 alone.",
    )


def test_prompts_go_with_the_windows_of_their_references(tmp_path: Path) -> None:
    """No prompt is answered in the judging run whose reference was chosen on; both parts have half of those asked."""
    asked = (1, 4, 9, 10, 12, 15)
    parts = split(generator_workload(tmp_path / "whole", asked), tmp_path / "parts", seed=2)
    texts = []
    for part in (parts.choosing, parts.judging):
        prompts, ids = Prompts.read(part.folder), part.arrays("scoring", 0)["input_ids"][:, 0]
        assert prompts.texts == prompts.references
        assert prompts.texts == tuple(f"prompt {ids[window]}" for window in prompts.windows)
        texts.append(prompts.texts)
    assert [len(each) for each in texts] == [3, 3]
    assert sorted(texts[0] + texts[1]) == sorted(f"prompt {window}" for window in asked)


def test_one_prompt_is_answered_whatever_part_its_reference_is_in(tmp_path: Path) -> None:
    """A run cannot do without prompts: where all of them would go to the other part, they are in both."""
    parts = split(generator_workload(tmp_path / "whole", (3,)), tmp_path / "parts", seed=0)
    assert [Prompts.read(part.folder).texts for part in (parts.choosing, parts.judging)] == [("prompt 3",)] * 2


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
