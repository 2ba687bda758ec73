"""A picture becomes the input of a model, in the layout that the model declares."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_kit.run import slipway
from PIL import Image

from slipway.errors import InvalidArguments
from slipway.model.tensor import Tensor
from slipway.serving import images
from slipway.serving.images import Form, Wishes
from slipway.serving.inputs import arrays_of

RED_OVER_BLUE = np.array([[[255, 0, 0]] * 3, [[0, 0, 255]] * 3], np.uint8)
"""Two rows of three pixels."""


@pytest.fixture
def picture(folder: Path) -> Path:
    path = folder / "p.png"
    Image.fromarray(RED_OVER_BLUE).save(path)
    return path


def tensor(*shape: int | None, datatype: str = "FP32") -> Tensor:
    return Tensor("pixels", datatype, shape)


@pytest.mark.parametrize(
    ("shape", "layout", "form"),
    [
        ((None, 3, 224, 200), "", Form("nchw", 3, 224, 200)),
        ((1, 224, 200, 3), "", Form("nhwc", 3, 224, 200)),
        ((None, 1, 28, 28), "", Form("nchw", 1, 28, 28)),
        ((None, 3, None, None), "", Form("nchw", 3, None, None)),
        ((None, 3, 3, 3), "nhwc", Form("nhwc", 3, 3, 3)),
        ((None, None, None, None), "nchw", Form("nchw", 3, None, None)),
    ],
)
def test_the_shape_declares_layout_channels_and_size(
    shape: tuple[int | None, ...], layout: str, form: Form
) -> None:
    assert images.form_of(tensor(*shape), layout) == form


@pytest.mark.parametrize(
    ("given", "layout", "told"),
    [
        (tensor(None, 4), "", "takes no picture"),
        (tensor(None, 3, 2, 2, datatype="BYTES"), "", "takes no picture"),
        (tensor(None, 3, 3, 3), "", "--layout nchw or --layout nhwc"),
        (tensor(None, None, None, None), "", "--layout"),
        (tensor(None, 5, 8, 8), "nchw", "5 channels"),
    ],
)
def test_an_input_that_takes_no_picture_is_named(given: Tensor, layout: str, told: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        images.form_of(given, layout)
    assert told in caught.value.message + (caught.value.hint or "")


def sent(path: Path, given: Tensor, **wishes: object) -> np.ndarray:
    return arrays_of(path, [given], Wishes(**wishes), {})["pixels"]  # type: ignore[arg-type]


def test_pixels_stand_where_the_layout_has_them(picture: Path) -> None:
    first = sent(picture, tensor(None, 3, None, None))
    assert first.shape == (1, 3, 2, 3)
    assert first[0, 0].tolist() == [[1, 1, 1], [0, 0, 0]], "red is above"
    assert first[0, 2].tolist() == [[0, 0, 0], [1, 1, 1]], "blue is below"
    last = sent(picture, tensor(None, None, None, 3))
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))


def test_an_input_of_bytes_takes_pixels_as_they_are(picture: Path) -> None:
    assert sent(picture, tensor(1, None, None, 3, datatype="UINT8")).max() == 255


def test_mean_and_deviation_of_each_channel_are_taken_out(picture: Path) -> None:
    found = sent(picture, tensor(1, 3, None, None), mean=(0.5, 0.4, 0.2), std=(0.25, 1, 2))
    assert found[0, :, 0, 0].tolist() == pytest.approx([2, -0.4, -0.1])
    with pytest.raises(InvalidArguments, match="does not fit 3 channels"):
        sent(picture, tensor(1, 3, None, None), mean=(0.5, 0.5))


def test_a_picture_is_resized_turned_upright_and_made_grey_as_the_input_wants_it(
    folder: Path,
) -> None:
    path = folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned by a quarter.
    Image.new("RGB", (40, 20), (255, 255, 255)).save(path, exif=exif)
    assert sent(path, tensor(1, 3, None, None)).shape == (1, 3, 40, 20)
    assert sent(path, tensor(1, 1, 8, 6)).shape == (1, 1, 8, 6)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_a_file_that_is_no_picture_is_told_so(folder: Path, content: bytes) -> None:
    (folder / "p.png").write_bytes(content)
    with pytest.raises(InvalidArguments, match="no picture"):
        sent(folder / "p.png", tensor(1, 3, 2, 2))


def test_without_pillow_the_extra_is_named(
    picture: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(Exception, match="Pillow is not installed") as caught:
        sent(picture, tensor(1, 3, 2, 2))
    assert "slipway[image]" in caught.value.hint  # type: ignore[attr-defined]


def test_a_model_of_two_inputs_is_no_place_for_a_picture(picture: Path) -> None:
    with pytest.raises(InvalidArguments, match="2 inputs"):
        arrays_of(picture, [tensor(1, 3, 2, 2)] * 2, Wishes(), {})


def test_numbers_that_are_none_are_refused(picture: Path) -> None:
    ended = slipway("predict", picture, "--mean", "a,b")
    assert ended.code == 2
    assert "no list of numbers" in ended.err
