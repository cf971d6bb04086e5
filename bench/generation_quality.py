"""The quality metrics of generators, as values with their influence functions (quality.py): of answers to prompts, of next tokens.

An answer's value on a metric lies between known ends, so that the worst that one more answer could be is an end; of BLEU, an
answer that has nothing of its reference, or all. Nothing bounds a divergence: the worst that one more window could be is the
worst place of those that were compared.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .quality import Estimate, Floats

Tokens = NDArray[np.int64]

_ROUGE = ("rouge1", "rouge2", "rougeL")
_ORDERS = 4
"""BLEU counts n-grams of 1 to 4 words."""
_MOST_BLEU = 100.0


def of_values(values: Floats, least: float, most: float) -> Estimate:
    """The mean of one value an example, shape (examples,), each between two ends."""
    mean = float(values.mean())
    ends = np.stack([np.full_like(values, least - mean), np.full_like(values, most - mean)])
    return Estimate(mean, values - mean, ends)


def of_tokens(answers: Sequence[Tokens]) -> dict[str, Estimate]:
    """How much the answers repeat themselves, from their tokens alone."""
    found: dict[str, Callable[[Tokens], float]] = {
        "repetition": lambda tokens: 1 - distinct(tokens, 4),
        "distinct_1": lambda tokens: distinct(tokens, 1),
        "distinct_2": lambda tokens: distinct(tokens, 2),
    }
    return {name: of_values(np.array([value(each) for each in answers]), 0.0, 1.0) for name, value in found.items()}


def distinct(tokens: Tokens, n: int) -> float:
    """The share of an answer's n-grams that are different; 1 for an answer that is shorter than one."""
    grams = [tuple(tokens[place : place + n].tolist()) for place in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def compared(baseline: Sequence[Tokens], candidate: Sequence[Tokens], most: int) -> dict[str, Estimate]:
    """How far the answers are those of the baseline to the same prompts; `most` tokens an answer at most."""
    agreement = np.array([agreeing(*pair) for pair in zip(baseline, candidate, strict=True)])
    apart = [first_divergence(*pair) for pair in zip(baseline, candidate, strict=True)]
    first = np.array([most if place is None else place for place in apart], dtype=np.float64)
    return {
        "token_agreement": of_values(agreement, 0.0, 1.0),
        "first_divergence": of_values(first, 0.0, float(most)),
    }


def agreeing(first: Tokens, second: Tokens) -> float:
    """The share of the positions of the longer answer at which both have the same token."""
    both = min(len(first), len(second))
    return float((first[:both] == second[:both]).sum()) / max(len(first), len(second))


def first_divergence(first: Tokens, second: Tokens) -> int | None:
    """The first position at which two answers differ, the end of the shorter one included; None where they are the same."""
    both = min(len(first), len(second))
    apart = np.flatnonzero(first[:both] != second[:both])
    if len(apart):
        return int(apart[0])
    return None if len(first) == len(second) else both


def of_divergences(windows: Sequence[Floats]) -> Estimate | None:
    """The mean over windows of the mean of the divergences at their places; None where no place was compared."""
    taken = [each for each in windows if len(each)]
    if not taken:
        return None
    return of_values(np.array([each.mean() for each in taken]), 0.0, float(np.concatenate(taken).max()))


def of_references(texts: Sequence[str], references: Sequence[str]) -> dict[str, Estimate]:
    """BLEU and ROUGE of the answers, white space at both ends left out."""
    stripped, wanted = ([text.strip() for text in each] for each in (texts, references))
    return {**rouge(stripped, wanted), "bleu": bleu(stripped, wanted)}


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, Estimate]:
    """The mean F-measures of ROUGE-1, -2 and -L (C. Lin, 2004), by rouge-score without stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(_ROUGE), use_stemmer=False)
    scores = [scorer.score(reference, text) for text, reference in zip(texts, references, strict=True)]
    return {name: of_values(np.array([float(each[name].fmeasure) for each in scores]), 0.0, 1.0) for name in _ROUGE}


def bleu(texts: Sequence[str], references: Sequence[str]) -> Estimate:
    """Corpus BLEU (K. Papineni and others, 2002) with sacrebleu's defaults, 0 to 100.

    A function of sums over examples: matches m_n and n-grams t_n of each order, words c of the answers and r of the references.
    log BLEU = min(0, 1 - r/c) + mean of log(m_n / t_n), so that an example's influence is BLEU times the sum of its own numbers
    times the derivatives. An order without a match is smoothed, and taken as constant; of a BLEU of 0 nothing is known but its ends.
    """
    from sacrebleu.metrics import BLEU

    single = BLEU(effective_order=True)
    scores = [single.sentence_score(text, [reference]) for text, reference in zip(texts, references, strict=True)]
    matches = np.array([each.counts for each in scores], dtype=np.float64)
    grams = np.array([each.totals for each in scores], dtype=np.float64)
    words = np.array([each.sys_len for each in scores], dtype=np.float64)
    wanted = np.array([each.ref_len for each in scores], dtype=np.float64)
    sums = [[int(total) for total in each.sum(axis=0)] for each in (matches, grams)]
    value = float(BLEU.compute_bleu(*sums, int(words.sum()), int(wanted.sum()), smooth_method="exp").score)

    if value == 0:
        return of_values(np.zeros(len(texts)), 0.0, _MOST_BLEU)
    met = matches.sum(axis=0) > 0

    def influence(matched: Floats) -> Floats:
        moved = matched[:, met] / matches[:, met].sum(axis=0) - grams[:, met] / grams[:, met].sum(axis=0)
        total = moved.sum(axis=1) / _ORDERS
        if words.sum() < wanted.sum():
            total += (words * wanted.sum() / words.sum() - wanted) / words.sum()
        found: Floats = len(texts) * value * total
        return found

    return Estimate(value, influence(matches), np.stack([influence(np.zeros_like(matches)), influence(grams)]))


def exact(texts: Sequence[str], references: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each answer is its reference, white space at both ends left out; shape (examples,)."""
    return np.array([text.strip() == reference.strip() for text, reference in zip(texts, references, strict=True)])
