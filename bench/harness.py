"""The rows of the pytest-benchmark harnesses: one a workload, shape and variant, replayed from an interleaved session.

pytest-benchmark times one test after another, and what drifts meanwhile becomes a difference between them. So a config is weighed
as a whole, at the first row of it that is selected, and each row replays its timed calls through pytest-benchmark's public
interface: a clock that reads them out is the `timer` of the row's `benchmark` marker, set before the `benchmark` fixture is made.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from ..optimize.errors import BuildError, ConfigError, WeighbridgeError
from .config import parse_config
from .metrics import Conditions, ModelKind
from .pytest_runs import Asked, Done, asked_of, config_files, hindrance, runs_of
from .pytest_verdicts import refuse, settle_gates, verdict_of
from .results import Comparison, Control, Gate, Measurement, Results
from .running import Options, asked_shapes, complete, kind_of
from .samples import key_of
from .sentences import shape_words

Place = tuple[str, str, str]
"""Workload, shape and variant in words: the parameters of a row."""

_SHORT = {
    "batch_size": "batch",
    "sequence_length": "seq",
    "prompt_length": "prompt",
    "max_new_tokens": "new",
    "concurrency": "callers",
    "rate": "rate",
}
_BUILT_IN: Mapping[ModelKind, dict[str, Any]] = {
    "classifier": {
        "workload": {"name": "digits-cnn", "builtin": "digits-cnn"},
        "measure": {"batch_sizes": [1, 8]},
    },
    "decoder": {
        "workload": {"name": "gpt2-text", "builtin": "gpt2-text", "max_prompts": 8},
        "measure": {"max_new_tokens": 16},
    },
}
"""What is weighed, as a fast look, where no config is given."""


@dataclass(frozen=True)
class Row:
    """A variant at a shape of a run."""

    asked: Asked
    shape: Conditions
    variant: str

    @property
    def place(self) -> Place:
        """The row's parameters: plain texts, so that -k finds them and saved runs compare."""
        return self.asked.config.workload.name, shape_label(self.shape), self.variant


ROWS = pytest.StashKey[dict[Place, Row]]()


@dataclass(frozen=True)
class Replay:
    """What a row replays.

    Attributes:
        samples: the timed calls of its variant at its shape, in seconds, in the order in which they were taken.
        info: for `extra_info`: values, intervals, the control and verdicts.
        gates: the verdicts on it.
        failure: why there is nothing to replay; empty where there is.
        unavailable: the same, where this machine lacks what it needs and no rule asks for it.
    """

    samples: tuple[float, ...] = ()
    info: Mapping[str, Any] | None = None
    gates: tuple[Gate, ...] = ()
    failure: str = ""
    unavailable: str = ""


def shape_label(shape: Conditions) -> str:
    """A shape in a word that -k takes.

    >>> shape_label({"batch_size": 8, "sequence_length": 32, "threads": 1})
    'batch8-seq32'
    """
    return "-".join(f"{word}{shape[key]}" for key, word in _SHORT.items() if key in shape)


def generate_rows(metafunc: pytest.Metafunc, kind: ModelKind) -> None:
    """Give a harness its rows: those of the configs of its kind of model, or of a built-in workload where no config is given.

    Raises:
        CollectError: a config cannot be meant.
    """
    try:
        rows = {row.place: row for row in _rows(metafunc.config, kind)}
    except WeighbridgeError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    metafunc.config.stash.setdefault(ROWS, {}).update(rows)
    none = pytest.mark.skip(reason=f"no config of a {'generator' if kind == 'decoder' else kind} is given")
    metafunc.parametrize(("workload", "shape", "variant"), [*rows] or [pytest.param("", "", "", marks=none, id="none")])


def _rows(config: pytest.Config, kind: ModelKind) -> Iterator[Row]:
    for asked in _asked(config, kind):
        for shape in asked_shapes(asked.config):
            yield from (Row(asked, shape, variant.name) for variant in asked.config.variants)


def _asked(config: pytest.Config, kind: ModelKind) -> list[Asked]:
    files = config_files(config)
    if not files:
        return [Asked(complete(parse_config(_BUILT_IN[kind], "built-in"), Options()), quick=True)]
    runs = [asked_of(file) for file in files]
    names = [asked.config.workload.name for asked in runs]
    if len(set(names)) < len(names):
        raise ConfigError(f"the configs' workloads are named {', '.join(names)}; give each a name of its own")
    return [asked for asked in runs if kind_of(asked.config) == kind]


@pytest.fixture
def replay(request: pytest.FixtureRequest, workload: str, shape: str, variant: str) -> Replay:
    """What the row replays; made before `benchmark`, whose clock it sets."""
    row = request.config.stash[ROWS][workload, shape, variant]
    asked = replace(row.asked, quick=True) if hindrance(request.config) else row.asked
    try:
        made = replay_of(runs_of(request.config).of(asked), row)
    except WeighbridgeError as error:
        return Replay(failure=str(error))
    if not made.samples:
        return made
    existing = request.node.get_closest_marker("benchmark")
    options = {"group": f"{workload} {shape}", **(existing.kwargs if existing else {}), "timer": clock_of(made.samples)}
    request.node.add_marker(pytest.mark.benchmark(**options), append=False)
    return made


