"""What a run's journal and machine must hold, so that whoever derives results from a folder of others need not look again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..optimize.plain_data import checked
from .results import Status


@dataclass(frozen=True)
class _Event:
    event: str


@dataclass(frozen=True)
class _Prepared:
    kind: Literal["classifier", "decoder"] = "classifier"
    class_names: tuple[str, ...] = ()
    drawn: bool = False
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Built:
    variant: str
    status: Status
    reason: str
    note: str = ""
    folder: str = ""
    from_cache: bool = False


@dataclass(frozen=True)
class _NearTie:
    prompt: int
    place: int
    margin: float


@dataclass(frozen=True)
class _Checked:
    variant: str
    failure: str
    near_ties: tuple[_NearTie, ...] = ()
    call_ms: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0


@dataclass(frozen=True)
class _Plan:
    replicates: int = 1
    seconds_per_replicate: float = 0.0
    percentile_seconds: float = 0.0


@dataclass(frozen=True)
class _Worker:
    peak_bytes: float
    load_ms: float
    warm_bytes: float = 0.0
    resident_bytes: float = 0.0
    calls: float = 0.0
    affinity: tuple[int, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class _Replicate:
    number: int
    failed: dict[str, str]
    workers: dict[str, _Worker]
    machine: dict[str, float] = field(default_factory=dict)
    sampling_seconds: float = 0.0


@dataclass(frozen=True)
class _Resumed:
    date: str
    replicates: int


_EVENTS = {
    "prepared": _Prepared,
    "built": _Built,
    "checked": _Checked,
    "plan": _Plan,
    "replicate": _Replicate,
    "resumed": _Resumed,
}


@dataclass(frozen=True)
class _Machine:
    """What deriving and comparing look at in environment.json."""

    cores: int = 1
    machine: str = ""
    date: str = ""
    commit: str = ""
    gpu: str = ""
    gpu_driver: str = ""
    instruction_sets: tuple[str, ...] = ()
    processor_quota: float | None = None
    versions: dict[str, str] = field(default_factory=dict)


def need_sound_events(events: Sequence[Any]) -> None:
    """Check the events of a journal; what they hold beyond what is looked at is left alone.

    Raises:
        ValueError: one is none, or lacks something; the text names its line and the place in it.
    """
    for number, event in enumerate(events, 1):
        try:
            _need_sound_event(event)
        except ValueError as error:
            raise ValueError(f"line {number} of the journal: {error}") from error


def _need_sound_event(event: Any) -> None:
    form = _EVENTS.get(checked(_Event, event).event)
    if form is None:
        return
    checked(form, event)
    if event.get("machine") and "seconds" not in event["machine"]:
        raise ValueError("machine holds no seconds")
    for name, facts in event.get("workers", {}).items():
        if "warm_bytes" in facts and not {"resident_bytes", "calls"} <= set(facts):
            raise ValueError(f"workers.{name} holds warm_bytes without resident_bytes and calls")


def need_sound_environment(environment: Any) -> Mapping[str, Any]:
    """The machine and software of a run, as they were described.

    Raises:
        ValueError: it is no such description; the text says where.
    """
    checked(_Machine, environment)
    found: Mapping[str, Any] = environment
    return found
