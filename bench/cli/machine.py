"""What `weighbridge doctor` prints: the machine, its backends, its noise floor; everything fits 80 columns."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...optimize.backends import backend, backend_names
from ...optimize.backends.base import Availability
from ...optimize.errors import UnavailableError
from ...optimize.nvml import gpus
from ..counters import affinity, quota, spans
from ..environment import advice, processor
from ..noise import ERROR_RATE, POWER, STATISTICS, Noise


def print_machine(console: Console) -> None:
    """Print the processor, what of it may be used, every backend with its reason, and what disturbs a measurement now."""
    cpu = processor()
    console.print(f"{cpu.model}, {cpu.cores} cores{' of a virtual machine' if cpu.virtual else ''}", markup=False)
    console.print(f"instruction sets: {', '.join(cpu.instruction_sets) or 'none of those that matter here'}")
    allowed = quota()
    bound = "none" if allowed is None else f"{allowed:g} processors' worth of time"
    console.print(f"affinity: processors {spans(affinity())}; control group's quota: {bound}", markup=False)
    _print_backends(console)
    for sentence in advice() or ["Nothing disturbs a measurement now."]:
        console.print(sentence, markup=False)


def _print_backends(console: Console) -> None:
    names = [name for name in backend_names() if name != "fake"]
    console.print(_availabilities("Backends", {name: backend(name).availability() for name in names}))
    try:
        for gpu in gpus():
            console.print(f"GPU: {gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB, driver {gpu.driver}", markup=False)
    except UnavailableError as error:
        console.print(f"GPU: none is known; {error}", markup=False)
    on_gpu = {name: backend(name).availability("cuda") for name in names if name != "tensorrt"}
    console.print(_availabilities('With [measure] device = "cuda"', on_gpu))


def _availabilities(title: str, found: Mapping[str, Availability]) -> Table:
    """A row a backend: whether it is usable, and what would make it so."""
    table = Table(title=Text(title), title_justify="left")
    for heading in ("backend", "usable", "version", "reason and remedy"):
        table.add_column(heading, overflow="fold")
    for name, each in found.items():
        words = ". ".join(part.rstrip(".") for part in (each.reason, each.remedy) if part)
        table.add_row(name, "yes" if each.usable else "no", each.version, Text(words))
    return table


def print_noise(noise: Noise, console: Console) -> None:
    """Print the floor and the smallest slowdown found by time, then in words how the samples scattered and who disturbed."""
    table = Table(title=f"A {noise.call_ms:.2f} ms model against itself, one thread", title_justify="left")
    for heading in ("sampling", "replicates x rounds", "floor p50", *(f"found {name[8:]}" for name in STATISTICS)):
        table.add_column(heading, justify="right")
    for each in noise.resolutions:
        table.add_row(
            f"{each.bought.seconds:g} s",
            f"{each.bought.replicates} x {each.bought.rounds}",
            _percent(each.floor.get("latency_p50")),
            *(_percent(each.smallest.get(name)) for name in STATISTICS),
        )
    console.print(table)
    console.print(
        f"Floor: half the interval's width where nothing changed, error rate {ERROR_RATE:g}. Found: the smallest slowdown "
        f"told as one in {100 * POWER:.0f} of 100 runs. A percentile that needs more calls than that has none. On a noisy machine "
        "a run takes more rounds than these as far as its time goes, and finds somewhat less."
    )
    console.print(_measured_sentence(noise), markup=False)
    console.print(_mean_rule_sentence(noise), markup=False)
    for sentence in noise.notices:
        console.print(sentence, markup=False)


def _measured_sentence(noise: Noise) -> str:
    longest = noise.resolutions[-1]
    spreads = ", ".join(f"{100 * value:.2f} % ({name[8:]})" for name, value in longest.spread.items())
    return (
        f"{noise.replicates} replicates in {noise.seconds:.0f} s of sampling: p50 of the twin was {noise.ratio:.4f} times the "
        f"model's; a replicate's ratio scatters by {spreads}."
    )


def _mean_rule_sentence(noise: Noise) -> str:
    def shares(name: str) -> str:
        return ", ".join(f"{100 * getattr(each, name):.0f} %" for each in noise.false_alarms)

    limits = ", ".join(f"{100 * each.threshold:g}" for each in noise.false_alarms)
    return (
        f"A rule on means that cries at {limits} % would have cried in {shares('in_sequence')} of these replicates, had one "
        f"been timed after the other, and in {shares('in_turns')} taking turns: false alarms all, for both are the same model."
    )


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"
