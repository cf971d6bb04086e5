"""SmoothQuant moves outliers from activations to weights, where a norm can carry the scales, and changes no answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import Batch, Signature, TensorSpec, TorchModel
from weighbridge.optimize.onnx_export import export
from weighbridge.optimize.parity import open_model, outputs_of
from weighbridge.optimize.smoothing import find_pairs, peaks

Get = Callable[[str], Any]
OUTLIERS = [1, 5]


class PreNorm(nn.Module):
    """A block that normalizes before its layers, and one of the ways in which a norm can be unfit for folding."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.side = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)
        if way == "shared":
            self.also = nn.Linear(8, 16)
            self.also.weight = self.up.weight
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 1.5)
            self.norm.weight[OUTLIERS] *= 60
            for reader in (self.up, self.side):
                reader.weight[:, OUTLIERS] /= 60
            self.norm.bias.normal_()

    def forward(self, features: torch.Tensor) -> Any:
        normal = self.norm(features)
        if self.way == "twice":
            normal = self.norm(normal)
        middle = self.up(normal).relu() + self.side(normal)
        if self.way == "reader twice":
            middle = middle + self.up(features)
        if self.way == "residual":
            middle = middle + torch.cat([normal, normal], dim=-1)
        if self.way == "looked into":
            middle = middle + normal[:, :1]
        if self.way == "shared":
            middle = middle + self.also(features)
        return (self.head(middle), normal) if self.way == "given back" else self.head(middle)


def rows(count: int, seed: int = 0) -> Batch:
    return {"features": np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)}


def planted(way: str = "") -> TorchModel:
    signature = Signature("classifier", (TensorSpec("features", "float32", ("batch", 8)),), ("logits",))
    return TorchModel(PreNorm(way).eval(), signature)


def channel_peaks(model: TorchModel, batch: Batch) -> Any:
    given = torch.from_numpy(np.asarray(batch["features"]))
    with torch.no_grad():
        pairs = find_pairs(model.module, lambda: model.module(given))
        with peaks(model.module, pairs) as seen:
            model.module(given)
    return seen["norm"]


def test_the_scales_are_those_of_the_paper(apply: Any) -> None:
    """Channel j of the norm is divided by max|X_j|^alpha / max|W_j|^(1 - alpha), its readers' columns multiplied by it."""
    model, data = planted(), rows(64)
    before = model.module
    with torch.no_grad():
        activations = before.norm(torch.from_numpy(np.asarray(data["features"]))).abs().amax(dim=0)
        weights = torch.cat([before.up.weight, before.side.weight]).abs().amax(dim=0)
    scales = activations**0.3 / weights**0.7
    result = apply(model, "smoothquant", (data,), alpha=0.3)
    after = result.model.module
    assert torch.allclose(after.norm.weight, before.norm.weight / scales)
    assert torch.allclose(after.norm.bias, before.norm.bias / scales)
    assert torch.allclose(after.up.weight, before.up.weight * scales)
    assert torch.allclose(after.side.weight, before.side.weight * scales)
    assert torch.equal(after.head.weight, before.head.weight)
    assert result.details["pairs_folded"] == {"norm": ["up", "side"]}
    assert result.details["largest_scale"] == pytest.approx(float(scales.max()))


def test_outlier_channels_get_smaller(apply: Any) -> None:
    """Planted outliers stand out fifty times among the channels before, and less than ten times after."""
    data = rows(64)

    def spread(model: TorchModel) -> float:
        found = channel_peaks(model, data)
        return float(found.max() / found.median())

    model = planted()
    assert spread(model) > 30
    assert spread(apply(model, "smoothquant", (data,)).model) < 10


