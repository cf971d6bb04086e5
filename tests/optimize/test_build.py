"""Builds: what is asked for is what is kept, each step verified, nothing broken cached."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from weighbridge.optimize import recovery, techniques
from weighbridge.optimize.backends import backend
from weighbridge.optimize.backends.base import Availability
from weighbridge.optimize.build import _runs_dense_export, cache_key, optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, InputError, UnavailableError
from weighbridge.optimize.files import sha256_of_file
from weighbridge.optimize.loading import describe
from weighbridge.optimize.model import Batch, Examples, Kind, Model, TorchModel
from weighbridge.optimize.onnx_export import Exporter
from weighbridge.optimize.onnx_files import weights_of
from weighbridge.optimize.parity import reference_of
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import StepResult, Technique, in_place_cache, technique
from weighbridge.optimize.techniques import export as exporting
from weighbridge.optimize.training import TrainingReport, fit
from weighbridge.optimize.variant import MANIFEST, Variant

Build = Callable[..., Variant]
PRUNE = {"use": "magnitude-pruning", "sparsity": 0.2}
DYNAMIC = {"use": "dynamic-int8"}
LEGACY = {"use": "export", "exporter": "legacy"}
STATIC = {"use": "static-int8", "target": "x86-vnni"}


def recipe(backend_name: str, precision: str, *steps: dict[str, Any]) -> Recipe:
    return Recipe(backend_name, precision, tuple(step_from_dict(step) for step in steps))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ArtifactCache:
    """A cache in which every tiny model is exported once a session; tests that look into the cache take their own."""
    return ArtifactCache(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def build(sources: dict[str, Source], probes: dict[str, Any], shared: ArtifactCache) -> Build:
    """A function (model's name, backend, precision, *steps, cache=..., progress=...) -> the variant."""

    def run(name: str, backend_name: str, precision: str, *steps: dict[str, Any], **options: Any) -> Variant:
        examples = Examples(probes[name], probes[name], calibration_sha256="c" * 64)
        chosen = recipe(backend_name, precision, *steps)
        return optimize(sources[name], chosen, **{"examples": examples, "cache": shared, **options})

    return run


@pytest.fixture
def own(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "artifacts")


@pytest.fixture
def fake_source(tmp_path: Path) -> Callable[..., Source]:
    """A function (**behaviour) -> a fake model's source."""

    def make(text: str = "{}") -> Source:
        path = tmp_path / "given.fake.json"
        path.write_text(text, encoding="utf-8")
        return describe("fake", str(path), "tabular-classification")

    return make


FAKE = Examples(({"x": np.array([[0, 0], [1, 1], [2, 2]], np.float32)},))


@pytest.mark.parametrize(
    ("name", "backend_name", "precision", "applied"),
    [
        ("mlp", "torch", "fp32", []),
        ("mlp", "torch", "bf16", ["half-precision"]),
        ("mlp", "onnxruntime", "fp32", ["export"]),
        ("mlp", "onnxruntime", "int8", ["export", "dynamic-int8"]),
        ("mlp", "onnxruntime", "fp16", ["export", "onnx-half-precision"]),
        ("lstm", "onnxruntime", "int8", ["export", "dynamic-int8"]),
        ("gpt2", "torch", "bf16", ["half-precision"]),
        ("gpt2", "onnxruntime", "int8", ["export", "in-place-cache", "dynamic-int8"]),
        ("bert", "onnxruntime", "int8", ["export", "dynamic-int8"]),
        ("mlp", "onnxruntime", "int4", ["export", "weight-only"]),
        ("gpt2", "onnxruntime", "fp16", ["export", "in-place-cache", "onnx-half-precision"]),
        ("gpt2", "onnxruntime", "int4", ["export", "in-place-cache", "weight-only"]),
    ],
)
def test_a_precision_alone_takes_the_backends_steps(
    build: Build, name: str, backend_name: str, precision: str, applied: list[str]
) -> None:
    """Every step is recorded with its parity, the artifact is audited, hashed, undamaged, and opens."""
    variant = build(name, backend_name, precision)
    manifest = variant.manifest
    assert [step.step["use"] for step in manifest.steps] == applied
    assert all(step.status == "applied" and step.parity is not None for step in manifest.steps)
    assert manifest.audit.ok
    assert manifest.parity is not None
    assert manifest.parity.agreement >= 0.5
    assert len(manifest.parity.shapes) >= 2
    assert manifest.bytes == sum((variant.folder / file).stat().st_size for file in manifest.files)
    assert manifest.sha256 == {file: sha256_of_file(variant.folder / file) for file in manifest.files}
    assert (variant.damage(), manifest.parameters > 0, manifest.build_seconds > 0) == ("", True, True)
    assert manifest.tools["torch"]
    variant.open().close()


def test_what_was_tried_unasked_and_failed_is_left_out_and_told(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where attention cannot be rewritten the variant is built without, and its manifest says what was rolled back and why."""

    def refuses(_: Any) -> int:
        raise BuildError("the graph reads the length of its cache")

    monkeypatch.setattr(in_place_cache, "grow_in_place", refuses)
    steps = build("gpt2", "onnxruntime", "fp32", cache=own).manifest.steps
    assert [(each.step["use"], each.status) for each in steps] == [
        ("export", "applied"),
        ("in-place-cache", "rolled-back"),
    ]
    assert "reads the length of its cache" in steps[1].reason


def test_recovery_learns_from_the_source_model_however_many_steps_went_before(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch, sources: dict[str, Source]
) -> None:
    """In the second of two prunings the teacher's weights are the source's own, none of them zeroed by the first."""
    import torch
    from weighbridge.optimize.loading import load

    taught_by: list[Any] = []

    def noted(*given: Any) -> TrainingReport:
        taught_by.append(given[-1].module.module)  # which is asked once for a row
        return fit(*given)

    monkeypatch.setattr(recovery, "fit", noted)
    build("mlp", "torch", "fp32", PRUNE, {**PRUNE, "sparsity": 0.4, "recover_steps": 1}, cache=own)
    source = load(sources["mlp"])
    assert isinstance(source, TorchModel)
    for ours, theirs in zip(taught_by[0].parameters(), source.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_exact_variants_answer_as_the_source(build: Build, sources: dict[str, Source], probes: dict[str, Any]) -> None:
    """Opened from its folder, the FP32 variant of each backend gives the module's own scores."""
    from weighbridge.optimize.loading import load

    reference = reference_of(load(sources["mlp"]), probes["mlp"])
    for name in ("torch", "onnxruntime"):
        opened = build("mlp", name, "fp32").open()
        assert reference.verify(opened, exact=True).max_abs < 1e-6
        opened.close()


def test_a_variant_is_built_once(build: Build, own: ArtifactCache) -> None:
    """The second time nothing is done and nothing is told; the same folder comes back."""
    told: list[str] = []
    first = build("mlp", "torch", "fp32", cache=own, progress=told.append)
    assert told == ["loading the model", "writing, auditing and checking the artifact"]
    told.clear()
    assert build("mlp", "torch", "fp32", cache=own, progress=told.append) == first
    assert told == []


def test_a_damaged_variant_is_built_again(build: Build, own: ArtifactCache) -> None:
    """An artifact that was changed on disk is noticed, said to be damaged, and made anew."""
    first = build("mlp", "torch", "fp32", cache=own)
    weights = first.folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    told: list[str] = []
    again = build("mlp", "torch", "fp32", cache=own, progress=told.append)
    assert "a damaged artifact was removed" in told[0]
    assert again.damage() == ""
    assert weights.read_bytes() == whole


def test_the_fp32_export_is_made_once_for_all_variants(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ONNX variants of one model export it once; each costs what the export had cost and its own time."""
    exported: list[Path] = []
    export = exporting.export

    def counting(model: TorchModel, probes: tuple[Batch, ...], path: Path, exporter: Exporter) -> Any:
        exported.append(path)
        return export(model, probes, path, exporter)

    monkeypatch.setattr(exporting, "export", counting)
    int8, fp16 = build("mlp", "onnxruntime", "int8", cache=own), build("mlp", "onnxruntime", "fp16", cache=own)
    static = build("mlp", "onnxruntime", "int8", STATIC, cache=own)
    fp32 = build("mlp", "onnxruntime", "fp32", cache=own)
    assert len(exported) == 1
    assert len(own.variants()) == 4
    assert all(each.manifest.build_seconds > fp32.manifest.build_seconds for each in (int8, fp16, static))


def test_steps_stack_in_the_recipes_order(build: Build) -> None:
    """Pruned first and quantized then: both are recorded, and the zeros are still zeros among the INT8 weights."""
    variant = build("mlp", "onnxruntime", "int8", PRUNE, DYNAMIC)
    assert [step.step["use"] for step in variant.manifest.steps] == ["magnitude-pruning", "export", "dynamic-int8"]
    weights = [
        a for _, a in weights_of(onnx.load(str(variant.folder / "model.onnx"))) if a.dtype == np.int8 and a.ndim > 1
    ]
    assert sum(int((array == 0).sum()) for array in weights) >= round(0.2 * 96) + round(0.2 * 64)
    assert variant.manifest.sparsity > 0.15
    assert variant.manifest.audit.nodes["MatMulInteger"] == 2


def test_the_exporter_is_chosen_by_a_step(build: Build) -> None:
    """The step stands where the export is made, between steps on modules and on graphs, and is the only export."""
    manifest = build("mlp", "onnxruntime", "int8", PRUNE, LEGACY, DYNAMIC).manifest
    assert [step.step["use"] for step in manifest.steps] == ["magnitude-pruning", "export", "dynamic-int8"]
    assert manifest.steps[1].step["exporter"] == "legacy"
    default = build("mlp", "onnxruntime", "int8", PRUNE, DYNAMIC).manifest
    assert default.steps[1].step["exporter"] == "dynamo"


def test_passes_that_do_not_help_are_recorded(build: Build) -> None:
    """A graph optimization is part of the record with its reasons, and the variant is what it would be without it."""
    manifest = build("mlp", "onnxruntime", "int8", {"use": "graph-optimization"}, DYNAMIC).manifest
    record = manifest.steps[1]
    assert record.step["passes"] == ["first-position", "onnxscript-fusions", "ort-offline"]
    assert all(each["kept"] or each["reason"].startswith("discarded: ") for each in record.details["passes"].values())
    assert manifest.audit.nodes["MatMulInteger"] == 2


def test_zeros_stay_zeros_among_packed_weights(build: Build) -> None:
    """Pruned first and packed in 4 bits then, a fifth of the weights is still exactly zero."""
    manifest = build("mlp", "onnxruntime", "int4", PRUNE, {"use": "weight-only"}).manifest
    assert [step.step["use"] for step in manifest.steps] == ["magnitude-pruning", "export", "weight-only"]
    assert manifest.sparsity > 0.15
    assert manifest.audit.weight_bytes["int4"] == (16 + 4) * 32 // 2


def test_a_pruned_export_is_shared_too(build: Build, own: ArtifactCache) -> None:
    """The FP32 variant with the same steps on the module is what the quantized one goes on from."""
    build("mlp", "onnxruntime", "int8", PRUNE, DYNAMIC, cache=own)
    told: list[str] = []
    build("mlp", "onnxruntime", "fp32", PRUNE, cache=own, progress=told.append)
    assert told == []


ON_GRAPHS = {
    "dynamic-int8": DYNAMIC,
    "static-int8": STATIC,
    "weight-only": {"use": "weight-only", "bits": 8},
    "onnx-half-precision": {"use": "onnx-half-precision"},
}
STACKING = {
    ("static-int8", "onnx-half-precision"),
    ("weight-only", "onnx-half-precision"),
    ("onnx-half-precision", "static-int8"),
    ("onnx-half-precision", "weight-only"),
}


@pytest.mark.parametrize("first", ON_GRAPHS)
@pytest.mark.parametrize("second", ON_GRAPHS)
def test_two_steps_on_graphs_stack_or_are_refused_before_building(
    build: Build, own: ArtifactCache, first: str, second: str
) -> None:
    """Of each ordered pair of steps on graphs, both are applied and pass the audit, or it is said that they cannot stack."""
    steps = ON_GRAPHS[first], ON_GRAPHS[second]
    if (first, second) in STACKING:
        manifest = build("mlp", "onnxruntime", "int8", *steps).manifest
        assert [step.step["use"] for step in manifest.steps] == ["export", first, second]
        return
    told: list[str] = []
    quantized = "onnx-half-precision" not in (first, second)
    reason = "both quantize weights" if quantized else "it cannot change what that one leaves"
    with pytest.raises(
        ConfigError, match=f"step '{second}' cannot follow step '{first}': {reason}.*; leave one of them out"
    ):
        build("mlp", "onnxruntime", "int8", *steps, cache=own, progress=told.append)
    assert told == []
    assert not own.root.exists()


def test_steps_need_not_be_neighbours_to_clash(build: Build) -> None:
    """Weights quantized first and last are quantized twice, whatever stands between."""
    steps = ON_GRAPHS["weight-only"], ON_GRAPHS["onnx-half-precision"], STATIC
    with pytest.raises(ConfigError, match="step 'static-int8' cannot follow step 'weight-only'"):
        build("mlp", "onnxruntime", "int8", *steps)


def test_a_half_precision_module_is_not_quantized_dynamically(build: Build) -> None:
    """FP16 weights, on the module or on the graph, are what dynamic INT8 cannot change; pruning before it is no matter."""
    half = {"use": "half-precision", "dtype": "fp16"}
    with pytest.raises(ConfigError, match="step 'dynamic-int8' cannot follow step 'half-precision': it cannot change"):
        build("mlp", "onnxruntime", "int8", PRUNE, half, DYNAMIC)


def test_a_half_precision_module_is_exported_on_its_way(own: ArtifactCache) -> None:
    """Steps on the graph follow half precision: the variant passes as FP16, and nothing is kept beside it as FP32."""
    import torch

    class Bag(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding = torch.nn.Embedding(100, 16)
            self.head = torch.nn.Linear(16, 3)

        def forward(self, input_ids: Any) -> Any:
            return self.head(self.embedding(input_ids).mean(dim=1))

    random = np.random.default_rng(0)
    probes = tuple({"input_ids": random.integers(0, 100, shape)} for shape in ((1, 12), (4, 12), (3, 5)))
    steps = {"use": "half-precision", "dtype": "fp16"}, {"use": "graph-optimization", "passes": ["first-position"]}
    variant = optimize(Bag(), recipe("onnxruntime", "fp16", *steps), examples=Examples(probes), cache=own)
    used = [step.step["use"] for step in variant.manifest.steps]
    assert used == ["half-precision", "export", "graph-optimization"]
    assert variant.manifest.audit.weight_bytes["float16"] >= 2 * (100 * 16 + 16 * 3 + 3)
    assert len(own.variants()) == 1


@pytest.mark.parametrize(
    ("kind", "backend", "shared"),
    [
        ("decoder", "onnxruntime", True),
        ("decoder", "openvino", False),
        ("classifier", "openvino", True),
        ("classifier", "tensorrt", True),
    ],
)
def test_a_generators_graph_for_onnx_runtime_is_no_other_backends(kind: Kind, backend: str, shared: bool) -> None:
    """The cache that grows in place is ONNX Runtime's own operator; the graph of a classifier is every backend's."""
    assert _runs_dense_export(backend, kind) == shared


@pytest.mark.parametrize(("bits", "precision"), [(4, "int8"), (8, "int4")])
def test_weights_of_other_bits_than_the_name_says_are_refused(
    build: Build, own: ArtifactCache, bits: int, precision: str
) -> None:
    """A recipe that is called int8 and packs 4-bit weights, or the other way round, is not what its name says."""
    words = f"asked for {precision}, but 160 of 160 small weights are stored in {bits} bits"
    with pytest.raises(BuildError, match=words):
        build("mlp", "onnxruntime", precision, {"use": "weight-only", "bits": bits}, cache=own)
    assert build("mlp", "onnxruntime", f"int{bits}", {"use": "weight-only", "bits": bits}).manifest.parameters == 180


@pytest.mark.parametrize(
    ("name", "backend_name", "precision", "steps", "words"),
    [
        (
            "mlp",
            "onnxruntime",
            "int8",
            [DYNAMIC, PRUNE],
            "'magnitude-pruning' changes a torch module, but here .* ONNX",
        ),
        ("mlp", "torch", "fp32", [DYNAMIC], "'dynamic-int8' gives an ONNX graph, of which backend torch has no use"),
        ("mlp", "torch", "fp32", [LEGACY], "'export' gives an ONNX graph, of which backend torch has no use"),
        ("mlp", "onnxruntime", "int8", [DYNAMIC, LEGACY], "'export' changes a torch module, but here .* ONNX"),
        (
            "mlp",
            "openvino",
            "fp32",
            [{"use": "graph-optimization"}],
            "'graph-optimization' leaves a model that only backend onnxruntime can run, not openvino; leave it out",
        ),
        ("mlp", "onnxruntime", "bf16", [], "unknown precision of backend onnxruntime 'bf16'.*Allowed: "),
    ],
)
def test_recipes_that_cannot_be_are_refused_before_anything_is_done(
    build: Build, own: ArtifactCache, name: str, backend_name: str, precision: str, steps: list[Any], words: str
) -> None:
    """Steps in an impossible order and precisions that a backend does not have are config errors; no work is done."""
    told: list[str] = []
    with pytest.raises(ConfigError, match=words):
        build(name, backend_name, precision, *steps, cache=own, progress=told.append)
    assert told == []
    assert not own.root.exists()


def test_an_onnx_model_cannot_become_a_torch_one(onnx_model: Any, probes: dict[str, Any], own: ArtifactCache) -> None:
    """From an .onnx file neither a torch variant nor a step on modules is possible; quantizing it is."""
    path, examples = onnx_model("mlp").path, Examples(probes["mlp"])
    with pytest.raises(ConfigError, match="backend torch needs a torch model; an ONNX graph cannot be turned back"):
        optimize(path, "torch-fp32", examples=examples, cache=own)
    with pytest.raises(ConfigError, match="'magnitude-pruning' changes a torch module"):
        optimize(path, recipe("onnxruntime", "fp32", PRUNE), examples=examples, cache=own)
    variant = optimize(path, "onnxruntime-int8", examples=examples, cache=own)
    assert [step.step["use"] for step in variant.manifest.steps] == ["dynamic-int8"]


def test_a_step_without_its_calibration_data_is_refused(build: Build, probes: dict[str, Any]) -> None:
    """The text names the step and the key that is missing."""
    with pytest.raises(ConfigError, match=r"step 'static-int8' needs calibration data: set \[workload\] calibration"):
        build("mlp", "onnxruntime", "int8", STATIC, examples=Examples(probes["mlp"]))


def test_calibration_data_is_recorded_where_it_was_used(build: Build) -> None:
    """The manifest names the calibration data of a static variant, and none of a dynamic one."""
    assert build("mlp", "onnxruntime", "int8", STATIC).manifest.calibration_sha256 == "c" * 64
    assert build("mlp", "onnxruntime", "int8").manifest.calibration_sha256 is None


def test_int8_without_an_integer_node_is_not_int8(build: Build, own: ArtifactCache) -> None:
    """A recipe that is called int8 but quantizes nothing is refused by the audit, in plain words, and not cached."""
    with pytest.raises(BuildError, match="not what its name says: asked for int8, but no node computes in integers"):
        build("mlp", "onnxruntime", "int8", PRUNE, cache=own)
    assert own.variants() == ()


def poisoned(kind: str, exact: bool) -> Technique:
    """A technique in place of pruning that breaks the model in a known way."""

    def apply(model: Model, config: Any, examples: Examples, folder: Path) -> StepResult:
        import copy

        import torch

        del config, examples, folder
        assert isinstance(model, TorchModel)
        module = copy.deepcopy(model.module)
        with torch.no_grad():
            if kind == "nan":
                module.head.bias[0] = float("nan")
            elif kind == "constant":
                module.head.weight.zero_()
            elif kind == "shape":
                module.head = torch.nn.Linear(16, 3)
            elif kind == "shift":
                module.head.bias += 0.01
            elif kind == "raises":
                module.head = torch.nn.Linear(15, 4)
            else:
                module.head.weight.neg_()
                module.head.bias.neg_()
        return StepResult(replace(model, module=module))

    return replace(technique("magnitude-pruning"), apply=apply, exact=exact, tells=False)


@pytest.mark.parametrize(
    ("kind", "exact", "words"),
    [
        ("nan", False, "outputs hold NaN or infinite numbers"),
        ("constant", False, "outputs are constant: the same for every input"),
        ("shape", False, "outputs have the shape 1x3 instead of 1x4"),
        ("raises", False, "it cannot be run on the data: RuntimeError: "),
        ("wrong", False, "only 0% of the probes are answered as before"),
        ("shift", True, "outputs differ by 0.0"),
    ],
)
def test_a_step_that_breaks_the_model_is_rolled_back_and_the_variant_fails(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch, kind: str, exact: bool, words: str
) -> None:
    """Whatever a step breaks is said, with the step's name; no folder appears under the key or beside it."""
    monkeypatch.setitem(techniques._techniques(), "magnitude-pruning", poisoned(kind, exact))
    with pytest.raises(BuildError, match=f"step 'magnitude-pruning' was rolled back: .*{words}"):
        build("mlp", "torch", "fp32", PRUNE, cache=own)
    assert [path for path in own.root.iterdir() if path.suffix != ".lock"] == []


def test_a_lossy_step_may_shift_what_an_exact_one_may_not(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same small shift of the scores passes where the technique says that it trades accuracy."""
    monkeypatch.setitem(techniques._techniques(), "magnitude-pruning", poisoned("shift", exact=False))
    parity = build("mlp", "torch", "fp32", PRUNE, cache=own).manifest.parity
    assert parity is not None
    assert parity.max_abs == pytest.approx(0.01, rel=1e-3)


def test_an_artifact_that_answers_otherwise_than_its_model_is_discarded(
    build: Build, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written artifact is opened again and compared: one that lost its weights on the way is refused."""
    made_by = backend("torch")
    original = type(made_by).build

    def spoiling(self: Any, model: TorchModel, folder: Path) -> tuple[str, ...]:
        return original(self, poisoned("wrong", exact=False).apply(model, None, FAKE, folder).model, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(type(made_by), "build", spoiling)
    with pytest.raises(BuildError, match="the artifact was discarded: "):
        build("mlp", "torch", "fp32", cache=own)
    assert own.variants() == ()


def test_a_source_that_answers_nan_is_the_users_to_repair(fake_source: Any, own: ArtifactCache) -> None:
    """Nothing can be compared with a model that gives NaN itself: that is an input error, not a failed variant."""
    with pytest.raises(InputError, match="the model itself answers the data with NaN"):
        optimize(fake_source('{"outputs": "nan"}'), "fake-fp32", examples=FAKE, cache=own)


def test_an_unavailable_backend_says_why_and_what_helps(
    fake_source: Any, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason and the remedy are told before the model is looked at."""
    gone = Availability(usable=False, reason="no such device", remedy="buy one")
    monkeypatch.setattr(type(backend("fake")), "availability", lambda self: gone)  # noqa: ARG005 - a method
    with pytest.raises(UnavailableError, match="^no such device. To make it available: buy one$"):
        optimize(fake_source(), "fake-fp32", examples=FAKE, cache=own)


def test_a_fake_model_takes_no_steps(fake_source: Any, own: ArtifactCache) -> None:
    """Techniques change real models only."""
    with pytest.raises(ConfigError, match="step 'magnitude-pruning' cannot be applied to a fake model"):
        optimize(fake_source(), recipe("fake", "fp32", PRUNE), examples=FAKE, cache=own)


def test_a_recipe_may_be_named(fake_source: Any, own: ArtifactCache) -> None:
    """`backend-precision` is a recipe; a misspelt one names the nearest."""
    assert optimize(fake_source(), "fake-int8", examples=FAKE, cache=own).manifest.precision == "int8"
    with pytest.raises(ConfigError, match="unknown backend 'onnxruntim'; did you mean 'onnxruntime'"):
        optimize(fake_source(), "onnxruntim-int8", examples=FAKE, cache=own)


def test_a_key_hashes_what_decides_the_artifact_and_nothing_else(
    sources: dict[str, Source], probes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model, recipe, tool or processor gives another key; calibration data does where a step uses it; more probes never do."""
    examples = Examples(probes["mlp"], probes["mlp"], calibration_sha256="1")
    other = replace(examples, calibration_sha256="2")
    dynamic, static = recipe("onnxruntime", "int8"), recipe("onnxruntime", "int8", STATIC)
    base = cache_key(sources["mlp"], dynamic, examples)
    assert base == cache_key(sources["mlp"], dynamic, replace(other, probes=probes["mlp"][1:]))
    assert cache_key(sources["mlp"], static, examples) != cache_key(sources["mlp"], static, other)
    keys = {
        base,
        cache_key(sources["cnn"], dynamic, examples),
        cache_key(sources["mlp"], recipe("onnxruntime", "fp16"), examples),
        cache_key(sources["mlp"], static, examples),
    }
    with monkeypatch.context() as patch:
        patch.setattr("weighbridge.optimize.build.tools", lambda: {"torch": "99"})
        keys.add(cache_key(sources["mlp"], dynamic, examples))
    with monkeypatch.context() as patch:
        patch.setattr("weighbridge.optimize.build.int8_target", lambda: "another processor")
        keys.add(cache_key(sources["mlp"], dynamic, examples))
    assert len(keys) == 6


def test_a_graph_is_known_by_what_its_export_takes_from_the_probes(sources: dict[str, Source]) -> None:
    """Name, type and size of a module's input decide; the batch and the length of tokens never do, nor anything where no module is traced."""

    def key(name: str, array: Any, backend_name: str = "onnxruntime", given: str = "input") -> str:
        return cache_key(sources[name], recipe(backend_name, "fp32"), Examples(({given: array},)))

    small, large = np.zeros((1, 1, 28, 28), np.float32), np.zeros((1, 1, 32, 32), np.float32)
    exported = {
        key("cnn", small),
        key("cnn", large),
        key("cnn", small.astype(np.float64)),
        key("cnn", small, given="pixels"),
    }
    assert len(exported) == 4
    assert key("cnn", np.repeat(small, 4, axis=0)) in exported
    assert key("cnn", small, "torch") == key("cnn", large, "torch")
    short, long = np.zeros((1, 8), np.int64), np.zeros((1, 9), np.int64)
    for name in ("lstm", "bert", "gpt2"):
        assert key(name, short) == key(name, long)
    assert key("mlp", short) != key("mlp", long)


def test_images_of_another_size_have_a_graph_of_their_own(tmp_path: Path, own: ArtifactCache) -> None:
    """A network that pools whatever it is given takes images of both sizes, though each graph is fixed to one."""
    code = (
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
    )
    (tmp_path / "pooling_models.py").write_text(code, encoding="utf-8")
    source = describe("module", "pooling_models:make", "image-classification", search_path=str(tmp_path))
    random = np.random.default_rng(0)
    for size in (8, 12, 8):
        probes = tuple({"input": random.standard_normal((rows, 1, size, size)).astype(np.float32)} for rows in (1, 4))
        opened: Any = optimize(source, "onnxruntime-fp32", examples=Examples(probes), cache=own).open()
        assert opened.arrays(opened.infer(opened.load(probes[1])))["logits"].shape == (4, 3)
        opened.close()
    assert len(own.variants()) == 2


def test_a_torch_folder_is_known_by_where_its_factory_lies(sources: dict[str, Source], probes: dict[str, Any]) -> None:
    """The same code in another folder, or by another name, is another folder of PyTorch, which names it, and the same graph."""
    source, examples = sources["mlp"], Examples(probes["mlp"])
    others = [replace(source, search_path="/elsewhere"), replace(source, reference="tiny_factories.again:mlp")]
    torch_keys, graph_keys = (
        {cache_key(each, recipe(name, "fp32"), examples) for each in (source, *others)}
        for name in ("torch", "onnxruntime")
    )
    assert (len(torch_keys), len(graph_keys)) == (3, 1)
    assert cache_key(replace(source, weights="/moved.safetensors"), recipe("torch", "fp32"), examples) in torch_keys


def test_a_vanished_artifact_is_said_to_have_vanished(
    fake_source: Any, own: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache is cleared behind a build's back the text says so."""
    monkeypatch.setattr(ArtifactCache, "get", lambda self, key, tell=None: None)  # noqa: ARG005 - a method
    with pytest.raises(BuildError, match="the artifact vanished from .* while it was built"):
        optimize(fake_source(), "fake-fp32", examples=FAKE, cache=own)


def test_the_manifest_file_is_what_was_returned(build: Build) -> None:
    """What a later process reads from the folder equals what the build returned."""
    variant = build("mlp", "onnxruntime", "int8")
    assert (variant.folder / MANIFEST).is_file()
    assert Variant.read(variant.folder) == variant


def test_the_package_offers_its_names_without_loading_anything() -> None:
    """`weighbridge.optimize` names optimize, Recipe and Variant lazily, and has no other attributes."""
    code = (
        "import sys, weighbridge.optimize as o\n"
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules\n"
        "assert (o.optimize.__name__, o.Recipe.__name__, o.Variant.__name__) == ('optimize', 'Recipe', 'Variant')\n"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules\n"
        "try: o.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "module 'weighbridge.optimize' has no attribute 'nothing'"
