"""INT8 by torchao: what is replaced, that it lasts and compiles, and what is said where it cannot be had."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize import optimize, torchao_layers
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.torch_backend import BACKEND
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, InputError, UnavailableError
from weighbridge.optimize.model import Examples, OnnxModel
from weighbridge.optimize.parity import open_model, outputs_of
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import torchao_int8

Get = Callable[[str], Any]
STEP = "torchao-int8"
needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None,
    reason="torchao is not installed: pip install 'weighbridge[torchao]'",
)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Int8Tensor does not implement _stable_hash_for_caching"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torchao.*"),
]


@needs_torchao
@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 63)])
def test_integers_are_those_of_a_naive_loop(
    torch_model: Get, apply: Any, tmp_path: Path, reduce_range: bool, largest: int
) -> None:
    """The file holds each row over its scale to within rounding, in 8 bits, or in 7 where the range is reduced."""
    from safetensors.numpy import load_file

    model = torch_model("mlp")
    result = apply(model, STEP, reduce_range=reduce_range, compile=False)
    tensors = load_file(tmp_path / BACKEND.build(result.model, tmp_path)[0])
    before = model.module.hidden.weight.detach().numpy().astype(np.float64)
    integers, scales = tensors["hidden.weight"], tensors["hidden.weight_scale"]
    assert integers.dtype == np.int8
    assert np.abs(integers).max() in (largest, largest + 1)
    assert np.abs(integers - before / scales[:, None]).max() <= 0.5 + 1e-3
    for row, scale in zip(before, scales, strict=True):
        assert scale == pytest.approx(np.abs(row).max() / (largest + 0.5), rel=1e-5)


@needs_torchao
@pytest.mark.parametrize(("name", "replaced"), [("bert", {"Linear": 14}), ("lstm", {"Linear": 1})])
def test_an_artifact_answers_as_the_quantized_module(
    torch_model: Get, apply: Any, probes: Any, tmp_path: Path, name: str, replaced: dict[str, int]
) -> None:
    """Opened again uncompiled it gives the same scores bit for bit, near the float ones; linear layers alone are replaced."""
    model = torch_model(name)
    result = apply(model, STEP, compile=False)
    assert result.details["modules_replaced"] == replaced
    files = BACKEND.build(result.model, tmp_path)
    given = outputs_of(BACKEND.open(tmp_path, files, model.signature, OpenOptions()), model.signature, probes[name])
    expected = outputs_of(open_model(result.model), model.signature, probes[name])
    exact = outputs_of(open_model(model), model.signature, probes[name])
    for one, same, float_one in zip(given, expected, exact, strict=True):
        assert np.array_equal(one, same)
        assert 0 < np.abs(one - float_one).max() < 0.3 * np.abs(float_one).max()


@needs_torchao
def test_a_whole_build_is_compiled_at_open(sources: dict[str, Source], probes: Any, tmp_path: Path) -> None:
    """The audit finds torchao's tensors, the tool's version is told, and the compiled module answers near the eager one."""
    recipe = Recipe("torch", "int8", (step_from_dict({"use": STEP}),))
    examples, cache = Examples(probes["mlp"][1:]), ArtifactCache(tmp_path / "artifacts")
    variant = optimize(sources["mlp"], recipe, examples=examples, cache=cache)
    manifest = variant.manifest
    assert manifest.audit.nodes == {"Linear of Int8Tensor": 2}
    assert manifest.audit.weight_bytes == {"float32": 4 * 2 * (16 + 4), "int8": 6 * 16 + 16 * 4}
    assert manifest.audit.parameters == 6 * 16 + 16 + 16 * 4 + 4
    assert "torchao" in manifest.tools
    assert manifest.parity is not None
    assert manifest.parity.cosine > 0.99
    opened: Any = variant.open()
    assert opened._module._compiled_call_impl is not None


@needs_torchao
def test_a_layer_of_another_kind_is_no_torchao_layer(torch_model: Get, apply: Any, tmp_path: Path) -> None:
    """Scales that do not fit the integers end in a sentence that says to build again."""
    from safetensors.torch import load_file, save_file

    model = torch_model("mlp")
    files = BACKEND.build(apply(model, STEP, compile=False).model, tmp_path)
    tensors = load_file(tmp_path / files[0])
    save_file({**tensors, "head.weight_scale": tensors["head.weight_scale"][:2].clone()}, tmp_path / files[0])
    with pytest.raises(InputError, match="INT8 layer head of .* with 2 scales; build the variant again"):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions())


@needs_torchao
def test_what_torchao_refuses_is_a_sentence(torch_model: Get, apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of torchao's names its kind; a layer to leave that is not there names the nearest."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("odd\nshape")

    monkeypatch.setattr(torchao_int8, "quantize_linear", refuse)
    with pytest.raises(BuildError, match="torchao-int8: torchao refused the module: AssertionError: odd$"):
        apply(torch_model("mlp"), STEP, compile=False)
    with pytest.raises(ConfigError, match="cannot exclude 'heat': the model has no such layer; did you mean 'head'"):
        apply(torch_model("mlp"), STEP, compile=False, exclude=["heat"])


def test_without_the_package_it_says_what_to_install(
    torch_model: Get, apply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing torchao makes the step unavailable, with the command that would help."""
    monkeypatch.setattr(torchao_layers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"torchao is not installed.*pip install 'weighbridge\[torchao\]'"):
        apply(torch_model("mlp"), STEP)


@pytest.mark.parametrize(("named", "wanted"), [("no-such-c++", "no-such-c++"), (None, "g++")])
def test_without_a_compiler_it_says_what_to_do(
    torch_model: Get, apply: Any, monkeypatch: pytest.MonkeyPatch, named: str | None, wanted: str
) -> None:
    """To compile, the compiler that torch would call must be there; otherwise the text names it and the ways out."""
    monkeypatch.setattr(torchao_int8, "need_torchao", lambda: None)
    monkeypatch.setattr(torchao_layers.sys, "platform", "linux")
    monkeypatch.setattr(torchao_layers.shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    if named:
        monkeypatch.setenv("CXX", named)
    with pytest.raises(
        UnavailableError, match="no C\\+\\+ compiler .* here.*apt-get install g\\+\\+.*compile = false"
    ) as told:
        apply(torch_model("mlp"), STEP)
    assert f"'{wanted}'" in str(told.value)


def test_generators_and_graphs_are_sent_elsewhere(torch_model: Get, apply: Any) -> None:
    """A generator is refused with the step that takes it, an ONNX graph with the one for graphs."""
    with pytest.raises(BuildError, match="torchao-int8 is for classifiers: .*; use torch-dynamic-int8"):
        apply(torch_model("gpt2"), STEP)
    with pytest.raises(BuildError, match="torchao-int8 quantizes torch modules; use dynamic-int8 for ONNX graphs"):
        apply(OnnxModel(Path("model.onnx"), torch_model("mlp").signature), STEP)


@pytest.mark.parametrize(("flags", "expected"), [({"avx_vnni"}, False), ({"avx2"}, True)])
def test_the_default_range_is_this_processors(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool) -> None:
    """Without VNNI, where 8-bit products overflow, weights and activations have seven bits."""
    monkeypatch.setattr("weighbridge.optimize.cpu.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("weighbridge.optimize.cpu.cpu_flags", lambda: frozenset(flags))
    assert step_from_dict({"use": STEP}).to_dict()["reduce_range"] is expected
