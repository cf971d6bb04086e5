"""The config of a run: TOML in, frozen and validated out, every default written down in the resolved copy."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..optimize.errors import ConfigError, one_of
from ..optimize.plain_data import parse_toml
from ..optimize.recipe import Recipe, explain
from ..optimize.source import Task
from .metrics import METRICS, SHAPE_KEYS, Kind

DEFAULT_FILE = "weighbridge.toml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Columns(_Section):
    """Which columns of a table hold what."""

    text: str = Field("text", description="column of the text (text tasks)")
    label: str = Field("label", description="column of the label")
    reference: str | None = Field(None, description="column of the reference text (generators)")
    slices: tuple[str, ...] = Field(
        (),
        description="columns to keep, so that rules may judge within each of their values; those that a rule's `slice` names "
        "are kept anyway",
    )

    @model_validator(mode="after")
    def _plain(self) -> "Columns":
        for name in self.slices:
            _check_column(name)
        return self


def _check_column(name: str) -> None:
    if not name or "=" in name:
        raise ValueError(f"slice '{name}': a column's name must not be empty or hold =")


class Preprocess(_Section):
    """Images: (x / 255 - mean) / std, a value a channel."""

    mean: tuple[float, ...] = Field((0.0,), description="subtracted after division by 255")
    std: tuple[float, ...] = Field((1.0,), description="divided by at the end")

    @model_validator(mode="after")
    def _positive(self) -> "Preprocess":
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be above 0")
        return self


class WorkloadConfig(_Section):
    """What is weighed: a model, its evaluation data, its calibration data."""

    name: str = Field("workload", description="name of the run's folder and of its rows", min_length=1)
    task: Task | None = Field(None, description="what the model is for")
    model: str | None = Field(None, description="transformers folder, hub id, file.onnx or package.module:factory")
    builtin: str | None = Field(
        None,
        description="a built-in workload, instead of task and model; with `data` it is trained on that, and some start from `model`",
    )
    tokenizer: str | None = Field(None, description="tokenizer folder, where the model has none of its own")
    data: str | None = Field(None, description="evaluation data: csv, tsv, jsonl, parquet, npz, idx, text (also .gz)")
    labels: str | None = Field(None, description="labels, where they are a file of their own")
    calibration: str | None = Field(
        None,
        description="data for quantization, pruning, recovery, and what a built-in workload is trained on; never the evaluation data",
    )
    calibration_labels: str | None = Field(
        None, description="labels of the calibration data, where a file of their own"
    )
    columns: Columns = Field(Columns(), description="which columns hold what")
    preprocess: Preprocess = Field(Preprocess(), description="image preprocessing")
    max_examples: int | None = Field(None, ge=1, description="use at most so many evaluation examples (seeded draw)")
    max_prompts: int = Field(
        64, ge=1, description="generators: at most so many prompts are answered in full, for quality (seeded draw)"
    )
    window: int = Field(128, ge=2, description="generators: tokens of a window of text that is scored for perplexity")
    stride: int | None = Field(
        None,
        ge=1,
        description="generators: tokens from one window to the next, the last so many of each are scored; default: `window`",
    )
    seed: int = Field(0, ge=0, description="seed of every draw and training")

    @model_validator(mode="after")
    def _model_or_builtin(self) -> "WorkloadConfig":
        if self.model is None and self.builtin is None:
            raise ValueError("give either model (with task) or builtin, a built-in workload's name")
        if self.builtin is None and self.task is None:
            raise ValueError(
                "task is missing: text-classification, image-classification, tabular-classification or text-generation"
            )
        return self

    @model_validator(mode="after")
    def _of_generators(self) -> "WorkloadConfig":
        if self.stride is not None and self.stride > self.window:
            raise ValueError(
                f"stride must be at most window ({self.window}), or text would be left out; given {self.stride}"
            )
        if self.columns.reference is not None and self.task not in (None, "text-generation"):
            raise ValueError("columns.reference is for text-generation; a classifier has columns.label")
        return self


class VariantConfig(_Section):
    """One variant: a recipe to build, or an existing artifact."""

    name: str = Field(
        "", description="default: backend-precision", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$", max_length=80
    )
    backend: str = Field("", description="torch, onnxruntime, openvino or tensorrt")
    precision: Literal["fp32", "fp16", "bf16", "int8", "int4"] | None = Field(
        None,
        description="number format asked for (fp32); of an artifact: what it is said to be (default: what is found)",
    )
    baseline: bool = Field(default=False, description="the variant that the others are compared with; exactly one")
    steps: tuple[dict[str, Any], ...] = Field(
        (), description="techniques in order; none: the backend's default for the precision"
    )
    artifact: str | None = Field(None, description="an existing file: audited, checked, never rebuilt")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values = dict(data)
        if values.get("artifact") and not values.get("backend"):
            values["backend"] = "onnxruntime"
        if not values.get("backend"):
            raise ValueError("backend is missing: torch, onnxruntime, openvino or tensorrt")
        if not values.get("name"):
            values["name"] = f"{values['backend']}-{values.get('precision', 'fp32')}"
        if not values.get("artifact"):
            values.setdefault("precision", "fp32")
        return values

    @property
    def recipe(self) -> Recipe:
        """The recipe of the variant, its steps validated."""
        return Recipe.from_dict({"backend": self.backend, "precision": self.precision or "fp32", "steps": self.steps})


class Sampling(_Section):
    """How the tokens of the answers are drawn, instead of the likeliest being taken; timed requests stay greedy."""

    temperature: float = Field(1.0, gt=0, description="logits are divided by it")
    top_k: int = Field(0, ge=0, description="only so many likeliest tokens; 0: all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="only the fewest likeliest tokens that together have this probability"
    )
    seed: int = Field(0, ge=0, description="seed of the uniform numbers, the same for every variant")


class MeasureConfig(_Section):
    """What is measured, and for how long."""

    batch_sizes: tuple[int, ...] = Field((1,), min_length=1, description="batch sizes")
    sequence_lengths: tuple[int, ...] = Field((32,), min_length=1, description="text: padded or cut to this")
    prompt_lengths: tuple[int, ...] = Field((32,), min_length=1, description="generators: prompt tokens")
    max_new_tokens: int | tuple[int, ...] = Field(
        64,
        description="generators: output tokens of a request; of several each is timed, and the most are what quality is judged on",
    )
    sampling: Sampling | None = Field(
        None, description="generators: how answers are drawn; none: greedily, the likeliest token each time"
    )
    concurrency: tuple[int, ...] = Field(
        (1,), min_length=1, description="callers at once, each waiting for its answer before its next call"
    )
    rates: tuple[float, ...] = Field(
        (),
        description="requests/s that arrive at random at one server (Poisson, open loop); each is a shape of its own",
    )
    latency_limit: dict[str, float] = Field(
        {},
        description="a percentile and its limit in ms, such as { latency_p95 = 20 }: `sustained_rate` is the highest of `rates` up to which it holds",
    )
    end_to_end: bool = Field(
        False,
        description="classifiers: also time calls that start from texts or pixels (`latency_end_to_end_p50`); a rule on it sets this",
    )
    threads: int = Field(1, ge=1, description="compute threads of every variant")
    max_seconds: float = Field(60, gt=0, description="sampling time of the whole run, shared among shapes")
    error_rate: float = Field(
        0.01, ge=1e-9, lt=0.5, description="chance of a wrong pass, and of a wrong fail, in the whole run"
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu",
        description="where torch and ONNX Runtime run: the processor, or the first NVIDIA GPU; TensorRT is always on the GPU",
    )

    @model_validator(mode="after")
    def _positive(self) -> "MeasureConfig":
        counts = {
            name: getattr(self, name) for name in ("batch_sizes", "sequence_lengths", "prompt_lengths", "concurrency")
        }
        for name, values in {**counts, "max_new_tokens": self.output_lengths}.items():
            if not values or min(values) < 1 or len(set(values)) != len(values):
                raise ValueError(f"{name} must be different whole numbers of at least 1; given {list(values)}")
        if any(rate <= 0 for rate in self.rates) or len(set(self.rates)) != len(self.rates):
            raise ValueError(f"rates must be different numbers above 0; given {list(self.rates)}")
        return self

    @model_validator(mode="after")
    def _limit(self) -> "MeasureConfig":
        if not self.latency_limit:
            return self
        allowed = [metric.name for metric in METRICS.values() if metric.percentile is not None and not metric.raw]
        ((name, limit),) = self.latency_limit.items() if len(self.latency_limit) == 1 else (("", 0.0),)
        if name not in allowed or limit <= 0:
            raise ValueError(
                f"latency_limit must hold one of {', '.join(allowed)} and its limit in ms, above 0; given {self.latency_limit}"
            )
        if not self.rates:
            raise ValueError("latency_limit needs rates: requests/s to try, such as rates = [20, 50, 100]")
        return self

    @property
    def output_lengths(self) -> tuple[int, ...]:
        """Output tokens of the requests that are timed, one or several."""
        return (self.max_new_tokens,) if isinstance(self.max_new_tokens, int) else self.max_new_tokens

    @property
    def most_new_tokens(self) -> int:
        """The most output tokens of any request: what answers have that are judged for quality."""
        return max(self.output_lengths)


class RuleConfig(_Section):
    """One rule: a metric, how it is compared, its limit, and where it holds."""

    metric: str = Field(description="a metric name")
    compare: Kind = Field(
        "ratio", description="value, ratio (candidate / baseline) or difference (candidate - baseline)"
    )
    min: float | None = Field(None, description="lowest value allowed")
    max: float | None = Field(None, description="highest value allowed")
    variants: tuple[str, ...] = Field((), description="default: every candidate that is ok")
    conditions: dict[str, int | float | str] = Field({}, description="default: every shape measured")
    slice: str | None = Field(None, description="judged within each value of this data column")

    @model_validator(mode="after")
    def _check(self) -> "RuleConfig":
        if self.metric not in METRICS:
            raise ValueError(one_of("metric", self.metric, METRICS))
        if (self.min is None) == (self.max is None):
            raise ValueError(f"rule on {self.metric}: give exactly one of min and max")
        allowed = METRICS[self.metric].kinds
        if self.compare not in allowed:
            ways = " or ".join(f'compare = "{kind}"' for kind in allowed)
            raise ValueError(f"rule on {self.metric}: it has no {self.compare}; write {ways}")
        for key in self.conditions:
            if key not in SHAPE_KEYS:
                raise ValueError(one_of("condition", key, SHAPE_KEYS))
        if self.column is not None:
            self._check_slice()
        return self

    @property
    def column(self) -> str | None:
        """The data column that the rule is judged within, by `slice` or by a condition on one slice (`language=de`)."""
        named = self.conditions.get("slice")
        return self.slice if named is None else str(named).partition("=")[0]

    def _check_slice(self) -> None:
        _check_column(self.column or "")
        if METRICS[self.metric].family != "quality":
            raise ValueError(
                f"rule on {self.metric}: a slice is of the examples, so only quality has one; remove slice"
            )
        if self.slice not in (None, self.column):
            raise ValueError(
                f"rule on {self.metric}: slice is '{self.slice}', but the condition names '{self.conditions['slice']}'"
            )


class GatesConfig(_Section):
    """The rules that decide the exit code."""

    preset: Literal["none", "no-regression", "mlperf-99", "mlperf-99.9"] = Field("none", description="ready-made rules")
    required: tuple[str, ...] = Field(
        (), description="variants that must be ok and pass; default: a rule's own variants"
    )
    rules: tuple[RuleConfig, ...] = Field((), description="further rules")

    @property
    def named(self) -> tuple[str, ...]:
        """Every variant that is named: as required, or by a rule."""
        return (*self.required, *(name for rule in self.rules for name in rule.variants))

    def need_known(self, variants: Collection[str]) -> None:
        """Check that every variant named is one of these.

        Raises:
            ValueError: one is not; the text names the nearest.
        """
        for name in self.named:
            if name not in variants:
                raise ValueError(one_of("variant", name, variants))


class Config(_Section):
    """A whole run."""

    workload: WorkloadConfig
    variants: tuple[VariantConfig, ...] = Field((), description="empty: the defaults of the workload")
    measure: MeasureConfig = MeasureConfig()
    gates: GatesConfig = GatesConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two variants are named {', '.join(twice)}; give each its own name")
        baselines = [variant.name for variant in self.variants if variant.baseline]
        if self.variants and len(baselines) != 1:
            raise ValueError(f"exactly one variant must have baseline = true; given {baselines or 'none'}")
        if self.variants:
            self.gates.need_known(names)
        return self

    @property
    def sliced(self) -> tuple[str, ...]:
        """The data columns to keep: those of workload.columns.slices, then those that a rule is judged within."""
        ruled = (rule.column for rule in self.gates.rules)
        return tuple(dict.fromkeys([*self.workload.columns.slices, *filter(None, ruled)]))

    @property
    def baseline(self) -> VariantConfig:
        """The baseline variant."""
        return next(variant for variant in self.variants if variant.baseline)


def parse_config(data: Mapping[str, Any], where: str) -> Config:
    """Validate plain data as a config; `where` names its origin in error texts.

    Raises:
        ConfigError: an unknown key (the nearest is named), a wrong type or value, or parts that contradict each other.
    """
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, Config)}") from error
    for variant in config.variants:
        try:
            _ = variant.recipe
        except ConfigError as error:
            raise ConfigError(f"{where}: variant '{variant.name}': {error}") from error
    return config


def load_config(path: Path) -> Config:
    """Read a config file: a TOML file, or the [tool.weighbridge] table of a pyproject.toml.

    Raises:
        ConfigError: it is missing, not UTF-8, not TOML, or not a valid config.
    """
    try:
        data = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {path} cannot be read: {error.strerror}. `weighbridge init` writes one.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"config {path} is not valid TOML: {error}") from error
    if path.name == "pyproject.toml":
        tools = data.get("tool", {})
        data = tools.get("weighbridge", {}) if isinstance(tools, dict) else {}
    return parse_config(data, str(path))


def find_config(folder: Path) -> Path:
    """Return weighbridge.toml, or the pyproject.toml with a [tool.weighbridge] table, of `folder`.

    Raises:
        ConfigError: there is neither.
    """
    if (folder / DEFAULT_FILE).is_file():
        return folder / DEFAULT_FILE
    project = folder / "pyproject.toml"
    if project.is_file() and "[tool.weighbridge" in project.read_text(encoding="utf-8", errors="replace"):
        return project
    raise ConfigError(
        f"no config: {folder} has no {DEFAULT_FILE} and no [tool.weighbridge] in a pyproject.toml. "
        "Write one with `weighbridge init`, or give a model: `weighbridge run MODEL --data FILE`."
    )


def to_toml(config: Config) -> str:
    """Return the config as TOML with every default written down; values that are not set are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
