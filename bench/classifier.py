"""A small convolutional classifier. Trained on real images, it says which class a generated image looks like.

Its weights file is safetensors. The header describes the classifier and its accuracy. Reading a file executes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from darkroom.model.checkpoint import CheckpointError, load_tensors, read_metadata, write_atomically
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.images.pixels import from_pixels

_HEADER_KEY = "darkroom-judge"
BATCH_IMAGES = 128
LARGEST_SHIFT_PIXELS = 1


class ClassifierHeader(BaseModel):
    """The header of a classifier's weights file. recalls: per class, the share of its test images predicted right."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_channels: int = Field(ge=1)
    image_size: int = Field(ge=8)
    class_names: tuple[str, ...] = Field(min_length=2)
    train_digest: str
    test_digest: str
    test_images: int = Field(ge=1)
    test_accuracy: float = Field(ge=0.0, le=1.0)
    recalls: tuple[float, ...]
    epochs: int = Field(ge=1)
    seed: int = Field(ge=0)


def _stage(channels: int, width: int, *, halve: bool) -> list[nn.Module]:
    """3x3 convolution, 2x2 maximum, normalisation, ReLU. The maximum comes early to make the later layers cheaper."""
    pool: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return [convolution, *pool, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


class ClassifierNetwork(nn.Module):
    """Five 3x3 convolutions, which halve the side three times, and a linear layer.

    (B, C, H, W) floats in -1..1 -> logits (B, classes).
    """

    def __init__(self, image_channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(image_channels, 24, halve=True),
            *_stage(24, 64, halve=True),
            *_stage(64, 64, halve=False),
            *_stage(64, 96, halve=True),
            *_stage(96, 96, halve=False),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(96 * (image_size // 8) ** 2, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x.contiguous(memory_format=torch.channels_last)))
        return logits


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, in evaluation mode."""

    header: ClassifierHeader
    network: ClassifierNetwork

    def save(self, path: Path) -> None:
        """Write the weights file."""
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        write_atomically(path, save(tensors, metadata={_HEADER_KEY: self.header.model_dump_json()}))


def shift_at_random(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image (B, C, H, W) by its own random -1..1 pixels each way, and repeat the border."""
    size, (height, width), reach = len(x), x.shape[2:], LARGEST_SHIFT_PIXELS
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * reach + 1, (2, size, 1), generator=generator)
    rows = (top + torch.arange(height))[:, None, :, None]
    columns = (left + torch.arange(width))[:, None, None, :]
    images, channels = torch.arange(size)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None]
    return padded[images, channels, rows, columns]


@torch.inference_mode()
def predict(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return the most likely class (N,) of images (N, C, H, W) uint8."""
    return torch.cat([network(from_pixels(batch)).argmax(1) for batch in torch.split(pixels, 500)])


def recall_per_class(predicted: Tensor, labels: Tensor, classes: int) -> tuple[float, ...]:
    """Return each class's share of correct predictions. predicted, labels: (N,), with every class in `labels`."""
    right = torch.bincount(labels[predicted == labels], minlength=classes)
    return tuple((right.double() / torch.bincount(labels, minlength=classes)).tolist())


def train_classifier(
    train: ImageDataset,
    test: ImageDataset,
    *,
    epochs: int,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Classifier:
    """Train on `train` with random shifts, AdamW and a one-cycle learning rate, then measure on `test` once.

    The same data, `seed` and number of threads give the same weights. Raises ValueError when the classes differ.
    """
    if train.class_names != test.class_names:
        raise ValueError(f"training and test classes differ: {train.class_names} and {test.class_names}")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    channels, size = train.images.shape[1:3]
    network = ClassifierNetwork(channels, size, len(train.class_names))
    pixels, labels = torch.tensor(train.images), torch.tensor(train.labels)
    batches = len(pixels) // BATCH_IMAGES
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=epochs * batches)
    for epoch in range(epochs):
        order, total = torch.randperm(len(pixels), generator=generator), 0.0
        for chosen in torch.split(order[: batches * BATCH_IMAGES], BATCH_IMAGES):
            x = shift_at_random(from_pixels(pixels[chosen]), generator)
            loss = nn.functional.cross_entropy(network(x), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            cycle.step()
            total += loss.item()
        on_epoch(epoch + 1, total / batches)
    network.eval().requires_grad_(False)
    truth = torch.tensor(test.labels)
    predicted = predict(network, torch.tensor(test.images))
    header = ClassifierHeader(
        image_channels=channels,
        image_size=size,
        class_names=train.class_names,
        train_digest=train.digest,
        test_digest=test.digest,
        test_images=len(test),
        test_accuracy=(predicted == truth).double().mean().item(),
        recalls=recall_per_class(predicted, truth, len(test.class_names)),
        epochs=epochs,
        seed=seed,
    )
    return Classifier(header, network)


def load_classifier(path: Path) -> Classifier:
    """Read a classifier's weights file; raises CheckpointError when it is missing, damaged or something else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; make it with: python -m bench.judge train") from error
    metadata = read_metadata(data, source=str(path))
    if _HEADER_KEY not in metadata:
        raise CheckpointError(f"{path}: not a classifier's weights file (no header)")
    try:
        header = ClassifierHeader.model_validate_json(metadata[_HEADER_KEY])
        network = ClassifierNetwork(header.image_channels, header.image_size, len(header.class_names))
        network.load_state_dict(load_tensors(data, source=str(path)))
    except (ValidationError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Classifier(header, network.eval().requires_grad_(False))
