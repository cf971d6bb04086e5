"""Parity: distances as by hand, and broken outputs named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from weighbridge.optimize import parity
from weighbridge.optimize.backends.torch_backend import open_in_memory
from weighbridge.optimize.errors import BuildError, InputError
from weighbridge.optimize.model import Batch, FakeModel, Signature, TensorSpec
from weighbridge.optimize.parity import breakage, compare, need_sound, open_model, padded_probes, reference_of, verdict
from weighbridge.optimize.variant import Parity

Get = Callable[[str], Any]
scores = arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32))
SIGNATURE = Signature("classifier", (TensorSpec("x", "float32", ("batch", 2)),), ("scores",))
ROWS: Batch = {"x": np.array([[0, 0], [1, 1], [2, 2]], np.float32)}


def fake(**behaviour: Any) -> FakeModel:
    return FakeModel(behaviour, SIGNATURE)


def of(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_distances_are_those_by_hand() -> None:
    """The largest difference, its share of the largest output, the lowest cosine and the agreement over all probes."""
    reference = (of([3.0, 4.0], [10.0, 0.0]), of([0.0, 1.0]))
    candidate = (of([4.0, 3.0], [10.0, 0.0]), of([0.0, 1.0]))
    found = compare(reference, candidate, ["2x2"])
    assert found.max_abs == pytest.approx(1)
    assert found.max_relative == pytest.approx(0.1)
    assert found.cosine == pytest.approx(24 / 25)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.shapes == ("2x2",)


@given(scores)
def test_equal_outputs_are_at_no_distance(reference: NDArray[np.float32]) -> None:
    """A model agrees with itself, whatever its outputs."""
    found = compare((reference,), (reference.copy(),))
    assert (found.max_abs, found.max_relative, found.agreement) == (0, 0, 1)
    assert found.cosine == pytest.approx(1)
    assert verdict(found, exact=True) == ""


@given(scores, scores)
def test_the_cosine_is_scipys(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
    """Of rows that are not zero the cosine is 1 - scipy's cosine distance."""
    from scipy.spatial.distance import cosine

    reference, candidate = reference + np.float32(200), candidate + np.float32(200)
    expected = min(1 - cosine(r.astype(float), c.astype(float)) for r, c in zip(reference, candidate, strict=True))
    assert compare((reference,), (candidate,)).cosine == pytest.approx(expected, abs=1e-6)


def test_a_zeroed_row_has_no_cosine_with_a_row_of_numbers() -> None:
    """Two zero rows are alike; a zero row and another are not."""
    assert compare((of([0, 0]),), (of([0, 0]),)).cosine == 1
    assert compare((of([0, 1]),), (of([0, 0]),)).cosine == 0


def test_ties_count_as_agreement() -> None:
    """Two scores within 1e-4 of the largest output are equally high; a wider gap is not a tie."""
    assert compare((of([100.0, 99.995]),), (of([99.995, 100.0]),)).agreement == 1
    assert compare((of([100.0, 99.9]),), (of([99.9, 100.0]),)).agreement == 0


@pytest.mark.parametrize(
    ("reference", "candidate", "agreement"),
    [
        ([[0.9], [0.1]], [[0.6], [0.6]], 0.5),
        ([[5.0], [-5.0]], [[0.1], [-0.1]], 1.0),
        ([[5.0], [-5.0]], [[-0.1], [-0.1]], 0.5),
    ],
)
def test_a_single_score_agrees_on_the_same_side(
    reference: list[list[float]], candidate: list[list[float]], agreement: float
) -> None:
    """One probability a row changes sides at a half, one logit at zero."""
    assert compare((of(*reference),), (of(*candidate),)).agreement == agreement


def test_the_side_is_chosen_over_all_probes() -> None:
    """Logits of one probe that happen to lie between 0 and 1 are not taken for probabilities."""
    assert compare((of([0.2]), of([-3.0])), (of([0.1]), of([-3.0]))).agreement == 1


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (of([1, 2, 3], [4, 5, 6]), "shape 2x3 instead of 2x2"),
        (of([1, np.nan], [2, 1]), "NaN or infinite"),
        (of([1, np.inf], [2, 1]), "NaN or infinite"),
        (of([1, 2], [1, 2]), "constant: the same for every input"),
        (of([1, 2], [2, 1]), ""),
    ],
)
def test_broken_outputs_are_named(candidate: NDArray[np.float32], words: str) -> None:
    """Another shape, NaN, infinity and one answer for everything are no answers; others are judged by distance."""
    found = breakage((of([1, 2], [4, 3]),), (candidate,))
    assert words in found if words else found == ""


def test_a_constant_model_may_stay_constant() -> None:
    """Where the source itself answers everything alike, the candidate may too."""
    assert breakage((of([1, 2], [1, 2]),), (of([1, 2], [1, 2]),)) == ""


@pytest.mark.parametrize(
    ("relative", "agreement", "exact", "words"),
    [
        (1e-4, 1.0, True, ""),
        (1e-2, 1.0, True, r"differ by 0\.01 of the largest \(allowed 0\.001\)"),
        (1e-4, 0.98, True, r"98\.0% of the probes are answered as before \(at least 99%\)"),
        (0.5, 0.5, False, ""),
        (0.5, 0.49, False, r"only 49% of the probes are answered as before \(at least 50%\)"),
    ],
)
def test_exact_and_lossy_steps_have_their_own_bounds(
    relative: float, agreement: float, exact: bool, words: str
) -> None:
    """Exact steps may differ by rounding only; lossy ones must keep half of the predictions."""
    import re

    found = verdict(Parity(1.0, relative, 0.9, agreement), exact=exact)
    assert re.search(words, found) if words else found == ""