@pytest.fixture
def record(replay: Replay, benchmark: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Show the row in pytest-benchmark's table and settle its verdicts."""
    return lambda: record_row(replay, benchmark, request.node, hindrance(request.config))


def record_row(replay: Replay, benchmark: Any, node: pytest.Item, why_not: str) -> None:
    """Replay a row's samples into `benchmark`, then fail its test where a rule did not pass.

    `why_not` says why nothing can be judged in this session: then every rule is an error.
    """
    if replay.failure:
        _use_up(benchmark, replay.failure)
    if replay.unavailable:
        pytest.skip(replay.unavailable)
    benchmark.extra_info.update(replay.info or {})
    benchmark.pedantic(_nothing, rounds=len(replay.samples))
    if why_not or benchmark.stats is None:
        if replay.gates:
            refuse(
                *(
                    f"{gate.variant}: {gate.metric} was not evaluated: {why_not or 'no statistics'}"
                    for gate in replay.gates
                )
            )
        return
    if tuple(benchmark.stats.stats.data) != replay.samples:
        refuse(
            "pytest-benchmark did not record the times that were weighed: its clock was not the row's. Please report it"
        )
    settle_gates(node, replay.gates)


def _use_up(benchmark: Any, reason: str) -> None:
    """Fail the row as a function that raised would, so that pytest-benchmark leaves it out of its table and files."""

    def fail() -> None:
        raise BuildError(reason)

    try:
        benchmark.pedantic(fail)
    except BuildError as error:
        refuse(error)


def _nothing() -> None:
    """What is called between two readings of a replayed clock."""


def clock_of(samples: Iterable[float]) -> Callable[[], float]:
    """A clock whose every second reading is a sample, and those between are 0: each difference is a sample to the last bit."""
    readings = itertools.chain.from_iterable((0.0, sample) for sample in samples)

    def weighed_calls() -> float:
        return next(readings)

    return weighed_calls


def replay_of(done: Done, row: Row) -> Replay:
    """What a finished run says of a row."""
    gates = gates_of(row, done.results.gates)
    state = next(each for each in done.results.variants if each.name == row.variant)
    if state.status == "unavailable" and not gates:
        return Replay(unavailable=f"{row.variant} is unavailable: {state.reason}")
    if state.status != "ok":
        reason = f"{row.variant} is {state.status}: {state.reason}"
        return Replay(failure="\n".join([reason, *(gate.sentence for gate in gates)]))
    calls = done.pooled.timed.get((row.variant, key_of(row.shape)))
    if calls is None:
        measured = dict.fromkeys(shape_label(json.loads(key)) for name, key in done.pooled.timed if name == row.variant)
        return Replay(
            failure=f"{row.variant} was not measured at {shape_label(row.shape)}, but at {', '.join(measured) or 'no shape'}: "
            "the model's own sizes are fixed; give these in [measure]"
        )
    samples = tuple((calls.sum(axis=1) / 1e3).tolist())
    return Replay(samples, info_of(row, done.results, gates), gates)


def gates_of(row: Row, gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The verdicts on a row: those on its variant at its shape, and those on its variant at no row's shape (quality, the best batch)."""
    shapes = asked_shapes(row.asked.config)
    return tuple(
        gate
        for gate in gates
        if gate.variant == row.variant
        and (_within(gate.conditions, row.shape) or not any(_within(gate.conditions, shape) for shape in shapes))
    )


def _within(conditions: Conditions, shape: Conditions) -> bool:
    """Whether what is said under these conditions does not speak of another shape."""
    return all(shape.get(key, value) == value for key, value in conditions.items())


def info_of(row: Row, results: Results, gates: Sequence[Gate]) -> dict[str, Any]:
    """What pytest-benchmark's own statistics lack: values and intervals by metric, the control, verdicts, the run folder.

    Values, comparisons, control and gates are as in results.json; those of a slice or a part of a call name it beside the metric.
    """
    state = next(each for each in results.variants if each.name == row.variant)
    return {
        "run": str(results.folder),
        "backend": state.backend,
        "precision": state.precision,
        "baseline": results.baseline.name,
        "note": state.note,
        "conditions": dict(row.shape),
        "verdict": verdict_of(gates),
        "gates": [asdict(gate) for gate in gates],
        "measurements": _labelled((each for each in results.measurements if each.variant == row.variant), row.shape),
        "comparisons": _labelled((each for each in results.comparisons if each.variant == row.variant), row.shape),
        "control": _labelled(results.control, row.shape),
    }


def _labelled(found: Iterable[Measurement | Comparison | Control], shape: Conditions) -> dict[str, dict[str, Any]]:
    """What was found at a shape, by metric, its kind of comparison and what it is said of beside the shape."""
    labelled = {}
    for each in found:
        if _within(each.conditions, shape):
            further = {key: value for key, value in each.conditions.items() if key not in shape}
            kind = each.kind if isinstance(each, Comparison) else ""
            labelled[" ".join(filter(None, (each.metric, kind, shape_words(further))))] = asdict(each)
    return labelled
