"""The training loop: `train` runs a recipe on a data set in a folder, from the start or from where it stopped.

The folder holds `state.safetensors` (to resume from), `checkpoints/IMAGES.safetensors` (to sample from),
`losses.csv`, `loss.png` and `samples/IMAGES.png` (a row a class). Progress is counted in images.
"""

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import CheckpointHeader, encode_checkpoint, write_atomically
from model.config import OptimizerConfig, Recipe
from model.datasets.dataset import ImageDataset
from model.denoiser import Denoiser
from model.ema import ExponentialMovingAverage
from model.forward import add_noise
from model.objective import drop_labels, loss_weights, row_losses
from model.pictures import grid, loss_curve, png
from model.prediction import training_target
from model.randomness import batch_indices, batch_seed
from model.sampling import from_pixels, plan_row, sample, to_pixels
from model.schedule import make_schedule
from model.training_state import load_training_state, save_training_state
from model.unet import UNet

LOG_EVERY_ITERATIONS = 20
_LOSS_FIELDS = ("images_seen", "loss", "gradient_norm", "learning_rate", "images_per_second")


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says what to do and which checkpoint is good."""


@dataclass(frozen=True)
class TrainingProgress:
    """Sent every LOG_EVERY_ITERATIONS iterations and at the end. loss, gradient_norm: means since the last one."""

    images_seen: int
    total_images: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """finished: False when it was asked to stop early. checkpoint: the last weights file."""

    images_seen: int
    finished: bool
    checkpoint: Path


def learning_rate(config: OptimizerConfig, images_seen: int, total_images: int) -> float:
    """The learning rate for the batch after `images_seen`: linear warm-up, then constant or a half cosine to zero."""
    if images_seen < config.warmup_images:
        return config.learning_rate * (images_seen + 1) / config.warmup_images
    if config.decay == "constant":
        return config.learning_rate
    done = (images_seen - config.warmup_images) / max(1, total_images - config.warmup_images)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


@dataclass
class Trainer:
    """Network, EMA and optimizer of a run, and the two numbers that say how far it is."""

    recipe: Recipe
    dataset: ImageDataset
    device: torch.device
    images_seen: int = 0
    iteration: int = 0
    network: UNet = field(init=False)
    ema: ExponentialMovingAverage = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        unet = self.recipe.model.unet
        wanted = (unet.image_channels, unet.image_size, unet.image_size)
        if self.dataset.images.shape[1:] != wanted:
            raise TrainingError(
                f"the data set's images are {tuple(self.dataset.images.shape[1:])} (C, H, W) but the recipe's "
                f"network takes {wanted}; set model.unet.image_channels and image_size, or dataset.image_size"
            )
        torch.manual_seed(self.recipe.training.seed)
        self.network = UNet(unet, len(self.dataset.class_names)).place(self.device)
        self.ema = ExponentialMovingAverage(self.network, self.recipe.ema)
        config = self.recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._schedule = make_schedule(self.recipe.model.schedule)
        self._weights = loss_weights(self._schedule, self.recipe.model.prediction, self.recipe.objective)
        self._forward = torch.compile(self.network) if self.recipe.training.compile else self.network

    def step(self) -> tuple[float, float]:
        """Train on the next batch; returns its loss and gradient norm. All randomness follows from `images_seen`.

        A loss or gradient that is not finite is returned, and leaves weights, EMA and optimizer as they were.
        """
        recipe, training = self.recipe, self.recipe.training
        generator = torch.Generator().manual_seed(batch_seed(training.seed, self.images_seen))
        torch.manual_seed(batch_seed(training.seed, self.images_seen))  # dropout has no generator of its own
        size = min(training.batch_size, training.total_images - self.images_seen)
        x0, labels = self._batch(batch_indices(len(self.dataset), training.seed, self.images_seen, size), generator)
        t = torch.randint(1, self._schedule.steps + 1, (size,), generator=generator)
        eps = torch.randn(x0.shape, generator=generator).to(self.device)
        labels = drop_labels(labels, self.network.null_label, recipe.objective.label_drop, generator)
        x = add_noise(self._schedule, x0, t, eps)
        target = training_target(self._schedule, recipe.model.prediction, x0, eps, t)

        rate = learning_rate(recipe.optimizer, self.images_seen, training.total_images)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            output = self._forward(x, t.to(self.device), labels)
        loss = row_losses(self._weights, output, target, t).mean()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.optimizer.gradient_clip or math.inf)
        loss_value, norm_value = loss.item(), norm.item()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            self.optimizer.step()
            self.iteration += 1
            self.images_seen += size
            self.ema.update(self.network, self.iteration)
        return loss_value, norm_value

    def _batch(self, indices: npt.NDArray[np.int64], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(self.dataset.images[indices])
        if self.recipe.training.horizontal_flip:
            flip = torch.rand(len(pixels), generator=generator) < 0.5
            pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
        labels = torch.from_numpy(self.dataset.labels[indices])
        x0 = from_pixels(pixels.to(self.device)).contiguous(memory_format=torch.channels_last)
        return x0, labels.to(self.device)

    def save(self, path: Path) -> None:
        """Write the training state."""
        save_training_state(
            path,
            self.network,
            self.ema,
            self.optimizer,
            images_seen=self.images_seen,
            iteration=self.iteration,
            recipe_json=self.recipe.model_dump_json(),
            dataset_digest=self.dataset.digest,
        )

    def resume(self, path: Path) -> None:
        """Go on from a training state; raises CheckpointError when it does not belong to this run."""
        self.images_seen, self.iteration = load_training_state(
            path,
            self.network,
            self.ema,
            self.optimizer,
            recipe_json=self.recipe.model_dump_json(),
            dataset_digest=self.dataset.digest,
        )

    def checkpoint(self) -> bytes:
        """The bytes of a weights file with the EMA weights as they are now."""
        header = CheckpointHeader(
            name=self.recipe.name,
            model=self.recipe.model,
            sampling=self.recipe.sampling,
            class_names=self.dataset.class_names,
            images_seen=self.images_seen,
            dataset_digest=self.dataset.digest,
            recipe=self.recipe,
        )
        return encode_checkpoint(header, self.ema.weights)

    def sample_grid(self) -> bytes:
        """A PNG with a row of samples for every class, drawn with the EMA weights and the recipe's settings."""
        classes, columns = len(self.dataset.class_names), self.recipe.training.samples_per_class
        network = UNet(self.recipe.model.unet, classes)
        network.load_state_dict(self.ema.weights)
        network = network.place(self.device).eval()
        denoiser = Denoiser(self.recipe.model, self.dataset.class_names, network, self.device)
        plans = [
            plan_row(denoiser, self.recipe.sampling, label=label, seed=0, index=index)
            for label in range(classes)
            for index in range(columns)
        ]
        return png(grid(to_pixels(sample(denoiser, plans)), columns), scale=2)


