"""Makes the shipped weights file and its model card, and computes every figure and picture in the card.

python -m bench.model_card RUN_FOLDER/losses.csv CHECKPOINT --out weights/

The losses are shipped too, so that the card can be made again without the run's folder:
python -m bench.model_card weights/NAME-losses.csv weights/NAME.safetensors
"""

import argparse
import csv
import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import ValidationError

from bench.agreement import FIRST_SEED, Agreement, agreement, agreement_table, check_classes, generate
from bench.classifier import ClassifierHeader, load_classifier
from bench.judge import CACHE_PATH, JUDGE_PATH, RECIPE_PATH, positive, with_overrides, with_split
from bench.nearest import NEIGHBOURS, Nearest, most_alike, nearest, nearest_table
from bench.pictures.origin import write_picture
from darkroom.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointHeader,
    decode_checkpoint,
    encode_checkpoint,
    write_atomically,
)
from darkroom.model.config import Recipe, RecipeError
from darkroom.model.datasets import DatasetError, ImageDataset, load_dataset
from darkroom.model.images.pictures import grid, loss_curve, png

LARGEST_FILE_BYTES = 25_000_000
COLUMNS = 10
DATA = {
    "fashion-mnist": """\
Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, <https://github.com/zalandoresearch/fashion-mnist>), its training set. The
data are under the MIT licence, Copyright 2017 Zalando SE, <https://tech.zalando.com>; `fashion-mnist-nearest.png`
shows some of the training images under that licence.""",
    "emoji": """\
Emoji of six families of drawings, laid over white and scaled to 32 pixels, built by `recipes/make_emoji.py`
([how](../docs/datasets.md#the-data-of-the-shipped-colour-model)). All drawings and variants of one concept are in one
split. Classes follow the subgroups of Unicode's list. `emoji-nearest.png` shows some of the training images. The
drawings are those of:

- Noto Color Emoji by Google: the font is under the SIL Open Font License 1.1, its drawings under the Apache License 2.0
  (<https://github.com/googlefonts/noto-emoji>). An older design of the same project is the second family.
- Twemoji by Twitter and its contributors: CC BY 4.0 (<https://github.com/jdecked/twemoji>).
- Fluent Emoji by Microsoft, the flat and the coloured drawings: MIT licence (<https://github.com/microsoft/fluentui-emoji>).
- Emoji One 2, as kept by EmojiTwo: CC BY 4.0 (<https://github.com/EmojiTwo/emojitwo>).""",
}
"""What a model's card says of its training data."""
RUNS = {
    "emoji": """\
The first 243,200 images were seen under the same recipe with a `total_images` of 1,800,000. The run then went on from
that state with this recipe, whose learning rate falls sooner.

""",
}
"""What a card says of a run that its recipe does not describe."""
SUBJECTS = {
    "fashion-mnist": "as Fashion-MNIST's product photographs show them, and nothing else: no people, no colour,\n"
    "no other size",
    "emoji": "as small drawings on white, and nothing else: no photographs, no text to draw from, no other size",
}
PAIRS_PER_CLASS = 5
IMAGES_PER_CLASS = 200

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class CardError(ValueError):
    """The inputs do not make a card; the message says why."""


@dataclass(frozen=True)
class TrainingLog:
    """A run's losses.csv up to a checkpoint. images_seen, losses: (N,). hours: total time spent training."""

    images_seen: Floats
    losses: Floats
    hours: float


def training_log(text: str, images_seen: int, *, source: str) -> TrainingLog:
    """Parse the text of a losses.csv up to `images_seen`; raises CardError when it ends earlier."""
    rows = [row for row in csv.DictReader(io.StringIO(text)) if int(row["images_seen"]) <= images_seen]
    seen = np.array([float(row["images_seen"]) for row in rows])
    gaps = np.diff(seen, prepend=0.0)
    # A checkpoint may fall between two lines; the lines are equally many images apart.
    if not len(rows) or images_seen - seen[-1] > gaps.max():
        raise CardError(f"{source}: ends before the checkpoint's {images_seen:,} images; is it another run's?")
    rates = np.array([float(row["images_per_second"]) for row in rows])
    return TrainingLog(seen, np.array([float(row["loss"]) for row in rows]), float((gaps / rates).sum()) / 3600.0)