def test_the_source_is_left_as_it_was(apply: Any) -> None:
    """The scales go into a copy."""
    model = planted()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    apply(model, "smoothquant", (rows(8),))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_answers_as_before(torch_model: Get, probes: dict[str, Any], apply: Any, name: str) -> None:
    """Both norms of every block fold, the last one does not, and logits with and without a cache stay within 1e-5."""
    model = torch_model(name)
    result = apply(model, "smoothquant", probes[name])
    assert len(result.details["pairs_folded"]) == 4
    assert not any(norm.endswith(("ln_f", "model.norm")) for norm in result.details["pairs_folded"])
    expected, found = (outputs_of(open_model(each), model.signature, probes[name]) for each in (model, result.model))
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one - other).max() < 1e-5 * np.abs(one).max()


@pytest.mark.parametrize("way", ["residual", "looked into", "given back", "twice", "reader twice", "shared"])
def test_a_norm_that_more_than_layers_read_is_refused(apply: Any, way: str) -> None:
    """Folding into it would change another answer, so that nothing is folded and that is said."""
    with pytest.raises(
        BuildError, match=r"smoothquant found no foldable pair: .*\(BERT\) have none; leave the step out"
    ):
        apply(planted(way), "smoothquant", (rows(8),))


def test_a_post_norm_model_is_refused(torch_model: Get, probes: dict[str, Any], apply: Any) -> None:
    """BERT's norms feed the residual sums too."""
    with pytest.raises(BuildError, match="smoothquant found no foldable pair"):
        apply(torch_model("bert"), "smoothquant", probes["bert"])


def test_a_norm_that_multiplies_by_one_plus_its_weight_is_left_alone() -> None:
    """Dividing such a weight does not divide the output, as with Gemma's norms."""

    class PlusOneRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + self.weight)

    module = nn.Sequential(PlusOneRMSNorm(), nn.Linear(8, 2))
    with torch.no_grad():
        assert find_pairs(module, lambda: module(torch.ones(3, 8))) == ()


def test_a_channel_of_zeros_keeps_its_scale(apply: Any) -> None:
    """Where activations or weights are all zero there is nothing to divide by, and no number becomes infinite."""
    model = planted()
    with torch.no_grad():
        model.module.norm.weight[0] = model.module.norm.bias[0] = 0
        model.module.up.weight[:, 2] = model.module.side.weight[:, 2] = 0
    after = apply(model, "smoothquant", (rows(8),)).model.module
    assert torch.equal(after.norm.weight[[0, 2]], model.module.norm.weight[[0, 2]])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.state_dict().values())


def test_samples_bound_the_rows_that_are_used(apply: Any) -> None:
    """With one sample the scales are those of the first row alone."""
    data = rows(16)
    first = {"features": data["features"][:1]}
    one, same, other = (
        apply(planted(), "smoothquant", (batch,), samples=samples).model.module.norm.weight
        for batch, samples in ((data, 1), (first, 256), (data, 16))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def exactly(path: Path, batch: Batch) -> Any:
    """The answers of a graph computed node by node: Q/DQ pairs round, and no processor's products overflow."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"]).run(None, dict(batch))[
        0
    ]


def test_static_int8_gets_more_accurate(apply: Any, tmp_path: Path) -> None:
    """With planted outlier channels, which the layers weigh little, INT8 answers are at least three times as near after."""
    data, batch = (rows(256),), rows(200, seed=1)

    def error(model: TorchModel, name: str) -> float:
        exported = export(model, (rows(3),), tmp_path / "exports" / f"{name}.onnx")
        quantized = apply(exported, "static-int8", data, target="x86-vnni", exclude=["head"]).model
        return float(np.abs(exactly(quantized.path, batch) - exactly(exported.path, batch)).mean())

    model = planted()
    assert error(apply(model, "smoothquant", data).model, "smooth") < error(model, "plain") / 3


def test_what_is_missing_is_said(onnx_model: Get, apply: Any) -> None:
    """Without calibration data, or on an ONNX graph, the text says what to do."""
    with pytest.raises(ConfigError, match=r"smoothquant needs calibration data: set \[workload\] calibration"):
        apply(planted(), "smoothquant")
    with pytest.raises(BuildError, match="smoothquant changes torch modules; put it before the steps on ONNX graphs"):
        apply(onnx_model("mlp"), "smoothquant", (rows(2),))
