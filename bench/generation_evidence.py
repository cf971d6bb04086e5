"""What generators' likelihoods and answers say of a candidate against the baseline: evidence, absolute values, sentences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .evidence import BitsPerByte, Evidence, PairedAccuracy, Perplexity
from .generated import Generations
from .generation_quality import compared, of_divergences
from .predictions import WindowScores
from .quality import Estimate
from .quality_evidence import PairedQuality

_SHOWN = 5


def window_evidence(windows: Mapping[str, WindowScores], baseline: str) -> Iterator[Evidence]:
    """Perplexity, bits a byte and divergence of next tokens, on the same windows of text."""
    reference = windows.get(baseline)
    for variant, scores in windows.items():
        if variant == baseline or reference is None:
            continue
        yield Perplexity(variant, "perplexity", {}, reference.nll, scores.nll, scores.tokens)
        if scores.bytes is not None:
            yield BitsPerByte(variant, "bits_per_byte", {}, reference.nll, scores.nll, scores.bytes)
        found = of_divergences(scores.divergences or ())
        if found is not None:
            yield _itself(variant, "kl_divergence", found, 0.0)


def text_evidence(generations: Mapping[str, Generations], baseline: str) -> Iterator[Evidence]:
    """What the answers are worth and how far they are the baseline's, to the same prompts."""
    reference = generations.get(baseline)
    for variant, answers in generations.items():
        if variant == baseline or reference is None:
            continue
        for name, estimate in comparable(reference, answers).items():
            yield _itself(variant, name, estimate, float(answers.most) if name == "first_divergence" else 1.0)
        if answers.exact is not None and reference.exact is not None:
            yield PairedAccuracy(variant, "exact_match", {}, reference.exact, answers.exact)
        for name, estimate in answers.quality.items():
            if name in reference.quality:
                yield PairedQuality(variant, name, {}, reference.quality[name], estimate)


def comparable(reference: Generations, answers: Generations) -> dict[str, Estimate]:
    """The metrics that are themselves comparisons with the baseline, by name."""
    return compared(reference.tokens, answers.tokens, answers.most)


def _itself(variant: str, name: str, estimate: Estimate, same: float) -> Evidence:
    """A metric that is itself a comparison, so that it has a value only; `same` is what the baseline has against itself."""
    nothing = np.zeros_like(estimate.influence)
    return PairedQuality(variant, name, {}, Estimate(same, nothing, nothing), estimate, kinds=("value",))


def without_divergences(scores: WindowScores) -> WindowScores:
    """The likelihoods alone: divergences are from the baseline of their own run and of no other."""
    return replace(scores, divergences=None)


def near_tie_sentences(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tell of each variant whose padded batch answered otherwise than single requests at a tie, and where."""
    for event in events:
        ties = event.get("near_ties", ()) if event["event"] == "checked" else ()
        if ties:
            places = [f"prompt {each['prompt']} token {each['place']} ({each['margin']:.1e})" for each in ties[:_SHOWN]]
            yield (
                f"{event['variant']}: a left-padded batch and single requests chose other tokens where the two best logits all but "
                f"tie: {', '.join(places)}; rounding decides there."
            )
