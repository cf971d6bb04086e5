"""An opened plan on the paper GPU: device memory, waiting, shapes, graphs, threads and the device's own clock."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.backends.base import DeviceTimes
from weighbridge.optimize.errors import BuildError, InputError
from weighbridge.optimize.model import Batch, Examples, OnnxModel
from weighbridge.optimize.parity import open_model
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import technique
from weighbridge.optimize.tensorrt_library import read_engine
from weighbridge.optimize.tensorrt_place import EngineFacts
from weighbridge.optimize.tensorrt_predictor import TensorRtPredictor


def rows(count: int, seed: int = 0) -> Batch:
    """Rows of six features."""
    return {"features": np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)}


def opened(model: OnnxModel, folder: Path, **options: Any) -> TensorRtPredictor:
    """The model as a plan for batches of 1 to 16, opened."""
    step = step_from_dict({"use": "tensorrt-engine", **options})
    examples = Examples((rows(1), rows(4)), batch_sizes=(16,))
    plan = technique("tensorrt-engine").apply(model, step, examples, folder, lambda _: None).model
    return TensorRtPredictor(read_engine(plan.path), EngineFacts.read(folder), model.signature)


def answers(predictor: Any, batch: Batch) -> Any:
    """The logits of a batch."""
    return predictor.arrays(predictor.infer(predictor.load(batch)))["logits"]


@pytest.mark.usefixtures("gpu_machine")
def test_a_call_is_finished_when_it_returns(table_graph: OnnxModel, tmp_path: Path) -> None:
    """The paper GPU works only when it is waited for: what lies in the outputs' memory right after `infer` is the answer."""
    predictor = opened(table_graph, tmp_path)
    expected = answers(open_model(table_graph), rows(4))
    given = predictor.infer(predictor.load(rows(4)))
    held = predictor._cuda._runtime._bytes(given.buffers["logits"].address, 4 * 4 * 4)
    np.testing.assert_allclose(np.frombuffer(held, np.float32).reshape(4, 4), expected, rtol=1e-5, atol=1e-6)
    assert given.shapes == {"logits": (4, 4)}


@pytest.mark.usefixtures("gpu_machine")
def test_shapes_outside_the_profile_are_refused(table_graph: OnnxModel, tmp_path: Path) -> None:
    """A batch that the plan was not made for is refused before it reaches the device, with the range and what to do."""
    predictor = opened(table_graph, tmp_path)
    with pytest.raises(
        InputError, match=r"'features' of shape 17x6 is outside .* \(1x6 to 16x6\); name the batch size"
    ):
        predictor.load(rows(17))
    with pytest.raises(InputError, match="'features' of shape 2x5 is outside"):
        predictor.load({"features": np.zeros((2, 5), np.float32)})
    with pytest.raises(InputError, match="the model's input 'features' is not in the data; it has: other"):
        predictor.load({"other": np.zeros((2, 6), np.float32)})


