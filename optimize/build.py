"""Build a variant: load, apply each step, verify or discard, write the artifact, audit it, verify once more."""

import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .adoption import adopt
from .artifact import Written, need_usable, seal, tools
from .backends import backend
from .backends.base import Backend
from .batches import holds_tokens
from .cache import ArtifactCache, Tell
from .cpu import int8_target
from .errors import BuildError, ConfigError, one_of
from .files import sha256_of_json, work_folder
from .model import Batch, Examples, Form, Kind, Model, OnnxModel, TorchModel
from .origin import Origin, origin_of
from .parity import Reference, reference_of
from .recipe import Recipe, StepConfig, step_from_dict
from .source import Source, Task
from .techniques import calibrates, clash, technique, tried_after_export
from .tensorrt_place import place_here
from .variant import StepRecord, Variant

__all__ = ["adopt", "cache_key", "optimize"]

ARTIFACT_SCHEMA = 5
"""Part of every cache key; raised when the same recipe would be built otherwise."""
_ONNX_FILES = "onnxruntime"
"""The backend whose FP32 artifact is the exported ONNX file itself."""
_HALVING = "half-precision"
"""The step on a module that leaves no FP32 weights, so that its export is no FP32 artifact."""


@dataclass(frozen=True)
class _Job:
    """What is built, from what, on what it is checked, and where it is kept."""

    origin: Origin
    recipe: Recipe
    examples: Examples
    cache: ArtifactCache
    tell: Tell

    @property
    def backend(self) -> Backend:
        return backend(self.recipe.backend)


@dataclass(frozen=True)
class _State:
    """A build under way.

    `exact` holds until a step trades accuracy. `elsewhere` is what the steps that were taken from the cache had cost,
    less the time that taking them took, in seconds.
    """

    model: Model
    reference: Reference
    exact: bool = True
    records: tuple[StepRecord, ...] = ()
    elsewhere: float = 0.0


def optimize(
    model: Any,
    recipe: Recipe | str,
    *,
    examples: Examples,
    cache: ArtifactCache | None = None,
    task: Task | None = None,
    progress: Tell | None = None,
) -> Variant:
    """Build the variant of a model that a recipe describes, or take it from the cache; in this process.

    Args:
        model: a `Source`, a transformers folder or hub id, an .onnx file, `package.module:factory`, or a torch module.
        recipe: a `Recipe`, or `backend-precision` in words, such as `onnxruntime-int8`.
        examples: real inputs on which every step is verified, and calibration data.
        cache: where variants are kept; default: the user's cache folder.
        task: what the model is for; default: told from the model's config or from its inputs.
        progress: is told of every step that is really done; of none where the cache had it all; and of a wait for another process.

    Raises:
        ConfigError: the recipe's steps cannot follow each other, do not fit the backend, or lack calibration data.
        InputError: the model cannot be loaded or cannot be run on the probes.
        NotAvailableYetError: a later release builds this precision for the backend.
        UnavailableError: this machine cannot run the backend; the text says why and what would help.
        BuildError: a step failed, or the result is not what its name says; nothing is cached.
    """
    chosen = _named_recipe(recipe) if isinstance(recipe, str) else recipe
    need_usable(backend(chosen.backend))
    origin = origin_of(model, task, examples.probes)
    _check_recipe(origin.source, chosen, examples)
    return _built(_Job(origin, chosen, examples, cache or ArtifactCache(), progress or _silent))


def _named_recipe(name: str) -> Recipe:
    backend_name, _, precision = name.rpartition("-")
    return Recipe.from_dict({"backend": backend_name, "precision": precision})


def _check_recipe(source: Source, recipe: Recipe, examples: Examples) -> None:
    """Refuse, before anything is built, steps that cannot follow each other or that lack their data."""
    made_by = backend(recipe.backend)
    if recipe.precision not in made_by.precisions:
        raise ConfigError(one_of(f"precision of backend {recipe.backend}", recipe.precision, made_by.precisions))
    forms: dict[str, Form] = {"onnx": "onnx", "fake": "fake"}
    form = forms.get(source.kind, "module")
    for step in recipe.steps:
        form = _form_after(step, form, made_by)
        if calibrates(step) and not examples.calibration:
            raise ConfigError(f"step '{step.use}' needs calibration data: set [workload] calibration to a file of it")
    for first, second in itertools.combinations(recipe.steps, 2):
        refused = clash(first, second)
        if refused:
            raise ConfigError(refused)
    if made_by.form == "module" and form == "onnx":
        raise ConfigError(f"backend {made_by.name} needs a torch model; an ONNX graph cannot be turned back into one")


