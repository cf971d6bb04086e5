"""The child process: opens one variant (or prepares, or builds) and answers over a pipe.

Run as `python -P -m weighbridge.bench.worker REQUEST_FD ANSWER_FD NAME`. It imports only what its command needs, so a
weighing process holds nothing but its own backend. Its own standard output is not the pipe: libraries may print.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder, OpenOptions, Predictor
from ..optimize.errors import BuildError, InputError, WeighbridgeError, first_line
from ..optimize.variant import Variant
from .answering import answer, padding_ties
from .counters import affinity
from .functions import OpenedFunction, find
from .generation import generate
from .load import Visit, callers_at_once, from_raw_inputs, one_after_another, random_arrivals
from .metrics import END_TO_END
from .processors import run_on
from .repeatable import need_repeatable
from .scoring import score
from .workloads.base import Prepared, rows
from .workloads.prompts import Prompts
from .workloads.raw_inputs import DISTINCT_BATCHES, raw_requests

_WARM_WINDOW = 5
_WARM_TOLERANCE = 0.03
_WARM_LEAST_CALLS = 2
_WARM_CAP_CALLS = 60
_WARM_CAP_SECONDS = 1.0
_UNWINDING_SECONDS = 5.0
"""So long may a process whose parent is gone take to remove its temporary folders."""


@dataclass
class Weigher:
    """The opened variant of a weighing process, and its loaded inputs a shape."""

    opened: Any = None
    provider: str | None = None
    shapes: dict[str, tuple[dict[str, Any], list[Any]]] = field(default_factory=dict)
    processor: int | None = None
    usable: tuple[int, ...] = field(default_factory=affinity)

    def open(
        self, variant: str, threads: int, provider: str | None, processors: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Open the variant's artifact, on these processors where some are named.

        The answer holds the milliseconds that took, and the processors and threads that there are.
        """
        if processors is not None:
            run_on(processors)
        folder = Variant.read(Path(variant))
        start = time.perf_counter_ns()
        self.opened = folder.open(OpenOptions(threads=threads, provider=provider))
        taken = time.perf_counter_ns() - start
        self.provider = provider
        return {"load_ms": taken / 1e6, "affinity": list(self.usable), "threads": threads}

    def open_callable(self, name: str, path: list[str]) -> dict[str, Any]:
        """Import the function `module:qualname`, with the parent's import path; the answer is as that of `open`."""
        sys.path[:] = path
        start = time.perf_counter_ns()
        self.opened = OpenedFunction(find(name), time.perf_counter_ns)
        return {"load_ms": (time.perf_counter_ns() - start) / 1e6, "affinity": list(self.usable)}

    def keep_to(self, processor: int) -> dict[str, Any]:
        """Make the calls on that processor alone from now on, but those of callers at once: they have all that are usable."""
        self.processor = processor
        run_on((processor,))
        return {}

    def shape(self, key: str, prepared: str | None, conditions: dict[str, Any]) -> dict[str, Any]:
        """Load real inputs of one shape as the backend's own tensors; a function has none, and `prepared` is None.

        Where calls start from raw inputs, these are kept, with what makes arrays of them.
        """
        if prepared is None:
            self.shapes[key] = (conditions, [None])
            return {}
        workload = Prepared.read(Path(prepared))
        length = conditions.get("sequence_length", conditions.get("prompt_length", 0))
        arrays = workload.arrays("evaluation", int(length))
        size = int(conditions["batch_size"])
        if END_TO_END in conditions:
            self.shapes[key] = (conditions, list(raw_requests(workload, int(length), size)))
            return {}
        different = [rows(arrays, index * size, size) for index in range(DISTINCT_BATCHES)]
        if workload.kind == "classifier":
            different = [self.opened.load(batch) for batch in different]
        self.shapes[key] = (conditions, different)
        return {}

    def visit(self, key: str, start: int, calls: int, settle: int = 0) -> dict[str, Any]:
        """Make `calls` calls, the first of them to settle; the answer is a Visit: milliseconds, phases, seconds."""
        conditions, inputs = self.shapes[key]
        chosen = [inputs[(start + index) % len(inputs)] for index in range(calls)]
        with self._room_for(int(conditions.get("concurrency", 1))):
            return asdict(_visit(self.opened, conditions, chosen, settle, start))

    def warm(self, key: str) -> dict[str, Any]:
        """Call until the series is stable or a cap is reached; the answer holds every call, the first one included."""
        series: list[list[float]] = []
        deadline = time.monotonic() + _WARM_CAP_SECONDS
        stable = False
        while (
            not stable
            and len(series) < _WARM_CAP_CALLS
            and (time.monotonic() < deadline or len(series) < _WARM_LEAST_CALLS)
        ):
            series += self.visit(key, len(series), 1)["calls"]
            stable = _stable([sum(call) for call in series])
        return {"calls": series, "stable": stable}

    def predict(self, prepared: str, length: int, batch_size: int, out: str) -> dict[str, Any]:
        """Score every evaluation example at one batch size and padding; writes the scores (examples, classes)."""
        workload = Prepared.read(Path(prepared))
        scores = _scores(self.opened, workload, length, batch_size)
        if len(scores) != workload.examples:
            raise BuildError(f"gave {len(scores)} rows of scores for {workload.examples} examples")
        if not np.isfinite(scores).all():
            share = 1 - float(np.isfinite(scores).all(axis=tuple(range(1, scores.ndim))).mean())
            raise BuildError(f"gave scores that are not finite numbers for {share:.1%} of the examples")
        np.save(out, scores)
        return {"examples": len(scores)}

    def score_windows(self, prepared: str, out: str) -> dict[str, Any]:
        """Score the perplexity windows; writes `nll` of each and the log-probabilities of `next_tokens` (scoring.py)."""
        workload = Prepared.read(Path(prepared))
        nll, next_tokens = score(self.opened, workload.arrays("scoring", 0))
        if not np.isfinite(nll).all():
            raise BuildError("gave logits that are not finite numbers on the scoring windows")
        np.savez(out, nll=nll, next_tokens=next_tokens)
        return {"examples": len(nll)}

    def answer_prompts(self, prepared: str, tie: float, out: str) -> dict[str, Any]:
        """Answer every prompt; writes `tokens` and `margins` (answering.py). Where padding changes answers it is a BuildError.

        The answer lists the places where a padded batch and a single request went apart at a tie.
        """
        prompts = Prompts.read(Path(prepared))
        near_ties = padding_ties(self.opened, prompts, tie)
        tokens, margins = answer(self.opened, prompts)
        np.savez(out, tokens=tokens, margins=margins)
        return {"near_ties": near_ties}

    def repeat(self, key: str) -> dict[str, Any]:
        """Answer the first batch of a shape twice; raises BuildError where the answers differ by more than rounding."""
        conditions, inputs = self.shapes[key]
        need_repeatable(self.opened, inputs[0], decoder="max_new_tokens" in conditions)
        return {}

    def try_variant(self, **arguments: Any) -> dict[str, Any]:
        """Score another variant and time it in turn with the opened one (search_child.py)."""
        from .search_child import try_variant

        return try_variant(self, Weigher(), **arguments)

    def device(self) -> dict[str, Any]:
        """What the GPU tells of the opened variant at every shape (on_device.py); nothing where it runs on the CPU."""
        from .on_device import device_facts

        of_model = {key: inputs[0] for key, (shape, inputs) in self.shapes.items() if END_TO_END not in shape}
        return device_facts(self.opened, of_model, self.provider)

    @contextlib.contextmanager
    def _room_for(self, callers: int) -> Iterator[None]:
        """Give several callers every usable processor while they call."""
        if self.processor is None or callers == 1:
            yield
            return
        run_on(self.usable)
        try:
            yield
        finally:
            run_on((self.processor,))

    def memory(self) -> dict[str, Any]:
        """The resident memory of this process, its peak and what it holds now, in bytes."""
        return {"peak_bytes": peak_resident_bytes(), "resident_bytes": resident_bytes()}


