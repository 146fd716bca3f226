"""One step of training, and everything that it changes: network, EMA, optimizer, images seen and iterations."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from darkroom.model.checkpoint import (
    CheckpointError,
    CheckpointHeader,
    SnapshotHeader,
    decode_checkpoint,
    encode_checkpoint,
    first_not_finite,
    require_scaled_times,
)
from darkroom.model.config import OptimizerConfig, Recipe, SamplingConfig
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.resize import reduced
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.learned_variance import bound_losses, to_fraction
from darkroom.model.diffusion.network import DenoisingNetwork, build_network, make_denoiser, place
from darkroom.model.diffusion.prediction import training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.images.pixels import from_pixels
from darkroom.model.machine.compiler import CompilerMissing, allow_many_graphs, compiler_works, require_compiler
from darkroom.model.machine.determinism import computes_deterministically
from darkroom.model.machine.device import uploaded
from darkroom.model.misfit import Misfit
from darkroom.model.sampling.draw import draws_finite
from darkroom.model.sampling.noise import noise_of
from darkroom.model.training import distributed
from darkroom.model.training.ema import ExponentialMovingAverage
from darkroom.model.training.muon import MuonAdamW
from darkroom.model.training.objective import drop_labels, loss_weights, row_losses
from darkroom.model.training.randomness import batch_indices, batch_seed
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits, state_misfits, weights_misfits
from darkroom.model.training.state import (
    Snapshot,
    StateHeader,
    encode_training_state,
    read_state_header,
    restore_training_state,
    state_tensors,
)
from darkroom.model.training.time_sampling import TimeSampler
from darkroom.model.user_error import UserError
from darkroom.model.words import several

CLASS_EMBEDDING = "class_embedding.weight"
"""The network's parameter with one embedding for each class, and one for no class."""

HELD_SHARE = 0.25
"""A GPU holds the data set's images where they take at most this share of its free memory."""

RATE_LEAP = 2.0
"""Largest rise of the learning rate without a warning, where a run continues another run's state; a factor."""


class TrainingError(UserError):
    """A run cannot continue; the message says what to do and which checkpoint is valid."""


class TrainingDiverged(TrainingError):
    """The loss, the gradient norm, the weights or the images drawn with them are not finite."""


class TrainingHopeless(TrainingError):
    """The early verdict has ended the run."""


def learning_rate(config: OptimizerConfig, images_seen: int, total_images: int) -> float:
    """Return the learning rate of the batch after `images_seen`: linear warm-up, then constant or half a cosine."""
    if images_seen < config.warmup_images:
        return config.learning_rate * (images_seen + 1) / config.warmup_images
    if config.decay == "constant":
        return config.learning_rate
    done = (images_seen - config.warmup_images) / max(1, total_images - config.warmup_images)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _require_none(misfits: Iterable[Misfit], source: str) -> None:
    faults = "; ".join(map(str, misfits))
    if faults:
        raise CheckpointError(f"{source}: does not fit the recipe: {faults}")


def rate_jump(before: Recipe, after: Recipe, images_seen: int) -> str | None:
    """Return a warning when a run continues another run's state and its learning rate leaps there; None otherwise.

    The learning rate is a function of the recipe and the images seen, so that a run can be resumed bit for bit. When a
    recipe makes a run longer, a rate that had decayed continues in the middle of a new curve.
    """
    own = (max(0, images_seen - before.training.batch_size), images_seen)  # its last batch, and its next one
    was = max(learning_rate(before.optimizer, seen, before.training.total_images) for seen in own)
    becomes = learning_rate(after.optimizer, images_seen, after.training.total_images)
    if becomes <= RATE_LEAP * was:
        return None
    return (
        f"the learning rate leaps from {was:.2g} to {becomes:.2g} after {images_seen} images, because optimizer.decay "
        f"is {after.optimizer.decay} over {after.training.total_images} images. For a smaller rise, set a lower "
        "optimizer.learning_rate"
    )


def compiles(recipe: Recipe, device: torch.device) -> bool:
    """Return whether a training compiles its network. Where the recipe leaves that open, a GPU with a compiler does."""
    if recipe.training.compile is not None:
        return recipe.training.compile
    return device.type == "cuda" and not computes_deterministically() and compiler_works(device)


