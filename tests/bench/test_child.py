"""The pipe to a child process: answers, deaths, time-outs, errors of ours and of others."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from weighbridge.bench.child import Child, Crew, child_environment
from weighbridge.optimize.errors import BuildError, InputError, WorkerError

FakeVariant = Callable[..., Path]


def test_a_child_answers_commands_in_order(tmp_path: Path, fake_variant: FakeVariant) -> None:
    """A worker opens a variant and then tells its peak memory."""
    with Child("one") as child:
        opened = child.call(
            "open", {"variant": str(fake_variant(tmp_path / "v")), "threads": 1, "provider": None}, timeout=60
        )
        assert opened["load_ms"] >= 0
        assert child.call("memory", timeout=10)["peak_bytes"] > 1e6


def test_an_error_of_ours_crosses_the_pipe_as_itself(tmp_path: Path) -> None:
    """A missing manifest is an InputError in the parent too, with the child's text."""
    with Child("one") as child, pytest.raises(InputError, match="is not a readable manifest"):
        child.call("open", {"variant": str(tmp_path), "threads": 1, "provider": None}, timeout=60)


def test_an_error_at_load_keeps_its_reason(tmp_path: Path, fake_variant: FakeVariant) -> None:
    """What a model says when it cannot be opened reaches the parent word for word."""
    folder = fake_variant(tmp_path / "v", fail_at_open="the weights are for another model")
    with Child("one") as child, pytest.raises(BuildError, match="the weights are for another model"):
        child.call("open", {"variant": str(folder), "threads": 1, "provider": None}, timeout=60)


def test_a_foreign_exception_is_a_worker_error_with_its_first_line() -> None:
    """An exception that is not ours names its class and text."""
    with Child("one") as child, pytest.raises(WorkerError, match="KeyError: 'nothing-loaded'"):
        child.call("visit", {"key": "nothing-loaded", "start": 0, "calls": 1}, timeout=60)


def test_a_killed_child_is_told_with_its_signal() -> None:
    """A child killed from outside gives its signal as the reason."""
    with Child("one") as child:
        child.call("memory", timeout=60)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="killed by signal 9 SIGKILL"):
            child.call("memory", timeout=10)


def ready_to_hang(child: Child, folder: Path, workload: object) -> None:
    """Let a child open a variant, and take the inputs of which its first call will never end."""
    child.call("open", {"variant": str(folder), "threads": 1, "provider": None}, timeout=60)
    shape = {"key": "k", "prepared": str(workload.folder), "conditions": {"batch_size": 1}}  # type: ignore[attr-defined]
    child.call("shape", shape, timeout=10)


def test_a_hanging_child_is_ended_at_its_time_limit(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: object
) -> None:
    """A call that never returns costs its time limit and the process, nothing else."""
    folder = fake_variant(tmp_path / "v", fault="hang", fault_at_call=1)
    with Child("one") as child:
        ready_to_hang(child, folder, fake_workload)
        with pytest.raises(WorkerError, match="did not answer within 0.5 s and was ended"):
            child.call("visit", {"key": "k", "start": 0, "calls": 1}, timeout=0.5)
        pid = child.pid
    assert not psutil.pid_exists(pid)


def test_the_time_limit_is_one_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that tells of progress has the whole time again; by the test's own clock each line takes 9 of 10 seconds."""
    lines = iter(
        [b'{"progress": 0.5, "text": "half"}', b'{"progress": 0.9, "text": "most"}', b'{"result": {"answer": 1}}']
    )
    now, left, heard = [0.0], [], []

    def line(child: Child, deadline: float, timeout: float) -> bytes:
        del child, timeout
        left.append(deadline - now[0])
        now[0] += 9
        return next(lines)

    monkeypatch.setattr(Child, "_line", line)
    with Child("one") as child:
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        assert child.receive(timeout=10, progress=lambda share, text: heard.append((share, text))) == {"answer": 1}
        monkeypatch.undo()
    assert left == [10, 10, 10]
    assert heard == [(0.5, "half"), (0.9, "most")]


def test_a_child_leaves_when_its_parent_closes_the_pipe() -> None:
    """Closing a child ends its process and reaps it."""
    child = Child("one")
    child.call("memory", timeout=60)
    child.close()
    assert not psutil.pid_exists(child.pid)


def test_a_child_at_work_leaves_when_its_parent_is_gone(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: object
) -> None:
    """Where the parent's end of the pipe closes in the middle of a call that never ends, the child ends all the same."""
    folder = fake_variant(tmp_path / "v", fault="hang", fault_at_call=1)
    with Child("one") as child:
        ready_to_hang(child, folder, fake_workload)
        child.send("visit", {"key": "k", "start": 0, "calls": 1})
        os.close(child._requests)
        assert child._process.wait(timeout=30) == -signal.SIGTERM


def test_a_crew_ends_together_and_takes_nobody_in_afterwards() -> None:
    """Ending a crew kills who is in it, and who comes later at once."""
    crew = Crew()
    with crew.add(Child("one")) as first:
        crew.end()
        with pytest.raises(WorkerError, match="killed by signal 9 SIGKILL"):
            first.call("memory", timeout=60)
    with crew.add(Child("two")) as second, pytest.raises(WorkerError, match="killed by signal 9 SIGKILL"):
        second.call("memory", timeout=60)


def test_a_waiting_child_uses_no_processor_time() -> None:
    """A child that waits for its next command does not spin: its CPU time stands still."""
    with Child("one") as child:
        child.call("memory", timeout=60)
        before = psutil.Process(child.pid).cpu_times()
        with Child("two") as other:
            other.call("memory", timeout=60)
        after = psutil.Process(child.pid).cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.01


def test_every_thread_pool_is_fixed_and_none_spins() -> None:
    """A child's environment fixes the threads of OpenMP, MKL and OpenBLAS and lets no thread spin."""
    environment = child_environment(3)
    assert {environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"3"}
    assert environment["OMP_WAIT_POLICY"] == "passive"