def _form_after(step: StepConfig, form: Form, made_by: Backend) -> Form:
    """The form of the model after a step, which takes it as that form already or can have it exported to it."""
    using = technique(step.use)
    needed, given = using.form, using.gives or using.form
    if form == "plan":
        raise ConfigError(f"step '{step.use}' cannot change a finished plan; put it before step 'tensorrt-engine'")
    if form == "fake":
        raise ConfigError(f"step '{step.use}' cannot be applied to a fake model")
    if needed == "module" and form == "onnx":
        raise ConfigError(
            f"step '{step.use}' changes a torch module, but here the model is an ONNX graph already; "
            "put it before the steps on ONNX graphs, and start from a torch model"
        )
    if given == "onnx" and made_by.form == "module":
        raise ConfigError(
            f"step '{step.use}' gives an ONNX graph, of which backend {made_by.name} has no use; leave it out"
        )
    if using.backends and made_by.name not in using.backends:
        raise ConfigError(
            f"step '{step.use}' leaves a model that only backend {', '.join(using.backends)} can run, "
            f"not {made_by.name}; leave it out"
        )
    return given


def cache_key(source: Source, recipe: Recipe, examples: Examples) -> str:
    """The hash of all that decides an artifact.

    That is the model, the recipe, the calibration data where a step uses it, the tools' versions, and the processor's kind
    of 8-bit arithmetic, which decides the defaults of quantization; of a plan also the GPU, its driver and the shapes; of a
    torch module also the place that a folder of it names, or what its export takes over from the first probe.
    """
    calibration = examples.calibration_sha256 if _may_calibrate(recipe) else None
    parts = [ARTIFACT_SCHEMA, source.sha256, source.task, recipe.to_dict(), calibration, tools(), int8_target()]
    if backend(recipe.backend).form == "plan":
        parts += [place_here().model_dump(), _shapes(examples)]
    if source.kind == "module":
        parts.append(_named(source) if backend(recipe.backend).form == "module" else _traced(source, examples))
    return sha256_of_json(parts)[:32]


def _shapes(examples: Examples) -> list[Any]:
    """The shapes that a plan is made for."""
    probes = [{name: list(array.shape) for name, array in probe.items()} for probe in examples.probes]
    return [probes, sorted(examples.batch_sizes)]


def _named(source: Source) -> dict[str, Any]:
    """What a folder of PyTorch says of its factory, which is imported from there when the folder is opened."""
    return replace(source, weights=None).to_dict()


def _traced(source: Source, examples: Examples) -> list[Any]:
    """What the graph of a torch module has from the first probe: names and types of its inputs, and every size that is not free.

    The length of tokens is, but where the exporter has to fix it: such a graph refuses other lengths by name.
    """
    probe: Batch = examples.probes[0] if examples.probes else {}
    free = 2 if source.task == "text-classification" and holds_tokens(probe) else 1
    return [[name, array.dtype.name, list(array.shape[free:])] for name, array in probe.items()]


def _may_calibrate(recipe: Recipe) -> bool:
    """Whether a step learns from calibration data; of default steps, which are chosen for the loaded model, the backend says it."""
    return _calibrates(recipe.steps) or (not recipe.steps and recipe.precision in backend(recipe.backend).calibrated)


def _calibrates(steps: tuple[StepConfig, ...]) -> bool:
    return any(calibrates(step) for step in steps)


def _built(job: _Job) -> Variant:
    key = cache_key(job.origin.source, job.recipe, job.examples)
    with job.cache.locked(key, job.tell):
        found = job.cache.get(key, job.tell)
        if found is None:
            with work_folder() as folder:
                _build(job, key, folder)
            found = job.cache.get(key)
    if found is None:
        raise BuildError(
            f"the artifact vanished from {job.cache.root} while it was built; build again without clearing the cache"
        )
    return found


def _build(job: _Job, key: str, folder: Path) -> None:
    started = time.perf_counter()
    job.tell("loading the model")
    model = job.origin.load()
    if isinstance(model, TorchModel):
        model = replace(model, original=model.module)
    steps = job.recipe.steps or job.backend.default_steps(job.recipe.precision, model.signature.kind)
    state, left = _from_dense_export(job, _State(model, reference_of(model, job.examples.probes)), steps)
    for step in left:
        job.tell(step.use)
        state = _applied(step, _in_form(technique(step.use).form, state, job, folder), job, folder)
    state = _in_form(job.backend.form, state, job, folder)
    job.tell("writing, auditing and checking the artifact")
    with job.cache.adding(key) as place:
        written = _written(place, state, steps, job)
        seal(
            written,
            lambda opened: state.reference.verify(opened, exact=state.exact),
            lambda: time.perf_counter() - started + state.elsewhere,
        )


