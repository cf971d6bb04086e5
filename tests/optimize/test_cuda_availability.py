"""Whether torch and ONNX Runtime can use a GPU here: asked in a child process, each obstacle with its reason and remedy."""

import importlib.util

import pytest
from weighbridge.optimize import cuda_availability
from weighbridge.optimize.backends import backend
from weighbridge.optimize.cuda_availability import onnxruntime_on, torch_on_cuda
from weighbridge.optimize.probing import Probe, probe


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    """Every test asks anew."""
    torch_on_cuda.cache_clear()
    onnxruntime_on.cache_clear()


@pytest.mark.parametrize(
    ("found", "usable", "reason", "remedy"),
    [
        (Probe(0, "usable Paper GPU 0", ""), True, "", ""),
        (Probe(0, "built without CUDA", ""), False, "built without CUDA", "pip install torch --index-url"),
        (Probe(0, "sees no device", ""), False, "torch sees no CUDA device here", 'device = "cpu"'),
        (Probe(1, "", "ImportError: no libcudart"), False, "torch cannot be imported (ImportError: no libcudart)", ""),
    ],
)
def test_torch_says_why_it_sees_no_gpu(
    monkeypatch: pytest.MonkeyPatch, found: Probe, usable: bool, reason: str, remedy: str
) -> None:
    """A CPU build, no device and a broken installation are told apart."""
    monkeypatch.setattr(cuda_availability, "probe", lambda _: found)
    answer = torch_on_cuda("2.13")
    assert (answer.usable, answer.version) == (usable, "2.13")
    assert reason in answer.reason
    assert remedy in answer.remedy


@pytest.mark.parametrize(
    ("found", "usable", "reason"),
    [
        (Probe(0, "CUDAExecutionProvider CPUExecutionProvider", ""), True, ""),
        (
            Probe(0, "AzureExecutionProvider CPUExecutionProvider", ""),
            False,
            "the installed ONNX Runtime has no CUDAExecutionProvider, only AzureExecutionProvider, CPUExecutionProvider",
        ),
        (Probe(-11, "", ""), False, "onnxruntime cannot be imported (status -11)"),
    ],
)
def test_onnxruntime_says_which_providers_it_has(
    monkeypatch: pytest.MonkeyPatch, found: Probe, usable: bool, reason: str
) -> None:
    """The provider is there, is not there, or the process died."""
    monkeypatch.setattr(cuda_availability, "probe", lambda _: found)
    answer = onnxruntime_on("CUDAExecutionProvider", "1.31")
    assert (answer.usable, answer.reason) == (usable, reason)


def test_a_real_child_process_answers_for_onnxruntime() -> None:
    """The installed ONNX Runtime is asked for real: it has its CPU provider and none that nobody made."""
    assert backend("onnxruntime").availability("cpu").usable
    assert onnxruntime_on("CPUExecutionProvider", "x").usable
    answer = onnxruntime_on("NoSuchExecutionProvider", "x")
    assert "no NoSuchExecutionProvider, only " in answer.reason
    assert "CPUExecutionProvider" in answer.reason
    assert "onnxruntime-gpu" in answer.remedy


def test_backends_answer_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for cuda, torch and ONNX Runtime ask in a child process, and OpenVINO says that it runs on the CPU."""
    monkeypatch.setattr(cuda_availability, "probe", lambda _: Probe(0, "built without CUDA", ""))
    assert "built without CUDA" in backend("torch").availability("cuda").reason
    assert "CUDAExecutionProvider" in backend("onnxruntime").availability("cuda").reason
    assert "TensorrtExecutionProvider" in backend("onnxruntime").availability("tensorrt").reason
    assert backend("fake").availability("cuda").usable
    if importlib.util.find_spec("openvino") is not None:
        assert backend("openvino").availability("cuda").reason == "openvino runs on the CPU here, not on cuda"


def test_a_probe_keeps_the_first_line_and_the_last_words() -> None:
    """The child's first printed line is its answer; the last line of its errors is why it ended."""
    found = probe("import sys; print('one'); print('two'); sys.exit('first\\nlast')")
    assert (found.status, found.answer, found.last_words) == (1, "one", "last")
    assert probe("import os; os._exit(7)").last_words == "status 7"
