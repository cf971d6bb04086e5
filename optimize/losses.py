"""What training minimises: losses of labels, of next tokens, and of a teacher's scores."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

Loss = Literal["cross-entropy", "mse", "hinge"]


def scores_of(outputs: Any) -> Any:
    """The scores among a module's outputs: `.logits`, else the first of a mapping or tuple, else the outputs."""
    scores = getattr(outputs, "logits", outputs)
    if isinstance(scores, Mapping):
        return next(iter(scores.values()))
    return scores[0] if isinstance(scores, tuple | list) else scores


def is_single(scores: Any) -> bool:
    """Whether scores are a single one a row, shape (rows,) or (rows, 1): for one of two classes, against the other."""
    return bool(scores.ndim == 1 or scores.shape[-1] == 1)


def label_loss(scores: Any, labels: Any, loss: Loss = "cross-entropy", weights: Any | None = None) -> Any:
    """Mean loss of the labels, shape (rows,), each row weighted by its class's weight, shape (classes,), where given.

    A single score a row speaks for class 1 of two. With p the probabilities (softmax; of a single score its sigmoid), s the
    scores and y the label:

    - cross-entropy: -ln p_y.
    - mse: mean over the classes of (p_k - [k = y])^2, which is the metric `mse`.
    - hinge: max(0, 1 - (s_y - max over k != y of s_k)) (Crammer and Singer, 2001); of a single score max(0, 1 - s), or
      max(0, 1 + s) for class 0.
    """
    each = _OF_ROWS[loss](scores.reshape(-1) if is_single(scores) else scores, labels)
    if weights is None:
        return each.mean()
    of_rows = weights.to(each.dtype)[labels.long()]
    return (each * of_rows).sum() / of_rows.sum()


def balanced_weights(labels: Any, classes: int) -> Any:
    """A weight a class, shape (classes,): rows / (classes that occur x rows of the class), as scikit-learn's "balanced".

    A class that does not occur has 1.
    """
    import torch

    counts = torch.bincount(labels.long(), minlength=classes)
    occurs = counts > 0
    return torch.where(occurs, len(labels) / (occurs.sum() * counts.clamp(min=1)), 1.0)


def next_token_loss(scores: Any, inputs: Mapping[str, Any]) -> Any:
    """Mean cross-entropy of each token of `input_ids` after the first, given those before it; padding does not count."""
    import torch

    ids = inputs["input_ids"][:, 1:]
    each = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), ids.flatten(), reduction="none")
    if "attention_mask" not in inputs:
        return each.mean()
    mask = inputs["attention_mask"]
    return each[(mask[:, 1:] * mask[:, :-1]).flatten().bool()].mean()


def divergence(scores: Any, wanted: Any, mask: Any | None = None, temperature: float = 1.0) -> Any:
    """Mean Kullback-Leibler divergence of softmax(scores / T) from softmax(wanted / T), in nats, times T squared.

    The square keeps the gradients as large as at T = 1 (Hinton and others, 2015). Shapes are (rows, classes), or (rows,
    positions, vocabulary), where positions that the mask leaves out do not count. A single score a row has no softmax:
    there it is the mean squared difference.
    """
    import torch

    if is_single(scores):
        return torch.nn.functional.mse_loss(scores, wanted)
    logs, targets = (torch.log_softmax(each / temperature, dim=-1) for each in (scores, wanted))
    each = torch.nn.functional.kl_div(logs, targets, reduction="none", log_target=True).sum(dim=-1)
    counted = each[mask.bool()] if mask is not None and mask.shape == each.shape else each
    return temperature**2 * counted.mean()


def _cross_entropy(scores: Any, labels: Any) -> Any:
    import torch

    if scores.ndim == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none")
    return torch.nn.functional.cross_entropy(scores, labels, reduction="none")


def _mean_squared_error(scores: Any, labels: Any) -> Any:
    import torch

    if scores.ndim == 1:
        return (scores.sigmoid() - labels.to(scores.dtype)) ** 2
    indicators = torch.nn.functional.one_hot(labels, scores.shape[-1]).to(scores.dtype)
    return ((scores.softmax(dim=-1) - indicators) ** 2).mean(dim=-1)


def _hinge(scores: Any, labels: Any) -> Any:
    import torch

    if scores.ndim == 1:
        return (1 - scores * (2 * labels.to(scores.dtype) - 1)).clamp(min=0)
    is_label = torch.nn.functional.one_hot(labels, scores.shape[-1]).bool()
    best_other = scores.masked_fill(is_label, -float("inf")).amax(dim=-1)
    return (1 - (scores[is_label] - best_other)).clamp(min=0)


_OF_ROWS: dict[Loss, Callable[[Any, Any], Any]] = {
    "cross-entropy": _cross_entropy,
    "mse": _mean_squared_error,
    "hinge": _hinge,
}
"""The loss of each row, shape (rows,), of scores (rows, classes), or (rows,) where they are single."""