def test_device_memory_is_given_back(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """Inputs that nobody holds any more leave the device; an opened plan keeps one piece an output."""
    predictor = opened(table_graph, tmp_path)
    loaded = predictor.load(rows(4))
    predictor.infer(loaded)
    held = len(gpu_machine.cuda._memory)
    for seed in range(20):
        answers(predictor, rows(3, seed))
    assert len(gpu_machine.cuda._memory) == held == 2
    del loaded
    gc.collect()
    assert len(gpu_machine.cuda._memory) == 1


def test_everything_is_given_back_at_the_end(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """After `close` no stream, event, graph or device memory is left."""
    predictor = opened(table_graph, tmp_path, cuda_graph=True)
    loaded = predictor.load(rows(2))
    for _ in range(3):
        predictor.infer(loaded)
    assert gpu_machine.cuda._handles
    predictor.close()
    del predictor, loaded
    gc.collect()
    assert not gpu_machine.cuda._handles
    assert not gpu_machine.cuda._memory


def test_too_little_device_memory_is_an_error_of_ours(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """What CUDA refuses is told with the function, the meaning and CUDA's name of it."""
    predictor = opened(table_graph, tmp_path)
    gpu_machine.cuda._left = 0
    message = r"CUDA refused cudaMalloc: what is told of cudaErrorMemoryAllocation \(cudaErrorMemoryAllocation\)"
    with pytest.raises(BuildError, match=message):
        predictor.load(rows(2))


def test_graphs_are_recorded_when_inputs_come_again(
    gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call is an ordinary one, the second is recorded, all further ones launch the graph; the answers stay the same."""
    predictor = opened(table_graph, tmp_path, cuda_graph=True)
    launched: list[int] = []
    launch = gpu_machine.cuda.cudaGraphLaunch
    monkeypatch.setattr(
        gpu_machine.cuda, "cudaGraphLaunch", lambda graph, stream: launched.append(1) or launch(graph, stream)
    )
    batches = [rows(2, seed) for seed in range(3)]
    loaded = [predictor.load(batch) for batch in batches]
    expected = [answers(open_model(table_graph), batch) for batch in batches]
    for turn in range(3):
        for each, wanted in zip(loaded, expected, strict=True):
            found = predictor.arrays(predictor.infer(each))["logits"]
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert len(launched) == 3 * turn
    np.testing.assert_allclose(
        answers(predictor, rows(5)), answers(open_model(table_graph), rows(5)), rtol=1e-5, atol=1e-6
    )
    assert len(launched) == 6


@pytest.mark.usefixtures("gpu_machine")
def test_a_recording_that_fails_leaves_the_stream_usable(
    table_graph: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's refusal while a call is recorded is told, and ordinary calls go on."""
    predictor = opened(table_graph, tmp_path, cuda_graph=True)
    loaded = predictor.load(rows(2))
    predictor.infer(loaded)
    context = predictor._lane().context
    execute, refused = context.execute_async_v3, []

    def once(stream_handle: int) -> bool:
        if predictor._lane().stream.recording is not None and not refused:
            refused.append(1)
            return False
        return execute(stream_handle)

    monkeypatch.setattr(context, "execute_async_v3", once)
    with pytest.raises(BuildError, match="TensorRT refuses the call: it gave no reason"):
        predictor.infer(loaded)
    np.testing.assert_allclose(
        answers(predictor, rows(3)), answers(open_model(table_graph), rows(3)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.usefixtures("gpu_machine")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_devices_time_the_hosts_time_and_the_copies_are_told_apart(
    table_graph: OnnxModel, tmp_path: Path, cuda_graph: bool
) -> None:
    """The paper GPU takes 5 ms a call and 1 ms a copy: events say so, and the host's time is its own clock's."""
    predictor = opened(table_graph, tmp_path, cuda_graph=cuda_graph)
    ticks = iter(range(0, 10_000_000_000, 7_000_000))
    predictor.clock_ns = lambda: next(ticks)
    times = predictor.device_times(predictor.load(rows(2)), calls=3)
    assert times == DeviceTimes(host_ms=7.0, device_ms=5.0, copy_in_ms=1.0, copy_out_ms=1.0)


@pytest.mark.usefixtures("gpu_machine")
def test_callers_at_once_do_not_meet(table_graph: OnnxModel, tmp_path: Path) -> None:
    """Each thread has a context, a stream and outputs of its own: answers of callers at once are each one's own."""
    predictor = opened(table_graph, tmp_path)
    batches = [rows(1 + seed % 16, seed) for seed in range(40)]
    together = threading.Barrier(4)

    def caller(number: int) -> list[Any]:
        together.wait()
        return [answers(predictor, batch) for batch in batches[number::4]]

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(caller, range(4)))
    found = [given[index % 4][index // 4] for index in range(len(batches))]
    single = open_model(table_graph)
    for each, batch in zip(found, batches, strict=True):
        np.testing.assert_allclose(each, answers(single, batch), rtol=1e-5, atol=1e-6)
    assert len({lane.stream for lane in predictor._lanes}) == len(predictor._lanes) == 4


@pytest.mark.usefixtures("gpu_machine")
def test_outputs_of_unknown_size_are_refused(
    table_graph: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose output shape depends on the data cannot be given a place for it."""
    predictor = opened(table_graph, tmp_path)
    context = "fake_tensorrt.IExecutionContext.get_tensor_shape"
    monkeypatch.setattr(context, lambda self, name: (-1, 4))  # noqa: ARG005 - the stand-in's own arguments
    with pytest.raises(BuildError, match="outputs whose shape depends on the data"):
        predictor.infer(predictor.load(rows(2)))
