"""How far a candidate's outputs are from the source model's, on real inputs at several shapes, and may be."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .backends import backend
from .backends.base import Decoder, Opened, OpenOptions, Predictor
from .errors import BuildError, InputError, WeighbridgeError, first_line
from .model import Batch, Model, OnnxModel, PlanModel, Signature, TorchModel
from .variant import Parity

EXACT_RELATIVE = 1e-3
"""An exact step (export, fusion) may move an output by this share of the largest reference output."""
EXACT_AGREEMENT = 0.99
LOSSY_AGREEMENT = 0.5
"""Under this share of equal predictions on the probes a lossy variant is broken, not light."""
TIE = 1e-4
"""Two scores that are this near, as a share of the largest reference output, are equally high."""
_DECODE_STEPS = 2
_PREFILL_POSITIONS = 8
"""The last positions of a prompt see all the others; keeping only them bounds the memory that a vocabulary takes."""

Outputs = tuple[NDArray[np.float32], ...]
"""The scores of each probe, shape (rows, classes); for a decoder (positions, vocabulary), padding left out."""


@dataclass(frozen=True)
class Reference:
    """The source model's outputs on the probes: what every step and every artifact is held to."""

    signature: Signature
    probes: tuple[Batch, ...]
    outputs: Outputs

    def verify(self, opened: Opened, *, exact: bool) -> Parity:
        """Run a candidate on the probes and compare.

        Raises:
            BuildError: it cannot be run, its outputs are broken, or they are farther away than exact or lossy steps
                may move them.
        """
        outputs = _answers(opened, self.signature, self.probes, BuildError)
        broken = breakage(self.outputs, outputs)
        if broken:
            raise BuildError(broken)
        parity = compare(self.outputs, outputs, shapes_of(self.probes))
        refused = verdict(parity, exact=exact)
        if refused:
            raise BuildError(refused)
        return parity

    def verify_model(self, model: Model, *, exact: bool) -> Parity:
        """Verify a model that is not an artifact yet; raises as `verify` does."""
        with _opened(model) as opened:
            return self.verify(opened, exact=exact)


def reference_of(model: Model, probes: Sequence[Batch]) -> Reference:
    """Run the model that candidates are compared with; of a decoder's probes, padded ones are made too.

    Raises:
        InputError: it cannot be run on the probes, or its own outputs hold NaN or infinite numbers.
    """
    used = _used(model.signature, probes)
    with _opened(model) as opened:
        outputs = _answers(opened, model.signature, used, InputError)
    if _not_finite(outputs):
        raise InputError(
            "the model itself answers the data with NaN or infinite numbers: nothing can be compared with it"
        )
    return Reference(model.signature, used, outputs)


def need_sound(opened: Opened, signature: Signature, probes: Sequence[Batch]) -> None:
    """Check a model that there is nothing to compare with.

    Raises:
        InputError: it cannot be run on the probes.
        BuildError: its outputs hold NaN or infinite numbers, or are the same for every input.
    """
    outputs = _answers(opened, signature, _used(signature, probes), InputError)
    broken = _not_finite(outputs) or _constancy(outputs)
    if broken:
        raise BuildError(broken)


def open_model(model: Model) -> Opened:
    """Open a module in memory, a bare ONNX file, a plan or a fake model, to look at its answers."""
    if isinstance(model, TorchModel):
        from .backends.torch_backend import open_in_memory

        return open_in_memory(model)
    if isinstance(model, OnnxModel):
        return backend("onnxruntime").open(model.path.parent, (model.path.name,), model.signature, OpenOptions())
    if isinstance(model, PlanModel):
        return backend("tensorrt").open(model.path.parent, (model.path.name,), model.signature, OpenOptions())
    from .backends.fake_backend import Behaviour, FakePredictor

    return FakePredictor(Behaviour.model_validate(model.behaviour))


@contextlib.contextmanager
def _opened(model: Model) -> Iterator[Opened]:
    opened = open_model(model)
    try:
        yield opened
    finally:
        opened.close()


def _used(signature: Signature, probes: Sequence[Batch]) -> tuple[Batch, ...]:
    return padded_probes(probes) if signature.kind == "decoder" else tuple(probes)


def _answers(opened: Opened, signature: Signature, probes: Sequence[Batch], blame: type[WeighbridgeError]) -> Outputs:
    """The outputs on the probes; whatever is raised becomes an error of the kind given."""
    try:
        return outputs_of(opened, signature, probes)
    except WeighbridgeError as error:
        raise blame(str(error)) from error
    except Exception as error:
        raise blame(f"it cannot be run on the data: {first_line(error)}") from error


def outputs_of(opened: Opened, signature: Signature, probes: Sequence[Batch]) -> Outputs:
    """Run every probe; a decoder prefills and then takes two steps, so that its cache is seen too."""
    if signature.kind == "decoder":
        return tuple(_decoded(cast("Decoder", opened), probe) for probe in probes)
    return tuple(_scored(cast("Predictor", opened), signature, probe) for probe in probes)


def _scored(predictor: Predictor, signature: Signature, probe: Batch) -> NDArray[np.float32]:
    outputs = predictor.arrays(predictor.infer(predictor.load(probe)))
    named = outputs.get(signature.outputs[0]) if signature.outputs else None
    scores = np.asarray(next(iter(outputs.values())) if named is None else named, dtype=np.float32)
    return scores.reshape(len(scores), -1) if scores.ndim else scores.reshape(1, 1)