@dataclass(frozen=True)
class Measured:
    """The figures of the card, besides the checkpoint's header. generated, real: their nearest training images."""

    log: TrainingLog
    judge: ClassifierHeader
    agreements: tuple[Agreement, ...]
    generated: Nearest
    real: Nearest
    size_bytes: int
    commands: tuple[str, ...]


def first_of_each_class(dataset: ImageDataset, per_class: int) -> Pixels:
    """Return the first `per_class` images of each class, (classes * per_class, C, H, W), ordered by class."""
    chosen = [np.flatnonzero(dataset.labels == label)[:per_class] for label in range(len(dataset.class_names))]
    images: Pixels = dataset.images[np.concatenate(chosen)]
    return images


def write_grid(weights: Path, images: Pixels) -> None:
    """Write the picture WEIGHTS-grid.png, with a line for each class, of images (classes, count, H, W, C)."""
    shown = images[:, :COLUMNS]
    sheet = grid(shown.reshape(-1, *shown.shape[2:]), shown.shape[1])
    write_picture(weights.with_name(f"{weights.stem}-grid.png"), png(sheet, scale=2), [weights])


def write_loss(weights: Path, losses: Path, log: TrainingLog) -> None:
    """Write the picture WEIGHTS-loss.png. losses: the file that `log` was read from."""
    picture = loss_curve(log.images_seen, log.losses, weights.stem)
    write_picture(weights.with_name(f"{weights.stem}-loss.png"), picture, [losses])


def write_pairs(weights: Path, images: Pixels, training: Pixels, found: Nearest) -> None:
    """Write the picture WEIGHTS-nearest.png: per class a line of generated images, each with its nearest original.

    images: (classes, count, H, W, C); training: (N, C, H, W); found: of the images, class by class.
    """
    chosen = most_alike(found, len(images), PAIRS_PER_CLASS)
    drawn = images.reshape(-1, *images.shape[2:])[chosen]
    pairs = np.stack([drawn, training[found.index[chosen]].transpose(0, 2, 3, 1)], axis=1)
    sheet = grid(pairs.reshape(-1, *pairs.shape[2:]), 2 * PAIRS_PER_CLASS)
    write_picture(weights.with_name(f"{weights.stem}-nearest.png"), png(sheet, scale=2), [weights])


def flat(images: Pixels) -> Pixels:
    """(classes, count, H, W, C) as (classes * count, C, H, W), the form of a data set."""
    return images.reshape(-1, *images.shape[2:]).transpose(0, 3, 1, 2)


def _processes(recipe: Recipe) -> str:
    devices, precision = recipe.training.devices, recipe.training.precision
    return f"{devices} {'process' if devices == 1 else 'processes'} in {precision}"


def _facts(checkpoint: Checkpoint, recipe: Recipe, measured: Measured) -> str:
    header = checkpoint.header
    model = header.model
    parameters = sum(value.numel() for value in checkpoint.weights.values())
    facts = {
        "images": f"{model.image_channels} x {model.image_size} x {model.image_size} (channels, height, width)",
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(header.class_names)),
        "parameters": f"{parameters:,}, float32, the moving average of the training weights",
        "file": f"`{header.name}.safetensors`, {measured.size_bytes:,} bytes",
        "SHA-256": f"`{checkpoint.digest.removeprefix('sha256:')}`",
        "images seen in training": f"{header.images_seen:,} of the recipe's {recipe.training.total_images:,}",
        "time spent training": f"{measured.log.hours:.2f} hours by the clock, {_processes(recipe)}",
        "sampling defaults": ", ".join(f"{name} {value}" for name, value in header.sampling.model_dump().items()),
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())])


