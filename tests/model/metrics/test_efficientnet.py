"""The extractor equals an independent implementation, and reads only weights with the expected digest."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

import darkroom.model.metrics.efficientnet as efficientnet
from darkroom.model.metrics.efficientnet import EfficientNetLite0, network_input
from darkroom.model.metrics.extractor import FeatureExtractor, MetricsUnavailable


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0:
    return EfficientNetLite0()


def random_images(count: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)


def test_features_are_those_of_an_independent_implementation(extractor: EfficientNetLite0) -> None:
    other = EfficientNet.from_name("efficientnet-lite0")
    other.load_state_dict(efficientnet._read_weights())
    images = random_images(4, 3, 64)
    with torch.no_grad():
        expected = other.eval().extract_features((images.float() - 127.0) / 128.0).mean((2, 3))
    torch.testing.assert_close(extractor.features(images), expected, rtol=1e-4, atol=1e-4)


def test_it_says_what_it_is(extractor: EfficientNetLite0) -> None:
    seen: FeatureExtractor = extractor
    features = seen.features(random_images(3, 1, 28))
    assert features.shape == (3, seen.dimension)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert seen.protocol["input_pixels"] == 64


def test_grey_is_colour_with_equal_channels(extractor: EfficientNetLite0) -> None:
    grey = random_images(3, 1, 28)
    torch.testing.assert_close(extractor.features(grey), extractor.features(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("side", [28, 64, 96, 200])
def test_scaling_is_pillows_bicubic(side: int) -> None:
    """Pillow's filter does not alias, because its support grows with the reduction."""
    image = random_images(1, 1, side)
    picture = Image.fromarray(image[0, 0].float().numpy())
    scaled = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC))
    found = network_input(image)
    assert found.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(found[0, 2] * 128.0 + 127.0, scaled, atol=0.01)


def test_the_same_images_give_the_same_bits_alone_or_again(extractor: EfficientNetLite0) -> None:
    images = random_images(8, 3, 32)
    first = extractor.features(images)
    assert torch.equal(first, extractor.features(images))
    assert torch.equal(first, EfficientNetLite0().features(images))
    torch.testing.assert_close(first[3:4], extractor.features(images[3:4]), rtol=1e-4, atol=1e-5)


def test_other_forms_of_images_are_refused(extractor: EfficientNetLite0) -> None:
    for wrong in (torch.zeros(1, 3, 8, 8), random_images(1, 2, 8), random_images(1, 3, 8)[0]):
        with pytest.raises(ValueError, match="uint8"):
            extractor.features(wrong)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, efficientnet.WEIGHTS_PACKAGE, None)
    with pytest.raises(MetricsUnavailable, match=r"-e '\.\[metrics\]'"):
        EfficientNetLite0()


def test_other_weights_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "other_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    buffer = io.BytesIO()
    torch.save({"_conv_stem.weight": torch.zeros(1)}, buffer)
    (package / "models" / efficientnet.WEIGHTS_FILE).write_bytes(buffer.getvalue())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet, "WEIGHTS_PACKAGE", "other_weights")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unverified bytes were read"))
    with pytest.raises(MetricsUnavailable, match=efficientnet.WEIGHTS_DIGEST):
        EfficientNetLite0()
