"""The size of a generator's cache at the end of a request, from its signature and the shape."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from weighbridge.bench.cache_bytes import cache_evidence, cache_measurements
from weighbridge.bench.samples import Replicate, key_of
from weighbridge.optimize.model import CacheSpec, Signature

SHAPES = [{"batch_size": size, "prompt_length": 32, "max_new_tokens": 9, "threads": 1} for size in (1, 4)]
TAKEN = [Replicate(0, {("base", key_of(shape)): np.ones((1, 9)) for shape in SHAPES}, {})]


def manifest(cache: CacheSpec | None) -> Any:
    kind = "classifier" if cache is None else "decoder"
    return SimpleNamespace(signature=Signature(kind, (), ("logits",), cache))  # type: ignore[arg-type]


def test_the_cache_holds_all_but_the_last_token() -> None:
    """2 x 3 layers x 2 heads x 8 numbers x 40 positions (32 + 9 - 1) of 4 bytes: 15,360 for one request, four times it for four."""
    found = list(cache_measurements({"base": manifest(CacheSpec(3, 2, 8))}, TAKEN))
    assert [(each.conditions["batch_size"], each.value, each.unit) for each in found] == [
        (1, 15_360.0, "bytes"),
        (4, 61_440.0, "bytes"),
    ]


def test_half_precision_halves_it() -> None:
    """A BF16 cache against one of FP32 is a ratio of exactly one half at every shape."""
    manifests = {"base": manifest(CacheSpec(3, 2, 8)), "half": manifest(CacheSpec(3, 2, 8, "bfloat16"))}
    pieces = list(cache_evidence(manifests, TAKEN, "base"))
    assert [(each.variant, each.metric, each.conditions) for each in pieces] == [
        ("half", "cache_bytes", shape) for shape in SHAPES
    ]
    intervals = [each.interval("ratio", 0.01, 0.01) for each in pieces]
    assert [interval and interval.value for interval in intervals] == [0.5, 0.5]


def test_a_classifier_has_none() -> None:
    """Without a cache in the signature there is neither a measurement nor evidence."""
    manifests = {"base": manifest(None), "other": manifest(None)}
    assert list(cache_measurements(manifests, TAKEN)) == []
    assert list(cache_evidence(manifests, TAKEN, "base")) == []