def _from_dense_export(
    job: _Job, state: _State, steps: tuple[StepConfig, ...]
) -> tuple[_State, tuple[StepConfig, ...]]:
    """Where steps on ONNX graphs follow, go on from ONNX Runtime's FP32 variant, an ONNX file exported once.

    A module in half precision has no such variant, and another backend does not run what is done to every graph for ONNX
    Runtime alone: these are exported on their way.
    """
    on_module = tuple(step for step in steps if technique(step.use).form == "module")
    if not isinstance(state.model, TorchModel) or len(on_module) == len(steps):
        return state, steps
    if any(step.use == _HALVING for step in on_module) or not _runs_dense_export(
        job.backend.name, state.model.signature.kind
    ):
        return state, steps
    asked = time.perf_counter()
    dense = _built(replace(job, recipe=Recipe(_ONNX_FILES, "fp32", on_module)))
    taken = time.perf_counter() - asked
    manifest = dense.manifest
    state = replace(
        state,
        model=OnnxModel(dense.folder / manifest.files[0], manifest.signature),
        exact=all(technique(step.use).exact for step in on_module),
        records=manifest.steps,
        elsewhere=manifest.build_seconds - taken,
    )
    return state, steps[len(on_module) :]


def _runs_dense_export(backend_name: str, kind: Kind) -> bool:
    """Whether a graph exported for a backend is the one that ONNX Runtime's FP32 variant holds."""
    return tried_after_export(backend_name, kind) == tried_after_export(_ONNX_FILES, kind)


def _in_form(form: Form, state: _State, job: _Job, folder: Path) -> _State:
    """Export the module where an ONNX graph is wanted, and build the plan where one is; anything else is in its form already."""
    if form in ("onnx", "plan") and isinstance(state.model, TorchModel):
        state = _exported(state, job, folder)
    if form == "plan" and isinstance(state.model, OnnxModel):
        job.tell("tensorrt-engine")
        state = _applied(step_from_dict({"use": "tensorrt-engine"}), state, job, folder)
    return state


def _exported(state: _State, job: _Job, folder: Path) -> _State:
    job.tell("export to ONNX")
    state = _applied(step_from_dict({"use": "export"}), state, job, folder)
    for step in tried_after_export(job.backend.name, state.model.signature.kind):
        state = _tried(step, state, job, folder)
    return state


def _tried(step: StepConfig, state: _State, job: _Job, folder: Path) -> _State:
    """The state after a step that nobody asked for; where it fails, the state before it, and a record of why."""
    try:
        return _applied(step, state, job, folder)
    except BuildError as error:
        record = StepRecord(step.to_dict(), "rolled-back", str(error))
        return replace(state, records=(*state.records, record))


def _applied(step: StepConfig, state: _State, job: _Job, folder: Path) -> _State:
    using = technique(step.use)
    heard = (job.tell,) if using.tells else ()
    result = using.apply(state.model, step, job.examples, _new_folder(folder), *heard)
    return _verified(state, result.model, step.use, step.to_dict(), result.details, exact=using.exact)


def _new_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _verified(
    state: _State, model: Model, name: str, step: dict[str, Any], details: dict[str, Any], *, exact: bool
) -> _State:
    """The state after a step whose model answers well enough.

    Raises:
        BuildError: it does not; the step is rolled back, and with it the variant that asked for it.
    """
    exact = exact and state.exact
    try:
        parity = state.reference.verify_model(model, exact=exact)
    except BuildError as error:
        raise BuildError(f"step '{name}' was rolled back: {error}") from error
    record = StepRecord(step, "applied", details=details, parity=parity)
    return replace(state, model=model, exact=exact, records=(*state.records, record))


def _written(folder: Path, state: _State, steps: tuple[StepConfig, ...], job: _Job) -> Written:
    return Written(
        folder=folder,
        files=job.backend.build(state.model, folder),
        backend=job.backend,
        precision=job.recipe.precision,
        recipe=job.recipe.to_dict(),
        source=job.origin.source,
        signature=state.model.signature,
        calibration_sha256=job.examples.calibration_sha256 if _calibrates(steps) else None,
        steps=state.records,
        note=job.backend.note(job.recipe.precision, steps),
    )


def _silent(text: str) -> None:
    del text