def _memorisation(measured: Measured) -> str:
    generated, real = measured.generated, measured.real
    median, reference = float(np.median(generated.distance)), float(np.median(real.distance))
    nearer = float((generated.distance < real.distance.min()).mean())
    lonely = float((generated.ratio < real.ratio.min()).mean())
    return (
        f"The median generated image lies {median / reference:.2f} times as far from its nearest training image as the "
        f"median test image does. {nearer:.1%} of the generated images lie nearer to a training image than any of the "
        f"test images, and {lonely:.1%} have a lower ratio than any of them; "
        f"{int((generated.distance == 0).sum())} generated and {int((real.distance == 0).sum())} test images equal a "
        "training image exactly. Smooth images lie nearer to everything, which lowers the distance but not the ratio."
    )


def card(checkpoint: Checkpoint, recipe: Recipe, measured: Measured) -> str:
    """Return the model card in Markdown."""
    header, judge = checkpoint.header, measured.judge
    name, sampling, count = header.name, header.sampling, measured.agreements[0].images_per_class
    weakest = min(zip(measured.agreements[-1].per_class, header.class_names, strict=True))
    return f"""# {name}

A class-conditional diffusion model: it draws new images of the {len(header.class_names)} classes below.
{recipe.description}

{_facts(checkpoint, recipe, measured)}

![A line of generated images for each class]({name}-grid.png)

The first {min(COLUMNS, count)} images of each class at guidance {sampling.guidance:g}, not selected.

## Data

{DATA.get(name, "")}
Digest of the decoded images, labels and class names: `{header.dataset_digest}`.

## Recipe

```yaml
{yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=110).rstrip()}
```

{RUNS.get(name, "")}![The training loss against images seen]({name}-loss.png)

## Agreement with the requested class

Agreement is the share of generated images in which a judge sees the requested class. The images are drawn with
{sampling.sampler}, {sampling.steps} steps, {count} per class; image i of class c has the seed {FIRST_SEED} + c and
the index i. The judge is a small convolutional classifier, trained on the real training set. The last column is its
recall on the real test set. Images as varied as the real ones come close to that column. A share above it means that
the images are more typical of their class than real ones, which is the effect of strong guidance.

{agreement_table(judge, measured.agreements)}

Agreement says that an image is recognisable, not that it is sharp or that the images are varied.

## Nearest training images

The table compares {len(measured.generated.distance):,} generated images (guidance {sampling.guidance:g}) with images
of the test set, at most {count} of each class. The distance is the L2 distance (pixels in 0..1) to the nearest
training image. The ratio is that distance divided by the mean distance to the {NEIGHBOURS} nearest; it is near 0 for
a copy.

{nearest_table(measured.generated, measured.real)}

{_memorisation(measured)}

![Pairs of a generated image and its nearest training image]({name}-nearest.png)

Each line shows one class: the {PAIRS_PER_CLASS} generated images that lie nearest to a training image, each with that
image at its right. They are the most suspicious of the class's {count} images, not typical ones.

## Use and limits

The model is for trying the service, for tests and benchmarks, and as an example of a recipe. It draws the classes above
{SUBJECTS.get(name, "as its training data show them, and nothing else")}. It repeats the imbalances of the
data set. Higher guidance usually gives clearer and less varied images. At guidance
{measured.agreements[-1].guidance:g} the judge recognises {weakest[1]} least often ({weakest[0]:.1%}). Do not use its
images in place of real ones in a measurement without a check.

## Reproducing the figures

```sh
{chr(10).join(measured.commands)}
```

The same weights file, seeds, library versions and kind of processor give the same images. With others, rounding may
change the last digits.
"""


def load_halves(header: CheckpointHeader, cache: Path) -> tuple[Recipe, ImageDataset, ImageDataset]:
    """Return a checkpoint's recipe, training set and test set; raises CardError when the data set is another."""
    if header.recipe is None:
        raise CardError("the checkpoint carries no recipe; train it with `darkroom train`, which writes one")
    train = load_dataset(with_split(header.recipe.dataset, "train"), cache=cache)
    if header.dataset_digest != train.digest:
        raise CardError(f"the checkpoint was trained on {header.dataset_digest}, the data set here is {train.digest}")
    return header.recipe, train, load_dataset(with_split(header.recipe.dataset, "test"), cache=cache)


