"""ONNX Runtime with inputs and outputs on a device, and no product silently elsewhere. Here the device is the CPU."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.onnxruntime_backend import BACKEND
from weighbridge.optimize.cuda_availability import onnxruntime_on
from weighbridge.optimize.errors import BuildError, InputError
from weighbridge.optimize.model import OnnxModel
from weighbridge.optimize.onnxruntime_device import (
    TELL_PLACES,
    OnnxRuntimeDevicePredictor,
    need_no_fall_back,
    providers_for,
)
from weighbridge.optimize.parity import open_model


@pytest.fixture
def session(table_graph: OnnxModel) -> Any:
    """A session on the CPU that remembers where its nodes run."""
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry(TELL_PLACES, "1")
    return onnxruntime.InferenceSession(str(table_graph.path), settings, providers=["CPUExecutionProvider"])


def test_values_on_a_device_give_the_same_answers(session: Any, table_graph: OnnxModel) -> None:
    """Inputs and outputs that stay on the device give what arrays give; loading and fetching are not part of the call."""
    predictor = OnnxRuntimeDevicePredictor(session, table_graph.signature, {"features": np.dtype("float32")}, "cpu")
    batch = {"features": np.random.default_rng(0).standard_normal((3, 6)), "other": np.zeros(3)}
    outputs = predictor.infer(predictor.load(batch))
    assert all(isinstance(value, onnxruntime.OrtValue) for value in outputs)
    single = open_model(table_graph)
    expected = single.arrays(single.infer(single.load(batch)))
    np.testing.assert_array_equal(predictor.arrays(outputs)["logits"], expected["logits"])
    with pytest.raises(InputError, match="'features' is not in the data"):
        predictor.load({"other": np.zeros((1, 6))})
    predictor.close()


def test_products_that_run_elsewhere_are_a_fall_back(session: Any) -> None:
    """A session whose products run on the CPU is none of CUDA's, and the text counts them; of the CPU's own it is one."""
    need_no_fall_back(session, "CPUExecutionProvider")
    message = (
        r"asked for CUDAExecutionProvider, but ONNX Runtime silently runs (\d) of \1 matrix products, convolutions and "
        r"recurrent layers elsewhere: .* on CPUExecutionProvider"
    )
    with pytest.raises(BuildError, match=message):
        need_no_fall_back(session, "CUDAExecutionProvider")


def test_fp32_is_not_rounded_to_tf32() -> None:
    """CUDA's provider is told to leave FP32 as it is; behind TensorRT's stands CUDA's, and behind the CPU's nothing."""
    assert providers_for("CUDAExecutionProvider") == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert [name for name, _ in providers_for("TensorrtExecutionProvider")] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
    ]
    assert providers_for("CPUExecutionProvider") == [("CPUExecutionProvider", {})]


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_real_gpu_gives_the_cpus_answers(table_graph: OnnxModel, provider: str) -> None:
    """On a GPU every product runs on the provider asked for, and the answers are the CPU's."""
    found = BACKEND.availability(provider)
    if not found.usable:
        pytest.skip(found.reason)
    path = table_graph.path
    opened = BACKEND.open(path.parent, (path.name,), table_graph.signature, OpenOptions(provider=provider))
    assert isinstance(opened, OnnxRuntimeDevicePredictor)
    batch = {"features": np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)}
    single = open_model(table_graph)
    expected = single.arrays(single.infer(single.load(batch)))["logits"]
    np.testing.assert_allclose(
        opened.arrays(opened.infer(opened.load(batch)))["logits"], expected, rtol=1e-3, atol=1e-4
    )
    onnxruntime_on.cache_clear()