def peak_resident_bytes() -> int:
    """The peak resident memory of this process.

    Linux counts in ru_maxrss what the parent held when it forked, so the kernel's own mark of this program goes before it.
    """
    mark = _status_bytes("VmHWM:")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if mark is None else mark


def resident_bytes() -> int:
    """The memory that this process holds now, resident."""
    held = _status_bytes("VmRSS:")
    if held is not None:
        return held
    import psutil

    return int(psutil.Process().memory_info().rss)


def _status_bytes(field: str) -> int | None:
    """A size that the kernel tells of this process; None where it is no Linux."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None


def _visit(opened: Any, conditions: dict[str, Any], inputs: list[Any], settle: int, seed: int) -> Visit:
    """Make the calls in the way that the conditions ask for."""
    if "max_new_tokens" in conditions:
        count = int(conditions["max_new_tokens"])
        return Visit.of_calls([_request(opened, batch, count) for batch in inputs], settle)
    if END_TO_END in conditions:
        return from_raw_inputs(opened, inputs, settle)
    if "rate" in conditions:
        return random_arrivals(opened, inputs, settle, float(conditions["rate"]), seed)
    if conditions.get("concurrency", 1) > 1:
        return callers_at_once(opened, inputs, settle, int(conditions["concurrency"]))
    return one_after_another(opened, inputs, settle)


def _request(decoder: Decoder, batch: Any, max_new_tokens: int) -> tuple[float, ...]:
    return generate(decoder, batch["input_ids"], batch["attention_mask"], max_new_tokens).gaps_ms


def _stable(series: list[float]) -> bool:
    """Whether the medians of the last two windows differ by less than the tolerance."""
    if len(series) < 2 * _WARM_WINDOW:
        return False
    before = float(np.median(series[-2 * _WARM_WINDOW : -_WARM_WINDOW]))
    after = float(np.median(series[-_WARM_WINDOW:]))
    return abs(after - before) <= _WARM_TOLERANCE * before


def _scores(predictor: Predictor, workload: Prepared, length: int, batch_size: int) -> NDArray[np.float32]:
    """The first output for every example, in order; a fixed batch is filled up with repeated rows."""
    arrays = workload.arrays("evaluation", length)
    parts = []
    for start in range(0, workload.examples, batch_size):
        wanted = min(batch_size, workload.examples - start)
        size = batch_size if workload.fixed_batch else wanted
        outputs = predictor.arrays(predictor.infer(predictor.load(rows(arrays, start, size))))
        first = next(iter(outputs.values()))
        if len(first) != size:
            raise BuildError(f"gave {len(first)} rows of scores for a batch of {size}")
        parts.append(first[:wanted].reshape(wanted, -1))
    return np.concatenate(parts).astype(np.float32)


def _prepare(send: Callable[[dict[str, Any]], None], arguments: dict[str, Any]) -> dict[str, Any]:
    from .config import parse_config
    from .workloads.prepare import prepare

    config = parse_config(arguments["config"], "config")
    try:
        prepare(
            config.workload,
            config.measure,
            Path(arguments["folder"]),
            lambda fraction, text: send({"progress": fraction, "text": text}),
            base=Path(arguments["base"]),
            artifacts=[each.artifact for each in config.variants if each.artifact],
        )
    except OSError as error:
        raise InputError(f"the workload cannot be prepared: {first_line(error)}") from error
    return {}


def _build(send: Callable[[dict[str, Any]], None], arguments: dict[str, Any]) -> dict[str, Any]:
    from .building import build_in_child

    return build_in_child(arguments, lambda text: send({"progress": 0.0, "text": text}))


def _stop_collecting() -> None:
    """Keep Python's garbage collector from pausing a timed call."""
    gc.collect()
    gc.freeze()
    gc.disable()


