"""How large a generator's key/value cache is at the end of a request: from the variant's signature and the shape."""

import json
from collections.abc import Iterator, Mapping, Sequence

from ..optimize.variant import Manifest
from .evidence import Exact
from .metrics import METRICS, Conditions
from .results import Measurement
from .samples import Replicate

_METRIC = METRICS["cache_bytes"]


def cache_measurements(manifests: Mapping[str, Manifest], replicates: Sequence[Replicate]) -> Iterator[Measurement]:
    """The bytes of each variant's cache at each shape that was timed; none of a classifier."""
    for variant, manifest in manifests.items():
        for conditions in _shapes(replicates):
            size = _bytes(manifest, conditions)
            if size is not None:
                yield Measurement(variant, _METRIC.name, _METRIC.unit, conditions, size, n=1)


def cache_evidence(
    manifests: Mapping[str, Manifest], replicates: Sequence[Replicate], baseline: str
) -> Iterator[Exact]:
    """The bytes of each candidate's cache against the baseline's, which are exact."""
    for variant, manifest in manifests.items():
        for conditions in _shapes(replicates) if variant != baseline and baseline in manifests else ():
            ours, theirs = _bytes(manifest, conditions), _bytes(manifests[baseline], conditions)
            if ours is not None and theirs is not None:
                yield Exact(variant, _METRIC.name, conditions, theirs, ours)


def _shapes(replicates: Sequence[Replicate]) -> list[Conditions]:
    return [json.loads(shape) for shape in sorted({shape for each in replicates for _, shape in each.timed})]


def _bytes(manifest: Manifest, conditions: Conditions) -> float | None:
    """The cache when the last token has been chosen, which itself is never fed."""
    cache = manifest.signature.cache
    if cache is None:
        return None
    positions = int(conditions["prompt_length"]) + int(conditions["max_new_tokens"]) - 1
    return float(cache.bytes(int(conditions["batch_size"]), positions))
