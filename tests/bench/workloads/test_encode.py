"""Images and numbers in the layout of the model's input."""

import numpy as np
import pytest
from weighbridge.bench.config import Preprocess
from weighbridge.bench.workloads.encode import images, numbers
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.model import TensorSpec

GREY = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)


@pytest.mark.parametrize(
    "shape", [("batch", 1, 4, 4), ("batch", 4, 4, 1), ("batch", 4, 4), ("batch", 16), (1, 1, 4, 4), ("batch",)]
)
def test_grey_images_fit_every_usual_layout(shape: tuple[int | str, ...]) -> None:
    """Channels first, last or none, flat, a fixed batch, or unknown: the pixels are the same, in the input's layout."""
    (array,) = images(GREY, Preprocess(), TensorSpec("x", "float32", shape)).values()
    assert array.shape[1:] == ((1, 4, 4) if len(shape) == 1 else shape[1:])
    np.testing.assert_allclose(array.reshape(2, 16), GREY.reshape(2, 16) / 255)


def test_pixels_are_normalized_as_documented() -> None:
    """Integer pixels become (x / 255 - mean) / std; floating-point ones are not divided by 255."""
    spec = TensorSpec("x", "float32", ("batch", 1, 4, 4))
    preprocess = Preprocess(mean=(0.5,), std=(0.25,))
    (array,) = images(GREY, preprocess, spec).values()
    np.testing.assert_allclose(array[:, 0], (GREY / 255 - 0.5) / 0.25, rtol=1e-5)
    (array,) = images(GREY.astype(np.float32), Preprocess(), spec).values()
    np.testing.assert_allclose(array[:, 0], GREY)


def test_colour_images_keep_their_channels() -> None:
    """Three channels are normalized each by its own mean and put first."""
    colour = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    preprocess = Preprocess(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    (array,) = images(colour, preprocess, TensorSpec("x", "float32", ("batch", 3, 4, 5))).values()
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.3, 4.0))):
        np.testing.assert_allclose(array[:, channel], (colour[..., channel] / 255 - mean) / std, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "shape", "sentence"),
    [
        (GREY, ("batch", 1, 28, 28), r"images of shape \(4, 4, 1\) do not fit"),
        (GREY[0, 0], ("batch", 16), "images must have shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), ("batch", 1, 4, 4), "do not fit"),
    ],
)
def test_pixels_that_do_not_fit_say_both_shapes(
    pixels: np.ndarray, shape: tuple[int | str, ...], sentence: str
) -> None:
    """The error holds the shape that was given and the one that the model wants."""
    with pytest.raises(InputError, match=sentence):
        images(pixels, Preprocess(), TensorSpec("x", "float32", shape))


def test_a_mean_for_each_channel_or_none() -> None:
    """Two means for one channel are refused."""
    with pytest.raises(InputError, match="2 means for images of 1 channels"):
        images(GREY, Preprocess(mean=(0.1, 0.2), std=(1.0, 1.0)), TensorSpec("x", "float32", ("batch", 1, 4, 4)))


def test_rows_of_numbers_must_have_the_inputs_width() -> None:
    """Four features do not fit an input of five."""
    spec = TensorSpec("x", "float32", ("batch", 5))
    with pytest.raises(InputError, match=r"rows of \(4,\) numbers do not fit"):
        numbers(np.zeros((2, 4)), spec)
    assert numbers(np.zeros((2, 5)), spec)["x"].dtype == np.float32