def serve(requests: int, answers: int) -> None:
    """Answer commands until the pipe ends."""
    weigher = Weigher()

    def send(message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]

    with os.fdopen(requests, "rb") as stream:
        for line in stream:
            request = json.loads(line)
            command, arguments = request["command"], request["arguments"]
            try:
                if command == "prepare":
                    result = _prepare(send, arguments)
                elif command == "build":
                    result = _build(send, arguments)
                else:
                    result = getattr(weigher, command)(**arguments)
                if command in ("open", "open_callable"):
                    _stop_collecting()
            except WeighbridgeError as error:
                send({"error": str(error), "expected": type(error).__name__})
            except Exception as error:  # noqa: BLE001 - whatever a model raises costs this variant, not the run
                send({"error": first_line(error), "expected": ""})
            else:
                send({"result": result})


class _Leaving(BaseException):
    """Unwinds whatever is under way, so that temporary folders are removed; no command may take it for its own error."""


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _Leaving


def _leave_with_parent(requests: int) -> None:
    """Block until the pipe's other end is closed, then end this process, be it in the middle of a build: nobody waits for it."""
    closed = select.poll()
    closed.register(requests, 0)
    closed.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_UNWINDING_SECONDS)
    os._exit(1)


def main() -> None:
    """Serve on the two pipes named on the command line; an interrupt is the parent's to handle."""
    requests, answers = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, args=(requests,), daemon=True).start()
    try:
        with contextlib.suppress(BrokenPipeError):  # the parent is gone and hears no answer
            serve(requests, answers)
    except _Leaving:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)  # so that whoever waits is told how it ended
    os._exit(0)  # libraries' exit handlers may hang or print; there is nothing left to save


if __name__ == "__main__":
    main()