def train(
    recipe: Recipe,
    dataset: ImageDataset,
    folder: Path,
    *,
    device: torch.device,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Run the recipe to its end, or until `should_stop` (asked between iterations); continues what `folder` holds.

    Raises TrainingError on a loss that is not finite (the last state and checkpoint stay good) and CheckpointError
    when the folder belongs to another recipe or data set.
    """
    trainer = Trainer(recipe, dataset, device)
    state, training = folder / "state.safetensors", recipe.training
    last_good: Path | None = None
    if state.exists():
        trainer.resume(state)
        last_good = _checkpoint_path(folder, trainer.images_seen)  # always written before the state
    log = LossLog(folder / "losses.csv", trainer.images_seen)

    def save() -> Path:
        path = _checkpoint_path(folder, trainer.images_seen)
        write_atomically(path, trainer.checkpoint())
        trainer.save(state)
        log.draw(folder / "loss.png", recipe.name)
        return path

    losses: list[float] = []
    norms: list[float] = []
    since, since_images = time.perf_counter(), trainer.images_seen
    while trainer.images_seen < training.total_images and not should_stop():
        before = trainer.images_seen
        loss, norm = trainer.step()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            good = f"{last_good} is the last good checkpoint" if last_good else "no checkpoint was written yet"
            raise TrainingError(
                f"the loss is {loss} and the gradient norm {norm} after {trainer.images_seen} images; {good}. "
                "Start again in another folder with a lower optimizer.learning_rate or with optimizer.gradient_clip."
            )
        losses.append(loss)
        norms.append(norm)
        ended = trainer.images_seen >= training.total_images
        if trainer.iteration % LOG_EVERY_ITERATIONS == 0 or ended:
            now = time.perf_counter()
            progress = TrainingProgress(
                trainer.images_seen,
                training.total_images,
                float(np.mean(losses)),
                float(np.mean(norms)),
                learning_rate(recipe.optimizer, before, training.total_images),
                (trainer.images_seen - since_images) / (now - since),
            )
            log.append(progress)
            on_progress(progress)
            losses, norms, since, since_images = [], [], now, trainer.images_seen
        if ended or _crossed(before, trainer.images_seen, training.checkpoint_every_images):
            last_good = save()
        if ended or _crossed(before, trainer.images_seen, training.sample_every_images):
            picture = folder / "samples" / f"{trainer.images_seen:010d}.png"
            write_atomically(picture, trainer.sample_grid())
            since, since_images = time.perf_counter(), trainer.images_seen
    if last_good != _checkpoint_path(folder, trainer.images_seen) or not last_good.exists():
        last_good = save()
    return TrainingResult(trainer.images_seen, trainer.images_seen >= training.total_images, last_good)


def _checkpoint_path(folder: Path, images_seen: int) -> Path:
    return folder / "checkpoints" / f"{images_seen:010d}.safetensors"


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every < after // every


def _is_whole(row: dict[str, str]) -> bool:
    try:
        int(row["images_seen"])
        return all(math.isfinite(float(row[name])) for name in _LOSS_FIELDS)
    except (KeyError, TypeError, ValueError):
        return False


class LossLog:
    """`losses.csv`: a line per TrainingProgress; on resuming, torn lines and those after the state are dropped."""

    def __init__(self, path: Path, images_seen: int) -> None:
        self._path = path
        kept = [row for row in self._rows() if int(row["images_seen"]) <= images_seen] if path.exists() else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _LOSS_FIELDS)
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(path, text.getvalue().encode())

    def _rows(self) -> list[dict[str, str]]:
        with self._path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if _is_whole(row)]

    def append(self, progress: TrainingProgress) -> None:
        """Add one line."""
        values = [getattr(progress, name) for name in _LOSS_FIELDS]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([value if isinstance(value, int) else f"{value:.6g}" for value in values])

    def draw(self, path: Path, title: str) -> None:
        """Write the curve as PNG; nothing when no line was written yet."""
        rows = self._rows()
        if rows:
            images_seen = np.array([float(row["images_seen"]) for row in rows])
            write_atomically(path, loss_curve(images_seen, np.array([float(row["loss"]) for row in rows]), title))
