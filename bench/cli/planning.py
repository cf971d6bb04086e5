"""`--plan`: what would be done, how long it would take, what the rules need; nothing is started."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from ...optimize.backends import backend
from ..config import Config
from ..looks import LOOKS
from ..metrics import METRICS
from ..needed import is_counted, planned_sentence
from ..rules import Rule, rules_of
from ..running import Options, complete
from .console import standard_output

_BUILD_SECONDS = 10
_CHECK_SECONDS = 5
_START_SECONDS = 2


def print_plan(config: Config, options: Options) -> None:
    """Print the variants with their availability, the estimated time, and what each rule needs."""
    config = complete(config, options)
    console = standard_output()
    console.print(_variants(config))
    usable = [each for each in config.variants if backend(each.backend).availability().usable]
    for sentence in (*_time(config, len(usable)), *_rules(config, len(usable) - 1)):
        console.print(sentence, markup=False)
    _warn_of_unavailable(config, console)


def _variants(config: Config) -> Table:
    table = Table(
        title=f"{config.workload.name}: {config.workload.model or config.workload.builtin}", title_justify="left"
    )
    for heading in ("variant", "backend", "precision", "steps", "available"):
        table.add_column(heading, overflow="fold")
    for variant in config.variants:
        found = backend(variant.backend).availability()
        steps = variant.artifact or ", ".join(str(step["use"]) for step in variant.steps) or "default"
        table.add_row(
            variant.name, variant.backend, variant.precision or "", steps, "yes" if found.usable else found.reason
        )
    return table


def _time(config: Config, usable: int) -> Iterator[str]:
    measure = config.measure
    fixed = usable * (_BUILD_SECONDS + _CHECK_SECONDS) + LOOKS[0] * (usable + 1) * _START_SECONDS
    loads = len(measure.concurrency) + len(measure.rates)
    shapes = len(measure.batch_sizes) * max(1, len(measure.sequence_lengths)) * loads
    yield (
        f"{usable} variants and the baseline's twin at up to {shapes} shapes, {measure.threads} thread(s) each: at most "
        f"{measure.max_seconds:g} s of sampling in {LOOKS[0]} to {LOOKS[-1]} replicates, and about {fixed} s for building "
        "(less from the cache), checking and starting processes."
    )
    yield f"Estimated time: about {(fixed + measure.max_seconds) / 60:.0f} to {(2 * fixed + measure.max_seconds) / 60:.0f} minutes."


def _rules(config: Config, candidates: int) -> Iterator[str]:
    kind = "decoder" if config.workload.task == "text-generation" else "classifier"
    rules = rules_of(config.gates, kind)  # type: ignore[arg-type]
    if not rules:
        yield "No rules and no preset: nothing would be judged."
    for rule in rules:
        yield f"Rule: {rule.words}. {_needs(rule, config, candidates)}"


def _needs(rule: Rule, config: Config, candidates: int) -> str:
    """What a rule needs to be decided, as far as it can be said before anything is measured."""
    unlabelled = config.workload.builtin is None and config.workload.data is None
    if METRICS[rule.metric].family == "quality" and unlabelled:
        return "It cannot be decided: there is no evaluation data."
    if is_counted(rule):
        return planned_sentence(rule, config.measure.error_rate / max(1, candidates), config.workload.max_examples)
    if rule.compare == "ratio" and rule.metric.startswith("latency") and abs(rule.limit - 1) < 0.005:  # noqa: PLR2004 - two equal processes differ by up to this
        return "It is likely to stay undecided: two equal processes differ by up to 0.5 %."
    return ""


def _warn_of_unavailable(config: Config, console: Console) -> None:
    named = {*config.gates.required, *(name for rule in config.gates.rules for name in rule.variants)}
    for variant in config.variants:
        found = backend(variant.backend).availability()
        if variant.name in named and not found.usable:
            console.print(f"{variant.name} is named by a rule but unavailable: the exit code would be 4.", markup=False)