@dataclass
class Trainer:
    """Network, EMA and optimizer of a run, and the numbers that count its progress.

    place: how far the run is, as images of the recipe's total_images. It equals images_seen, except in a run that ends
    by the clock (`training.minutes`): there the loop sets it from the seconds that the run has spent.

    reads_late: losses stay on the device until `read`, so that the host does not wait for each step: so on a GPU.

    Each process of a group (`model/training/distributed.py`) has its own Trainer. They stay equal and share the rows of
    every batch.
    Raises TrainingError when the recipe cannot run (`recipe_fit.recipe_misfits`) or does not fit the number of
    processes.
    """

    recipe: Recipe
    dataset: ImageDataset
    device: torch.device
    images_seen: int = 0
    iteration: int = 0
    place: int = 0
    seconds: float = 0.0
    network: DenoisingNetwork = field(init=False)
    ema: ExponentialMovingAverage = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)
    snapshot: Snapshot | None = field(init=False, default=None)
    reads_late: bool = field(init=False)

    def __post_init__(self) -> None:
        self.reads_late = self.device.type == "cuda"
        self._unread: list[Tensor] = []
        self._read: list[tuple[float, float]] = []
        self.dataset = reduced(self.dataset, self.recipe.model.image_size)
        self._held = self._held_images()
        self._flipped = torch.tensor(self.recipe.training.flipped(self.dataset.class_names))
        channels, _, side = self.dataset.images.shape[1:]
        facts = ImageFacts(channels, side, self.dataset.class_counts, self.dataset.class_names)
        faults = "; ".join(map(str, recipe_misfits(self.recipe, facts)))
        if faults:
            raise TrainingError(f"the recipe cannot be carried out: {faults}")
        devices, processes = self.recipe.training.devices, distributed.world_size()
        if devices != processes:
            raise TrainingError(
                f"the recipe's training.devices is {devices} but the number of processes here is {processes}; "
                f"start it with torchrun --nproc-per-node {devices}, or set training.devices to {processes}"
            )
        compiled = compiles(self.recipe, self.device)
        if self.recipe.training.compile:
            try:
                require_compiler(self.device, "training.compile")
            except CompilerMissing as error:
                raise TrainingError(str(error)) from error
        torch.manual_seed(self.recipe.training.seed)
        self.network = place(self._new_network(), self.device)
        self.ema = ExponentialMovingAverage(self.network, self.recipe.ema)
        self.optimizer = self._make_optimizer()
        self._schedule = make_schedule(self.recipe.model.schedule)
        self._weights = loss_weights(self._schedule, self.recipe.model.prediction, self.recipe.objective)
        self._times = TimeSampler(self._schedule, self.recipe.objective.times)
        self._forward: Network = self.network
        if compiled:
            allow_many_graphs()  # a plan measures many networks in one process
            self._forward = torch.compile(self.network)
        if processes > 1:
            self._forward = self._shared(self._forward)

    def _make_optimizer(self) -> torch.optim.AdamW:
        config, parameters = self.recipe.optimizer, list(self.network.parameters())
        rate, decay = config.learning_rate, config.weight_decay
        if config.name == "adamw":
            return torch.optim.AdamW(parameters, lr=rate, betas=config.betas, weight_decay=decay, fused=True)
        matrices = self.network.hidden_matrices()
        taken = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in parameters if id(parameter) not in taken]
        return MuonAdamW(
            matrices,
            others,
            lr=rate,
            momentum=config.momentum,
            betas=config.betas,
            weight_decay=decay,
            dtype=torch.bfloat16 if self.recipe.training.precision == "bfloat16" else torch.float32,
        )

    @property
    def ended(self) -> bool:
        """True when the recipe's last image was seen, or its time is spent."""
        return self.place >= self.recipe.training.total_images

    def step(self) -> tuple[float, float]:
        """Train on the next batch; returns its loss and gradient norm, for which a GPU is waited for."""
        self.advance()
        return self.read()[-1]

    def read(self) -> list[tuple[float, float]]:
        """Return loss and gradient norm of each step since the last call. All processes call this together."""
        if self._unread:
            values = torch.stack(self._unread).flatten().tolist()
            self._unread.clear()
            totals = self._totals(values)
            self._read += zip(totals[::2], totals[1::2], strict=True)
        found, self._read = self._read, []
        return found

    def advance(self) -> None:
        """Train on the next batch. All randomness follows from `images_seen`.

        Every process draws the whole batch's randomness and uses its own rows of it. Results therefore depend on the
        number of processes only through the order of sums, and dropout. When loss or gradient norm is not finite, every
        process leaves weights, EMA and optimizer unchanged; where losses are read late, only the next `read` tells.
        """
        recipe, training = self.recipe, self.recipe.training
        generator = torch.Generator().manual_seed(batch_seed(training.seed, self.images_seen))
        # Dropout takes no generator; it uses torch's global one.
        torch.manual_seed(batch_seed(training.seed, self.images_seen, distributed.rank()))
        left = training.batch_size if training.minutes is not None else training.total_images - self.images_seen
        size = min(training.batch_size, left)
        own = distributed.own_rows(size)
        share = (own.stop - own.start) / size
        if share == 0.0:
            own = slice(0, 1)  # a row of weight 0, as every process must take part in the averaging
        x0, t, eps, labels = self._batch(size, own, generator)
        x = add_noise(self._schedule, x0, t, eps)
        target = training_target(self._schedule, recipe.model.prediction, x0, eps, t)

        rate = learning_rate(recipe.optimizer, self.place, training.total_images)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            output = self._forward(x, uploaded(t, self.device), labels)
        # With this factor, averaging over processes gives the gradient of the mean over all rows.
        processes = distributed.world_size()
        loss = self._losses(output, target, x, x0, t).mean() * (share * processes)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.optimizer.gradient_clip or math.inf)
        if self.reads_late:
            self._unread.append(torch.stack([loss.detach(), norm]))
        else:
            loss_value, norm_value = self._totals([loss.item(), norm.item()])
            self._read.append((loss_value, norm_value))
            if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
                return
        self.optimizer.step()
        self.iteration += 1
        self.images_seen += size
        if training.minutes is None:
            self.place = self.images_seen
        self.ema.update(self.network, self.iteration)
        self._keep_snapshot()

    def _totals(self, values: list[float]) -> list[float]:
        """Return the mean of each value over the processes."""
        return [total / distributed.world_size() for total in distributed.sums(values)]

    def _losses(self, output: Tensor, target: Tensor, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Return each row's loss, (B,); with learned variances L_hybrid (Nichol & Dhariwal 2021, equation 16)."""
        recipe, channels = self.recipe, x0.shape[1]
        prediction = output[:, :channels]
        losses = row_losses(self._weights, prediction, target, t)
        if recipe.model.learned_variance:
            fraction = to_fraction(output[:, channels:])
            bound = bound_losses(recipe.model.schedule, recipe.model.prediction, x, prediction, fraction, x0, t)
            losses = losses + recipe.objective.vlb_weight * bound
        return losses

    def _keep_snapshot(self) -> None:
        """Copy the EMA weights as the snapshot once the run has come to `guide_snapshot_images`."""
        at = self.recipe.training.guide_snapshot_images
        if at is not None and self.snapshot is None and self.place >= at:
            weights = {name: value.detach().cpu().clone() for name, value in self.ema.weights.items()}
            self.snapshot = Snapshot(self.images_seen, weights)

    def _batch(self, size: int, own: slice, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return x_0 (b, C, H, W), t (b,) on the CPU, eps and labels (b,) of this process's part of the next batch."""
        training = self.recipe.training
        indices = batch_indices(len(self.dataset), training.seed, self.images_seen, size)
        pixels = self._pixels(indices[own])
        if training.horizontal_flip:
            flip = (torch.rand(size, generator=generator) < 0.5) & self._flipped[self.dataset.labels[indices]]
            flip = uploaded(flip[own], pixels.device)
            pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
        t = self._times.draw(size, generator)
        eps = self._noise(size, own, generator)
        labels = torch.from_numpy(self.dataset.labels[indices])
        labels = drop_labels(labels, self.network.null_label, self.recipe.objective.label_drop, generator)
        x0 = from_pixels(uploaded(pixels, self.device)).contiguous(memory_format=torch.channels_last)
        return x0, t[own], eps, uploaded(labels[own], self.device)

    def _held_images(self) -> Tensor | None:
        """Return the data set's images on the device, (N, C, H, W) uint8; None on a CPU, or when they are too many."""
        images = self.dataset.images
        if self.device.type != "cuda" or images.nbytes > HELD_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return None
        return torch.tensor(images, device=self.device)

    def _pixels(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """Return the images with these indices, from where the data set lies."""
        if self._held is None:
            return torch.from_numpy(self.dataset.images[indices])
        return self._held[uploaded(indices, self.device)]

    def _noise(self, size: int, own: slice, generator: torch.Generator) -> Tensor:
        """Return eps of this process's rows of a batch. A GPU draws it from its own counters, with no copy."""
        shape = self.dataset.images.shape[1:]
        if self.device.type != "cuda":
            return torch.randn((size, *shape), generator=generator)[own]
        rows = torch.arange(own.start, own.stop, device=self.device)
        seed = batch_seed(self.recipe.training.seed, self.images_seen)
        return noise_of(torch.full_like(rows, seed), rows, torch.zeros_like(rows), shape)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.training.precision == "bfloat16")

    def _shared(self, network: Network) -> Network:
        """Wrap the network so that gradients are averaged over all processes, in the same order in every step.

        After its first backward pass, DistributedDataParallel changes the layout of gradients, and with it the order of
        sums among three processes or more. A pass without an update comes first, so that a resumed run does not differ.
        """
        assert isinstance(network, nn.Module)
        shared = distributed.averaging_gradients(network, self.device)
        own = distributed.own_rows(self.recipe.training.batch_size)
        rows = max(1, own.stop - own.start)
        zeros = torch.zeros(rows, *self.dataset.images.shape[1:], device=self.device)
        zeros = zeros.contiguous(memory_format=torch.channels_last)
        ones = torch.ones(rows, dtype=torch.int64, device=self.device)
        with self._autocast():
            output = shared(zeros, ones, torch.zeros_like(ones))
        torch.autograd.backward(output.float().mean())
        self.optimizer.zero_grad(set_to_none=True)
        return shared

    def state(self) -> bytes:
        """Return the bytes of the current training state."""
        at = None if self.snapshot is None else self.snapshot.images_seen
        steps = self.recipe.model.schedule.steps
        place = None if self.recipe.training.minutes is None else self.place
        counted = (self.images_seen, self.iteration, self.recipe, self.dataset.digest, steps, at, self.seconds, place)
        header = StateHeader(*counted)
        return encode_training_state(header, self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        return state_tensors(self.network, self.ema, self.optimizer, self.snapshot)

    def fault(self) -> str | None:
        """Return what is not finite in the current state, or in an image drawn with it; None when all is finite.

        Costs a pass over the state and the drawing of one image (`draws_finite`).
        """
        broken = first_not_finite(self._tensors())
        if broken is not None:
            return f"{broken} holds numbers that are not finite"
        return None if draws_finite(self.denoiser()) else "the network draws images that are not finite"

    def resume(self, data: bytes, *, source: str) -> None:
        """Continue from a training state of the same run; raises CheckpointError, naming `source`, for other states."""
        header = read_state_header(data, source=source)
        theirs = header.recipe
        if self.recipe.training.compile is None:  # earlier versions wrote `false` where a recipe leaves it out
            theirs = theirs.model_copy(update={"training": theirs.training.model_copy(update={"compile": None})})
        if theirs != self.recipe:
            raise CheckpointError(
                f"{source}: was written by another recipe; resume with that recipe or choose another folder"
            )
        self._restore(data, header, source)
        self.seconds = header.seconds
        self.place = header.images_seen if header.place is None else header.place

    def continue_from(self, data: bytes, *, source: str) -> Recipe:
        """Continue from a training state of another run, with this recipe and the other run's images seen.

        A recipe with `training.minutes` begins at its place 0, with all its time. Returns the other run's recipe.
        Raises CheckpointError, naming `source`, when the data set differs, or the recipe changes what the state does
        not allow (`recipe_fit.state_misfits`).
        """
        header = read_state_header(data, source=source)
        snapshot = header.snapshot_images is not None
        _require_none(state_misfits(self.recipe, header.recipe, header.images_seen, snapshot), source)
        self._restore(data, header, source)
        self.place = header.images_seen if self.recipe.training.minutes is None else 0
        at = self.recipe.training.guide_snapshot_images
        if at is None or self.place < at:  # this recipe wants no snapshot, or takes its own later
            self.snapshot = None
        return header.recipe

    def start_from(self, data: bytes, *, source: str) -> None:
        """Begin with the weights of a weights file, at 0 images: a fine-tune or a fork.

        When both have the same class names, each class gets the embedding of its name; otherwise that of its number.
        Raises CheckpointError, naming `source`, when the number of classes differs, or the recipe changes what the
        weights do not allow (`recipe_fit.weights_misfits`).
        """
        checkpoint = decode_checkpoint(data, source=source)
        require_scaled_times(checkpoint.header.embedding_steps, checkpoint.header.model.schedule, source)
        _require_none(weights_misfits(self.recipe, checkpoint.header.model), source)
        theirs, ours = checkpoint.header.class_names, self.dataset.class_names
        if len(theirs) != len(ours):
            has = several(len(theirs), "class")
            raise CheckpointError(f"{source} has {has}, and the data set has {len(ours):,}")
        weights = dict(checkpoint.weights)
        try:
            if len(set(ours)) == len(ours) and set(ours) == set(theirs):
                rows = [*map(theirs.index, ours), self.network.null_label]
                weights[CLASS_EMBEDDING] = weights[CLASS_EMBEDDING][rows]
            self.network.load_state_dict(weights)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{source}: does not fit the recipe's network: {error}") from error
        self.ema.load(self.network.state_dict())

    def _restore(self, data: bytes, header: StateHeader, source: str) -> None:
        if header.dataset_digest != self.dataset.digest:
            raise CheckpointError(f"{source}: was trained on another data set ({header.dataset_digest})")
        require_scaled_times(header.embedding_steps, header.recipe.model.schedule, source)
        self.snapshot = restore_training_state(
            data, self.network, self.ema, self.optimizer, header=header, source=source
        )
        self.images_seen, self.iteration = header.images_seen, header.iteration

    @property
    def sampling(self) -> SamplingConfig:
        """The recipe's sampling settings; until its snapshot exists, guided by no class, or unguided without that."""
        wanted = self.recipe.sampling
        if self.snapshot is not None or wanted.guide == "unconditional":
            return wanted
        return wanted.model_copy(update={"guide": "unconditional"} | ({} if self._null_class else {"guidance": 1.0}))

    @property
    def _null_class(self) -> bool:
        return self.recipe.objective.label_drop > 0.0

    def checkpoint(self) -> bytes:
        """Return the bytes of a weights file with the current EMA weights."""
        snapshot = self.snapshot
        header = CheckpointHeader(
            name=self.recipe.name,
            model=self.recipe.model,
            embedding_steps=self.recipe.model.schedule.steps,
            sampling=self.sampling,
            class_names=self.dataset.class_names,
            undrawn=tuple(label for label, count in enumerate(self.dataset.class_counts) if not count),
            images_seen=self.images_seen,
            dataset_digest=self.dataset.digest,
            recipe=self.recipe,
            snapshot=None if snapshot is None else SnapshotHeader(images_seen=snapshot.images_seen),
        )
        return encode_checkpoint(header, self.ema.weights, None if snapshot is None else snapshot.weights)

    def denoiser(self) -> Denoiser:
        """Return a denoiser with a copy of the EMA weights, and of the snapshot if there is one."""
        model = self.recipe.model
        return make_denoiser(
            model,
            self.dataset.class_names,
            self._frozen(self.ema.weights),
            self.device,
            "draw",
            snapshot=None if self.snapshot is None else (self._frozen(self.snapshot.weights), model),
            null_class=self._null_class,
        )

    def _new_network(self) -> DenoisingNetwork:
        model = self.recipe.model
        return build_network(model, len(self.dataset.class_names), model.schedule.steps)

    def _frozen(self, weights: Mapping[str, Tensor]) -> DenoisingNetwork:
        network = self._new_network()
        network.load_state_dict(dict(weights))
        return network
