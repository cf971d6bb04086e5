"""A child process and the pipe to it: one JSON object a line each way, blocking reads, a time limit on every answer.

The parent blocks in select() while a child works, and an idle child blocks in read(): neither uses the processor beside
the one that is measured. A child that dies is told from the pipe's end, with its exit status and its last words.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from ..optimize.errors import WorkerError

Progress = Callable[[float, str], None]

_LAST_WORDS = 400


def child_environment(threads: int) -> dict[str, str]:
    """The parent's environment with the thread counts of every library fixed and no thread left spinning."""
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
    }


class Child:
    """A running `weighbridge.bench.worker`, which answers one command at a time."""

    def __init__(self, name: str, *, threads: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        to_child, self._requests = os.pipe()
        self._answers, from_child = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "weighbridge.bench.worker", str(to_child), str(from_child), name],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(to_child, from_child),
                env={**child_environment(threads), **(environment or {})},
            )
        finally:
            os.close(to_child)
            os.close(from_child)
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            WorkerError: the child died, answered with an error, or neither answered nor told of progress for `timeout` seconds.
                After a death or a time-out the child is gone.
        """
        self.send(command, arguments)
        return self.receive(timeout=timeout, progress=progress)

    def send(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Send a command without waiting, so that several children can start up side by side."""
        line = json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._requests, line) :]
        except BrokenPipeError as error:
            raise WorkerError(self._death()) from error

    def receive(self, *, timeout: float, progress: Progress | None = None) -> dict[str, Any]:
        """Wait for the answer to the command sent last; raises as `call` does."""
        while True:
            answer = json.loads(self._line(time.monotonic() + timeout, timeout))
            if "progress" in answer:
                if progress is not None:
                    progress(answer["progress"], answer["text"])
                continue
            if "error" in answer:
                raise WorkerError(answer["error"]) if not answer["expected"] else _expected(answer)
            result: dict[str, Any] = answer["result"]
            return result

    def close(self) -> None:
        """End the child: politely by the end of its pipe, then by force; and wait for it."""
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                os.close(pipe)
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def kill(self) -> None:
        """End the child by force, from whatever thread; whoever waits for its answer hears of its death."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, deadline: float, timeout: float) -> bytes:
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                raise WorkerError(f"did not answer within {timeout:g} s and was ended")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise WorkerError(self._death())
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> str:
        status = self._process.wait()
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (by the system for lack of memory, or by someone)" if -status == signal.SIGKILL else ""
            how = f"was killed by signal {-status} {name}{hint}"
        else:
            how = f"ended by itself with status {status}"
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        return f"its process {how}" + (f"; last output: {words[-_LAST_WORDS:]}" if words else "")


class Crew:
    """Children at work in several threads, which an interrupt ends together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._ended = False

    def add(self, child: Child) -> Child:
        """Take in a child that was just started; after the end it is ended at once."""
        with self._lock:
            self._children.append(child)
            if self._ended:
                child.kill()
        return child

    def end(self) -> None:
        """End every child by force, and those still to come."""
        with self._lock:
            self._ended = True
            for child in self._children:
                child.kill()


def _expected(answer: Mapping[str, Any]) -> Exception:
    """Make again, in the parent, an error of ours that the child raised."""
    from ..optimize import errors

    made = getattr(errors, answer["expected"], WorkerError)
    error: Exception = made(answer["error"])
    return error
