"""What a lighter variant did not gain over the dense FP32 one of its backend: said in its row, whatever the baseline is.

A variant may be faster than the baseline and still the wrong one to ship: 8-bit numbers of a small model often take longer to
make than they save.
"""

from collections.abc import Iterator, Mapping, Sequence

from ..optimize.variant import Manifest
from .evidence import ReplicateRatios
from .evidence_of_run import speed_piece
from .metrics import METRICS, ModelKind
from .samples import Replicate
from .sentences import shape_words
from .speed import Statistic, statistics

_DENSE = 0.1
"""Share of zeros of a dense model at most: a padding row of an embedding is zero, and a few weights are by chance."""
_SPEED: Mapping[ModelKind, str] = {"classifier": "latency_p50", "decoder": "tpot"}


def no_gain_notes(
    manifests: Mapping[str, Manifest],
    replicates: Sequence[Replicate],
    kind: ModelKind,
    baseline: str,
    *,
    planned: int,
    error_rate: float,
) -> dict[str, str]:
    """By variant, what is no gain over its dense FP32 relative: a time that is longer by its whole interval, more bytes."""
    dense = _dense(manifests)
    shapes = {shape for each in replicates for _, shape in each.timed}
    found = [each for each in statistics(shapes, kind, {}) if _is_main(each, kind)]
    notes = {}
    for name, manifest in manifests.items():
        other = dense.get(manifest.backend)
        if other is None or other == name or manifest.precision == "fp32":
            continue
        pieces = [speed_piece(each, replicates, name, other, planned=planned, twin_of=baseline) for each in found]
        said = list(_slower([each for each in pieces if isinstance(each, ReplicateRatios)], error_rate))
        if manifest.bytes > manifests[other].bytes:
            said.append(f"{manifest.bytes / manifests[other].bytes:.2f}x its size")
        if said:
            notes[name] = f"no gain over {other}: {', '.join(said)}"
    return notes


def _dense(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Of each backend the first variant in FP32 from which nothing was taken."""
    found: dict[str, str] = {}
    for name, manifest in manifests.items():
        pruned = manifest.sparsity > _DENSE or any("pruning" in str(each.step.get("use")) for each in manifest.steps)
        if manifest.precision == "fp32" and not pruned:
            found.setdefault(manifest.backend, name)
    return found


def _is_main(statistic: Statistic, kind: ModelKind) -> bool:
    return statistic.metric == METRICS[_SPEED[kind]] and "past_length" not in statistic.conditions


def _slower(pieces: Sequence[ReplicateRatios], error_rate: float) -> Iterator[str]:
    for piece in pieces:
        interval = piece.interval("ratio", error_rate / 2, error_rate / 2)
        if interval is not None and interval.low > 1:
            place = shape_words({name: value for name, value in piece.conditions.items() if name != "threads"})
            bounds = f"[{interval.low:.2f}x, {interval.high:.2f}x]"
            yield f"{interval.value:.2f}x {bounds} its {piece.metric}{f' at {place}' if place else ''}"
