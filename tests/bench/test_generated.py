"""What is kept of generated answers: written and read again, shown side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from weighbridge.bench.generated import Generations, read_generations, side_by_side, write_generations
from weighbridge.optimize.errors import InputError


def generations(tokens: list[list[int]], **changes: object) -> Generations:
    """Answers of these tokens, their text the tokens as letters, each with a margin of a tenth of its place."""
    made = Generations(
        prompts=tuple(f"prompt {number}" for number in range(len(tokens))),
        references=tuple(f"reference {number}" for number in range(len(tokens))),
        tokens=tuple(np.array(each, dtype=np.int64) for each in tokens),
        margins=tuple(np.arange(len(each), dtype=np.float32) / 10 for each in tokens),
        texts=tuple("".join(chr(97 + token) for token in each) for each in tokens),
        most=4,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


BASE = generations([[1, 2, 3, 4], [5, 6], [7, 8, 9, 1]])
OTHER = generations([[1, 2, 3, 4], [5, 6, 7], [7, 3, 9, 1]])


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Tokens, margins, texts, prompts, references and how they were made come back; without references there are none."""
    bare = replace(OTHER, references=(), greedy=False)
    write_generations(tmp_path, {"base": BASE, "other": bare})
    found = read_generations(tmp_path)
    for name, expected in (("base", BASE), ("other", bare)):
        read = found[name]
        assert (read.prompts, read.references, read.texts) == (expected.prompts, expected.references, expected.texts)
        assert (read.most, read.greedy) == (expected.most, expected.greedy)
        for ours, theirs in zip((*read.tokens, *read.margins), (*expected.tokens, *expected.margins), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert "bleu" in found["base"].quality
    assert "bleu" not in found["other"].quality
    assert found["other"].exact is None


def test_a_run_without_answers_has_none_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    """No file is an empty answer; a cut file is an error that names it."""
    assert read_generations(tmp_path) == {}
    write_generations(tmp_path, {"base": BASE})
    path = tmp_path / "generations.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"generations\.parquet cannot be read as predictions"):
        read_generations(tmp_path)


def test_texts_stand_beside_the_baselines_with_place_and_margin() -> None:
    """The second prompt parts where the baseline has ended and has no margin, the third at token 1."""
    first, second, third = side_by_side({"base": BASE, "other": OTHER}, "base")
    assert (first.first_divergence, first.margin, first.near_tie) == (None, None, False)
    assert (second.first_divergence, second.margin) == (2, None)
    assert (third.first_divergence, third.margin, third.near_tie) == (1, pytest.approx(0.1), False)
    assert (third.variant, third.example, third.prompt, third.reference) == ("other", 2, "prompt 2", "reference 2")
    assert (third.baseline_text, third.text) == ("hijb", "hdjb")
    assert list(side_by_side({"other": OTHER}, "base")) == []


def test_a_near_tie_is_marked_unless_tokens_were_drawn() -> None:
    """The baseline's margin decides, not that of a candidate whose logits tie often; of drawn answers none is given."""
    tied = replace(BASE, margins=tuple(np.full(len(each), 5e-5, np.float32) for each in BASE.tokens))
    assert [each.near_tie for each in side_by_side({"base": tied, "other": OTHER}, "base")] == [False, False, True]
    coarse = replace(OTHER, margins=tuple(np.zeros(len(each), np.float32) for each in OTHER.tokens))
    assert not any(each.near_tie for each in side_by_side({"base": BASE, "other": coarse}, "base"))
    drawn = replace(OTHER, greedy=False)
    assert {each.margin for each in side_by_side({"base": tied, "other": drawn}, "base")} == {None}


def test_twenty_texts_are_shown_those_that_differ_first() -> None:
    """Of 30 prompts of which the last five differ, these are among the 20 shown, all in the order of the prompts."""
    base = generations([[1, 2]] * 30)
    other = generations([[1, 2]] * 25 + [[1, 3]] * 5)
    shown = [each.example for each in side_by_side({"base": base, "other": other}, "base")]
    assert shown == [*range(15), *range(25, 30)]
