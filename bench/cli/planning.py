"""`--plan`: what would be done, how long it would take, what the rules need; nothing is started."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from ...optimize.backends import backend
from ...optimize.backends.base import Availability
from ..config import Config, MeasureConfig
from ..looks import LOOKS
from ..metrics import METRICS, ModelKind
from ..needed import is_counted, planned_sentence
from ..rules import Rule, needs_of, rules_of
from ..running import Options, complete, planned_shapes
from ..speed import BEST
from ..stages import provider_of
from .console import standard_output

_BUILD_SECONDS = 10
_CHECK_SECONDS = 5
_START_SECONDS = 2


def print_plan(config: Config, options: Options) -> None:
    """Print the variants with their availability, the estimated time, and what each rule needs."""
    config = complete(config, options)
    provider, console = provider_of(config.measure), standard_output()
    found = {each.name: backend(each.backend).availability(provider) for each in config.variants}
    console.print(_variants(config, found))
    usable = sum(each.usable for each in found.values())
    for sentence in (*_time(config, usable), *_rules(config), *_unavailable(config, found)):
        console.print(sentence, markup=False)


def _variants(config: Config, found: Mapping[str, Availability]) -> Table:
    table = Table(
        title=f"{config.workload.name}: {config.workload.model or config.workload.builtin}", title_justify="left"
    )
    for heading in ("variant", "backend", "precision", "steps", "available"):
        table.add_column(heading, overflow="fold")
    for variant in config.variants:
        here = found[variant.name]
        steps = variant.artifact or ", ".join(str(step["use"]) for step in variant.steps) or "default"
        available = "yes" if here.usable else here.reason
        table.add_row(variant.name, variant.backend, variant.precision or "", steps, available)
    return table


def _time(config: Config, usable: int) -> Iterator[str]:
    measure = config.measure
    fixed = usable * (_BUILD_SECONDS + _CHECK_SECONDS) + LOOKS[0] * (usable + 1) * _START_SECONDS
    yield (
        f"{usable} variants and the baseline's twin at up to {len(planned_shapes(config))} shapes, {measure.threads} thread(s) each: at most "
        f"{measure.max_seconds:g} s of sampling in {LOOKS[0]} to {LOOKS[-1]} replicates, and about {fixed} s for building "
        "(less from the cache), checking and starting processes."
    )
    yield f"Estimated time: about {(fixed + measure.max_seconds) / 60:.0f} to {(2 * fixed + measure.max_seconds) / 60:.0f} minutes."


def _rules(config: Config) -> Iterator[str]:
    kind: ModelKind = "decoder" if config.workload.task == "text-generation" else "classifier"
    rules = rules_of(config.gates, kind)
    if not rules:
        yield "No rules and no preset: nothing would be judged."
    for rule in rules:
        yield f"Rule: {rule.words}. {never_measured(rule, config, kind) or _needs(rule, config)}".rstrip()


def never_measured(rule: Rule, config: Config, kind: ModelKind) -> str:
    """Why nothing that the config measures would decide a rule, as a sentence; empty where something may."""
    if METRICS[rule.metric].of not in (None, kind):
        return f"It cannot be decided: {needs_of(rule.metric)}."
    nobody_alone = METRICS[rule.metric].raw and 1 not in config.measure.concurrency
    if nobody_alone or (rule.metric == "sustained_rate" and not config.measure.latency_limit):
        return f"It cannot be decided: {needs_of(rule.metric)}."
    for name, measured in _measured(config.measure).items():
        wanted = rule.conditions.get(name)
        if wanted is not None and wanted not in measured:
            listed = ", ".join(map(str, measured)) or "none"
            return f"It will hardly be decided: {name} {wanted} is not among those measured ({listed})."
    return ""


def _measured(measure: MeasureConfig) -> dict[str, Sequence[int | float | str]]:
    """The values of each condition that a run may have; one caller alone has none of concurrency."""
    best = (BEST,) if len(measure.batch_sizes) > 1 else ()
    return {
        "batch_size": (*measure.batch_sizes, *best),
        "prompt_length": measure.prompt_lengths,
        "max_new_tokens": measure.output_lengths,
        "sequence_length": measure.sequence_lengths,
        "concurrency": () if measure.concurrency == (1,) else measure.concurrency,
        "rate": measure.rates,
        "threads": (measure.threads,),
    }


def _needs(rule: Rule, config: Config) -> str:
    """What a rule needs to be decided, as far as it can be said before anything is measured."""
    unlabelled = config.workload.builtin is None and config.workload.data is None
    if METRICS[rule.metric].family == "quality" and unlabelled:
        return "It cannot be decided: there is no evaluation data."
    if is_counted(rule):
        alpha = config.measure.error_rate / max(1, len(config.variants) - 1)  # as the judge shares it, whoever can run
        return planned_sentence(rule, alpha, config.workload.max_examples)
    if rule.compare == "ratio" and rule.metric.startswith("latency") and abs(rule.limit - 1) < 0.005:  # noqa: PLR2004 - two equal processes differ by up to this
        return "It is likely to stay undecided: two equal processes differ by up to 0.5 %."
    return ""


def _unavailable(config: Config, found: Mapping[str, Availability]) -> Iterator[str]:
    for name, here in found.items():
        if name in config.gates.named and not here.usable:
            yield f"{name} is named by a rule but unavailable: the exit code would be 4."