def with_defaults(data: bytes, overrides: Mapping[str, Any], *, source: str) -> bytes:
    """Return a weights file's bytes with other sampling defaults in its header, chosen by later measurements.

    Raises CheckpointError and ValidationError.
    """
    checkpoint = decode_checkpoint(data, source=source)
    sampling = with_overrides(checkpoint.header.sampling, dict(overrides))
    header = checkpoint.header.model_copy(update={"sampling": sampling})
    return encode_checkpoint(header, checkpoint.weights, checkpoint.snapshot)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, yaml.safe_load(value)


def _quoted(path: Path) -> str:
    """Quote a path for a shell, relative to the working directory where possible."""
    within = path.resolve()
    return shlex.quote(str(within.relative_to(Path.cwd()) if within.is_relative_to(Path.cwd()) else path))


def _write(arguments: argparse.Namespace) -> None:
    data = arguments.checkpoint.read_bytes()
    if arguments.sampling:
        data = with_defaults(data, dict(arguments.sampling), source=str(arguments.checkpoint))
    if len(data) > LARGEST_FILE_BYTES:
        raise CardError(f"{arguments.checkpoint}: {len(data):,} bytes, more than the {LARGEST_FILE_BYTES:,} shipped")
    checkpoint, judge = decode_checkpoint(data, source=str(arguments.checkpoint)), load_classifier(arguments.judge)
    check_classes(checkpoint, judge.header)
    header = checkpoint.header
    recipe, train, test = load_halves(header, arguments.cache)
    if (judge.header.train_digest, judge.header.test_digest) != (train.digest, test.digest):
        raise CardError(f"{arguments.judge}: saw other images; make it anew: python -m bench.judge train")
    losses = arguments.losses.read_bytes()
    log = training_log(losses.decode(), header.images_seen, source=str(arguments.losses))

    denoiser, count = checkpoint.denoiser(), arguments.images_per_class
    weights = list(dict.fromkeys((1.0, header.sampling.guidance)))  # the default last; once when it is 1
    agreements = []
    for guidance in weights:
        images = generate(denoiser, with_overrides(header.sampling, {"guidance": guidance}), count)
        agreements.append(agreement(judge, images, guidance))
        print(f"guidance {guidance:g}: agreement {agreements[-1].overall:.1%}", file=sys.stderr)
    generated = nearest(flat(images), train.images)
    real = nearest(first_of_each_class(test, count), train.images)

    out, name = arguments.out, header.name
    shown = " ".join(f"{guidance:g}" for guidance in weights)
    weights_file, losses_file = out / f"{name}.safetensors", out / f"{name}-losses.csv"
    recipe_path = _quoted(RECIPE_PATH.with_name(f"{name}.yaml"))
    commands = (
        f"darkroom train {recipe_path}",
        f"python -m bench.judge train --recipe {recipe_path} --epochs {judge.header.epochs} --least-accuracy 0",
        f"python -m bench.judge score {_quoted(weights_file)} --guidance {shown} --images-per-class {count}",
        f"python -m bench.model_card {_quoted(losses_file)} {_quoted(weights_file)} --out {_quoted(out)} "
        f"--images-per-class {count}",
    )
    measured = Measured(log, judge.header, tuple(agreements), generated, real, len(data), commands)
    write_atomically(weights_file, data)
    write_atomically(losses_file, losses)
    write_grid(weights_file, images)
    write_loss(weights_file, losses_file, log)
    write_pairs(weights_file, images, train.images, generated)
    write_atomically(out / f"{name}.md", card(checkpoint, recipe, measured).encode())
    print(f"{out / f'{name}.md'}: {header.images_seen:,} images seen, {len(data):,} bytes, {checkpoint.digest}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.model_card", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("losses", type=Path, help="the training run's losses.csv")
    parser.add_argument("checkpoint", type=Path, help="the weights file to ship")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    parser.add_argument("--judge", type=Path, default=JUDGE_PATH)
    parser.add_argument("--cache", type=Path, default=CACHE_PATH)
    parser.add_argument("--images-per-class", type=positive, default=IMAGES_PER_CLASS)
    parser.add_argument(
        "--sampling",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a sampling default in place of the training recipe's",
    )
    arguments = parser.parse_args(argv)
    try:
        _write(arguments)
    except (CardError, CheckpointError, DatasetError, OSError, RecipeError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
