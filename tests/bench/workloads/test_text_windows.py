"""Token streams cut into prompts and windows; prompts padded on the left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.workloads.prompts import Prompts, left_padded
from weighbridge.bench.workloads.text_windows import (
    TokenText,
    bytes_of_tokens,
    prompts_apart,
    prompts_of,
    windows_of,
    windows_of_references,
)
from weighbridge.optimize.errors import InputError


def text(count: int) -> TokenText:
    """Tokens 0, 1, 2, ... of one, two, three, one, ... bytes."""
    return TokenText(np.arange(count), 1 + np.arange(count) % 3)


def test_prompts_are_pieces_of_the_text_of_exactly_their_length() -> None:
    """Every prompt stands in the token stream, those to answer do not overlap, and a text shorter than one is refused."""
    prompts = prompts_of(np.arange(100), 8, np.random.default_rng(0))
    assert prompts.shape == (64, 8)
    assert (np.diff(prompts, axis=1) == 1).all()
    assert prompts_apart(np.arange(100), 8, 3).tolist() == [[*range(at, at + 8)] for at in (0, 40, 88)]
    assert prompts_apart(np.arange(100), 8, 64).shape == (12, 8)
    for cut in (lambda ids: prompts_of(ids, 8, np.random.default_rng(0)), lambda ids: prompts_apart(ids, 8, 3)):
        with pytest.raises(InputError, match="fewer than one prompt of 8"):
            cut(np.arange(5))


def test_windows_without_overlap_score_all_but_their_first_token() -> None:
    """Seven whole windows of 128 fit in 1000 tokens; three of 64 are spread over them, with the bytes of their scored tokens."""
    assert windows_of(text(1000), 128, 128).ids.shape == (7, 128)
    found = windows_of(text(1000), 64, 64, 3)
    assert found.ids[:, 0].tolist() == [0, 448, 896]
    assert found.scored.sum(axis=1).tolist() == [63] * 3
    assert found.bytes.tolist() == [sum(1 + token % 3 for token in range(at + 1, at + 64)) for at in (0, 448, 896)]


@given(st.integers(2, 40), st.integers(1, 40), st.integers(60, 400))
def test_no_token_is_scored_twice_nor_without_text_before_it(size: int, stride: int, count: int) -> None:
    """Whatever window and stride, each scored token has at least size - stride before it, and none is scored in two windows."""
    stride = min(size, stride)
    if count < size + stride:
        return
    found = windows_of(text(count), size, stride)
    scored = found.ids[found.scored == 1]
    assert len(np.unique(scored)) == len(scored)
    before = np.where(found.scored == 1)[1]
    assert (before >= np.where(found.ids[:, 0][np.where(found.scored == 1)[0]] == 0, 1, max(1, size - stride))).all()


def test_a_window_may_be_scored_where_a_character_has_no_byte_left() -> None:
    """Of a character in three tokens the first stands for all its bytes, and a window that scores a later one alone for none."""
    sizes = bytes_of_tokens("中文字", np.array([1, 1, 1, 2, 2, 2, 3, 3, 3]))
    assert sizes.tolist() == [3, 0, 0] * 3
    assert windows_of(TokenText(np.arange(9), sizes), 3, 1).bytes.tolist() == [0, 3, 0, 0, 3, 0, 0]


def test_a_text_of_one_window_is_refused() -> None:
    """Two windows are the least, and the text says what is there and what to do; a limit of one example is refused too."""
    with pytest.raises(
        InputError, match=r"the text has 200 tokens.*needs at least 2 windows of 128 tokens.*Give more text"
    ):
        windows_of(text(200), 128, 128)
    with pytest.raises(InputError, match="of which 1 windows are wanted"):
        windows_of(text(2000), 128, 128, 1)


def test_a_reference_is_scored_given_its_prompt() -> None:
    """Prompt and reference stand at the right end of the window, padding before them, and only the reference counts."""
    prompts = [np.array([1, 2, 3]), np.array([4])]
    found = windows_of_references(
        prompts, [TokenText(np.array([8, 9]), np.array([3, 4])), TokenText(np.array([7]), np.array([2]))], 0
    )
    assert found.ids.tolist() == [[1, 2, 3, 8, 9], [0, 0, 0, 4, 7]]
    assert found.mask.tolist() == [[1] * 5, [0, 0, 0, 1, 1]]
    assert found.scored.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    assert found.bytes.tolist() == [7, 2]


def test_prompts_are_padded_on_the_left_or_lose_their_beginning() -> None:
    """The last tokens of a prompt are what an answer goes on from: they are kept."""
    ids, mask = left_padded([np.array([1, 2, 3, 4]), np.array([5])], 3, pad=9)
    assert ids.tolist() == [[2, 3, 4], [9, 9, 5]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@given(st.text(min_size=1, max_size=30), st.data())
def test_the_bytes_of_tokens_add_up_to_the_text(letters: str, data: st.DataObject) -> None:
    """Cut anywhere, with a special token before and after, the pieces have as many bytes as their UTF-8 text."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(letters)), max_size=5)) | {len(letters)})
    found = bytes_of_tokens(letters, np.array([0, *cuts, 0]))
    pieces = [letters[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
    assert found.tolist() == [0, *(len(piece.encode("utf-8")) for piece in pieces), 0]


def test_an_answer_ends_with_its_first_end_token() -> None:
    """The end token is kept, what follows it is not; an answer without one is whole."""
    asked = Prompts((), (), (), 5, end_tokens=(7, 9))
    assert asked.until_end(np.array([1, 9, 7, 2])).tolist() == [1, 9]
    assert asked.until_end(np.array([1, 2])).tolist() == [1, 2]