def test_a_candidate_is_held_to_the_reference() -> None:
    """A fake model that answers alike passes; one that is wrong for most rows, constant, NaN or of another shape does not."""
    reference = reference_of(fake(), [ROWS])
    assert reference.verify_model(fake(), exact=True).agreement == 1
    cases = {"nan": "NaN", "constant": "constant", "wrong-shape": "shape 4x3 instead of 3x3"}
    for outputs, words in cases.items():
        with pytest.raises(BuildError, match=words):
            reference.verify_model(fake(outputs=outputs), exact=False)
    with pytest.raises(BuildError, match="only 0% of the probes"):
        reference.verify_model(fake(error_rate=1.0), exact=False)


def test_a_candidate_that_cannot_run_is_a_build_error() -> None:
    """Whatever a candidate raises on the probes is told with its kind."""
    reference = reference_of(fake(), [ROWS])
    with pytest.raises(BuildError, match="cannot be run on the data: RuntimeError: the fake model was told to fail"):
        reference.verify_model(fake(fault_at_call=1), exact=False)


def test_a_source_that_cannot_run_is_an_input_error() -> None:
    """The model that everything is compared with must run and give numbers; otherwise the model is to blame."""
    with pytest.raises(InputError, match="cannot be run on the data: RuntimeError"):
        reference_of(fake(fault_at_call=1), [ROWS])
    with pytest.raises(InputError, match="the model itself answers the data with NaN"):
        reference_of(fake(outputs="nan"), [ROWS])


def test_without_a_reference_a_model_must_be_sound() -> None:
    """Where there is nothing to compare with, NaN and constants are found out; answers that differ are enough."""
    need_sound(open_model(fake()), SIGNATURE, [ROWS])
    for outputs, words in {"nan": "NaN", "constant": "constant"}.items():
        with pytest.raises(BuildError, match=words):
            need_sound(open_model(fake(outputs=outputs)), SIGNATURE, [ROWS])
    with pytest.raises(InputError, match="cannot be run on the data"):
        need_sound(open_model(fake(fault_at_call=1)), SIGNATURE, [ROWS])


def test_a_decoders_batches_are_padded_too() -> None:
    """Each batch of several rows is followed by itself with the first quarter of its first row padded; the probes stay."""
    ids = np.arange(16).reshape(2, 8)
    probe = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    single = {"input_ids": ids[:1], "attention_mask": np.ones_like(ids[:1])}
    first, second, third = padded_probes([single, probe])
    assert first is single
    assert second is probe
    assert third["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8]
    assert third["input_ids"][0, :2].tolist() == [0, 0]
    assert probe["attention_mask"].all()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_cache_of_a_decoder_is_compared_too(torch_model: Get, name: str, probes: dict[str, Any]) -> None:
    """A decoder's outputs are those of the whole sequence at once: eight prefill positions and two steps with the cache."""
    import torch

    model = torch_model(name)
    ids = probes[name][1]["input_ids"]
    outputs = parity.outputs_of(open_in_memory(model), model.signature, [probes[name][1]])[0]
    whole = np.concatenate([ids, ids[:, [-1]], ids[:, [-2]]], axis=1)
    with torch.inference_mode():
        logits = model.module(input_ids=torch.from_numpy(whole)).logits.numpy()
    expected = np.concatenate([logits[:, :8].reshape(-1, logits.shape[-1]), logits[:, 8], logits[:, 9]])
    assert np.abs(outputs - expected).max() < 1e-4


def test_a_prompt_of_one_token_can_be_compared(torch_model: Get) -> None:
    """The shortest prompt gives a prefill position and two steps."""
    model = torch_model("gpt2")
    probe = {"input_ids": np.array([[7]]), "attention_mask": np.array([[1]])}
    assert len(parity.outputs_of(open_in_memory(model), model.signature, [probe])[0]) == 3


def test_a_broken_cache_is_found(torch_model: Get, probes: dict[str, Any]) -> None:
    """A decoder that forgets its cache answers the prefill right and is refused for its further tokens."""
    model = torch_model("gpt2")
    reference = reference_of(model, probes["gpt2"])
    whole = open_in_memory(model)

    class Forgetful:
        clock_ns = staticmethod(lambda: 0)

        def step(self, ids: Any, mask: Any, past: Any) -> Any:
            del past
            return whole.step(ids, mask[:, -ids.shape[1] :], None)  # type: ignore[union-attr]

        def close(self) -> None:
            """Nothing to give back."""

    with pytest.raises(BuildError, match="outputs differ by"):
        reference.verify(Forgetful(), exact=True)


def test_a_named_output_is_taken_before_the_first() -> None:
    """Where a graph gives the label before the scores, the scores are compared."""

    class Two:
        clock_ns = staticmethod(lambda: 0)

        def load(self, batch: Batch) -> Batch:
            return batch

        def infer(self, tensors: Any) -> Any:
            return tensors["x"]

        def arrays(self, outputs: Any) -> dict[str, Any]:
            return {"label": np.zeros(len(outputs), np.int64), "scores": outputs}

        def close(self) -> None:
            """Nothing to give back."""

    assert parity.outputs_of(Two(), SIGNATURE, [ROWS])[0].tolist() == ROWS["x"].tolist()
