"""What a variant did not gain over the dense FP32 one of its backend is said in its row."""

from typing import Any

import numpy as np
import pytest
from weighbridge.bench.metrics import ModelKind
from weighbridge.bench.no_gain import no_gain_notes
from weighbridge.bench.samples import CONTROL, Replicate, key_of
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.model import Signature
from weighbridge.optimize.variant import Manifest, StepRecord

SHAPES = ({"batch_size": 1, "threads": 1}, {"batch_size": 8, "threads": 1})
PRUNED = StepRecord({"use": "structured-pruning"}, "applied")


def manifest(precision: str, size: int = 400, backend: str = "onnxruntime", **more: Any) -> Manifest:
    facts: dict[str, Any] = {
        "recipe": {},
        "source": {},
        "calibration_sha256": None,
        "tools": {},
        "files": (),
        "sha256": {},
        "parameters": 100,
        "sparsity": 0.0,
        "build_seconds": 1.0,
        "signature": Signature("classifier", (), ("scores",)),
        "steps": (),
        "parity": None,
        "audit": Audit(ok=True),
    }
    return Manifest(backend=backend, precision=precision, bytes=size, **{**facts, **more})


def weighed(levels: dict[str, tuple[float, float]], noise: float = 0.001, twin: float = 1.0) -> list[Replicate]:
    """Four replicates of variants of these levels in ms at both shapes, of whose first the control is the twin."""
    random = np.random.default_rng(5)
    first = next(iter(levels.values()))
    everyone = {**levels, CONTROL: (first[0] * twin, first[1] * twin)}
    replicates = []
    for number in range(1, 5):
        timed, rounds = {}, {}
        for name, at in everyone.items():
            for shape, level in zip(map(key_of, SHAPES), at, strict=True):
                timed[name, shape] = level * np.exp(random.normal(0, noise, (40, 1)))
                rounds[name, shape] = np.repeat(np.arange(1, 5), 10)
        replicates.append(Replicate(number, timed, {}, rounds))
    return replicates


def notes(
    manifests: dict[str, Manifest], replicates: list[Replicate], kind: ModelKind = "classifier"
) -> dict[str, str]:
    return no_gain_notes(manifests, replicates, kind, "torch", planned=4, error_rate=0.01)


def test_a_slower_int8_says_so_at_the_shapes_where_it_is() -> None:
    """1.5 times the time of its FP32 relative at batch 1, less at batch 8: the first alone is told, though both beat the baseline."""
    ort = manifest("fp32", sparsity=0.01)  # the padding row of its embedding
    manifests = {"torch": manifest("fp32", backend="torch"), "ort": ort, "int8": manifest("int8", 100)}
    replicates = weighed({"torch": (9.0, 9.0), "ort": (1.0, 4.0), "int8": (1.5, 2.0)})
    (name, sentence), *others = notes(manifests, replicates).items()
    assert (name, others) == ("int8", [])
    assert sentence.startswith("no gain over ort: 1.50x [1.")
    assert sentence.endswith("its latency_p50 at batch_size 1")
    assert "batch_size 8" not in sentence


def test_more_bytes_are_told_too() -> None:
    """A file of 500 bytes for one of 400 is 1.25 times its size."""
    manifests = {"torch": manifest("fp32", backend="torch"), "ort": manifest("fp32"), "int8": manifest("int8", 500)}
    replicates = weighed({"torch": (9.0, 9.0), "ort": (2.0, 2.0), "int8": (1.0, 1.0)})
    assert notes(manifests, replicates) == {"int8": "no gain over ort: 1.25x its size"}


@pytest.mark.parametrize(
    ("twin", "noise", "why"),
    [(1.2, 0.001, "the control is as far off"), (1.0, 0.5, "the interval holds 1")],
)
def test_what_the_noise_may_have_made_is_not_told(twin: float, noise: float, why: str) -> None:
    """Ten percent more time is no finding where the twin of the baseline is off by more, or the replicates scatter."""
    manifests = {"torch": manifest("fp32", backend="torch"), "ort": manifest("fp32"), "int8": manifest("int8", 100)}
    replicates = weighed({"torch": (9.0, 9.0), "ort": (1.0, 1.0), "int8": (1.1, 1.1)}, noise, twin)
    assert notes(manifests, replicates) == {}, why


def test_relatives_are_dense_and_of_the_same_backend() -> None:
    """A pruned or sparse FP32 variant, or another backend's, is no relative; FP32 variants have none."""
    manifests = {
        "torch": manifest("fp32", backend="torch"),
        "pruned": manifest("fp32", 50, steps=(PRUNED,)),
        "sparse": manifest("fp32", 50, sparsity=0.5),
        "int8": manifest("int8", 100),
    }
    replicates = weighed({"torch": (0.1, 0.1), "pruned": (0.5, 0.5), "sparse": (0.5, 0.5), "int8": (1.0, 1.0)})
    assert notes(manifests, replicates) == {}


def test_a_variant_that_was_not_weighed_is_compared_by_its_bytes_alone() -> None:
    """Without samples there is no time to tell of."""
    manifests = {"torch": manifest("fp32", backend="torch"), "ort": manifest("fp32"), "int8": manifest("int8", 800)}
    assert notes(manifests, []) == {"int8": "no gain over ort: 2.00x its size"}