def _decoded(decoder: Decoder, probe: Batch) -> NDArray[np.float32]:
    """Logits at the last real positions of the prompt, then after each of two further tokens, the same for all."""
    ids, mask = np.asarray(probe["input_ids"], np.int64), np.asarray(probe["attention_mask"], np.int64)
    logits, past = decoder.step(ids, mask, None)
    parts = [logits[:, -_PREFILL_POSITIONS:][mask[:, -_PREFILL_POSITIONS:].astype(bool)]]
    for step in range(_DECODE_STEPS):
        fed = np.ascontiguousarray(ids[:, [-1 - step % ids.shape[1]]])
        mask = np.concatenate([mask, np.ones_like(fed)], axis=1)
        logits, past = decoder.step(fed, mask, past)
        parts.append(logits[:, -1])
    return np.concatenate(parts)


def padded_probes(probes: Sequence[Batch]) -> tuple[Batch, ...]:
    """The probes of a decoder, and after each batch of several rows the same with a quarter of its first row padded."""
    padded: list[Batch] = []
    for probe in probes:
        padded.append(probe)
        ids, mask = probe["input_ids"], probe["attention_mask"]
        quarter = ids.shape[1] // 4
        if len(ids) > 1 and quarter:
            ids, mask = np.array(ids), np.array(mask)
            mask[0, :quarter] = 0
            ids[0, :quarter] = 0
            padded.append({"input_ids": ids, "attention_mask": mask})
    return tuple(padded)


def shapes_of(probes: Sequence[Batch]) -> tuple[str, ...]:
    """The shapes of the probes' first inputs, each once, as in 4x32."""
    return tuple(dict.fromkeys("x".join(map(str, next(iter(probe.values())).shape)) for probe in probes))


def compare(reference: Outputs, candidate: Outputs, shapes: Sequence[str] = ()) -> Parity:
    """The worst distance over all probes; both sides have the same shapes and finite numbers (see `breakage`).

    `max_relative` is the largest difference as a share of the largest reference output; `cosine` the lowest cosine of a
    row. `agreement` is the share of rows with the same highest score, ties counting as agreement.
    """
    largest = max(float(np.abs(r).max()) for r in reference) or 1.0
    pairs = list(zip(reference, candidate, strict=True))
    difference = max(float(np.abs(r - c).max()) for r, c in pairs)
    same = np.concatenate([_agreeing(r, c, TIE * largest, _threshold(reference)) for r, c in pairs])
    cosine = min(float(_cosine(r, c).min()) for r, c in pairs)
    return Parity(difference, difference / largest, cosine, float(same.mean()), tuple(shapes))


def _threshold(reference: Outputs) -> float:
    """Where a single score changes sides: at 0.5 where all are probabilities, else at 0."""
    probabilities = all(scores.min() >= 0 and scores.max() <= 1 for scores in reference)
    return 0.5 if probabilities else 0.0


def _agreeing(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], tie: float, threshold: float
) -> NDArray[np.bool_]:
    if reference.shape[1] == 1:
        same_side = (reference > threshold) == (candidate > threshold)
        return np.asarray((same_side | (np.abs(reference - threshold) <= tie))[:, 0])
    chosen = np.take_along_axis(reference, candidate.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.asarray(chosen >= reference.max(axis=1) - tie)


def _cosine(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of each row; 1 where both are zero."""

    def products(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
        summed: NDArray[np.float64] = np.einsum("ij,ij->i", a, b, dtype=np.float64)
        return summed

    norms = np.sqrt(products(reference, reference) * products(candidate, candidate))
    both_zero = (norms == 0) & (np.abs(reference - candidate).max(axis=1) == 0)
    cosine: NDArray[np.float64] = products(reference, candidate) / np.where(norms == 0, 1.0, norms)
    cosine[both_zero] = 1.0
    return cosine


def breakage(reference: Outputs, candidate: Outputs) -> str:
    """Say in what way a candidate's outputs are no answers at all; empty where they are some."""
    for r, c in zip(reference, candidate, strict=True):
        if r.shape != c.shape:
            return f"outputs have the shape {_text(c)} instead of {_text(r)}"
    return _not_finite(candidate) or ("" if _constancy(reference) else _constancy(candidate))


def _text(scores: NDArray[np.float32]) -> str:
    return "x".join(map(str, scores.shape))


def _not_finite(outputs: Outputs) -> str:
    finite = all(np.isfinite(scores).all() for scores in outputs)
    return "" if finite else "outputs hold NaN or infinite numbers"


def _constancy(outputs: Outputs) -> str:
    rows = [row for scores in outputs for row in scores]
    constant = len(rows) > 1 and all(np.array_equal(rows[0], row) for row in rows[1:])
    return "outputs are constant: the same for every input" if constant else ""


def verdict(parity: Parity, *, exact: bool) -> str:
    """Say why outputs are too far from the reference; empty where they are near enough.

    Exact steps may differ by rounding only; lossy ones (half precision, quantization, pruning) must still agree with
    the reference on half of the probes.
    """
    if exact and (parity.max_relative > EXACT_RELATIVE or parity.agreement < EXACT_AGREEMENT):
        return (
            f"outputs differ by {parity.max_relative:.2g} of the largest (allowed {EXACT_RELATIVE:g}) and "
            f"{parity.agreement:.1%} of the probes are answered as before (at least {EXACT_AGREEMENT:.0%})"
        )
    if parity.agreement < LOSSY_AGREEMENT:
        return f"only {parity.agreement:.0%} of the probes are answered as before (at least {LOSSY_AGREEMENT:.0%})"
    return ""
