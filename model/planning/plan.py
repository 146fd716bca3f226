"""Chooses every field of a recipe for a data set, a device's speed and a time, and says why.

The training settings are those of `recipes/fashion-mnist.yaml`, which docs/results.md compares with others. Sizes,
batch and learning rate follow from the data and the time; `python -m bench.plans sweep` compares them with a search.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from darkroom.model.config import DatasetConfig, Recipe, UNetConfig, parse_recipe, set_field
from darkroom.model.planning.data_facts import FEWEST_TO_MIRROR, DataFacts
from darkroom.model.training.forecast import RECOGNISABLE, forecast, values
from darkroom.model.training.verdict import FEWEST_TO_JUDGE
from darkroom.model.user_error import UserError
from darkroom.model.words import named, several

WIDTHS = (32, 48, 64, 96, 128)
MINUTES_BELOW = 1e6
"""Plans are made for less time than this."""
LONGEST_PATCH = 8
MOST_CELLS, FEWEST_CELLS, BEST_CELLS = 24, 4, 14
"""Side of the network's first maps, in cells: the most and the fewest where the side allows a choice, and the best."""
SIDES = (96, 80, 64, 48, 32)
"""Sides to which larger pictures may be scaled."""
TRAINING_SHARE = 0.85
"""Share of the time that training gets. Evaluations, sample grids and checkpoints get the rest."""
SHORT_SIDE, SHORT_IMAGES = 16, 20
"""A run that shows fewer than SHORT_IMAGES images for each value of a larger picture gets pictures of SHORT_SIDE."""
IMAGES_PER_PARAMETER, IMAGES_TO_DEEPEN = 1.0, 0.2
"""A wider network is chosen only when the run shows it so many images for each of its parameters, a deeper one from
IMAGES_TO_DEEPEN on."""
STEPS = 1500
"""A batch is the largest power of two that leaves the run so many steps: short runs need steps more than even ones."""
RATE, SHORT_RATE = 2e-3, 4e-3
"""Learning rates of networks with two blocks a level, and with one."""
LEAST_BATCH, LARGEST_BATCH = 32, 128
EVALUATIONS = ((60.0, 10), (20.0, 5), (10.0, 2))
"""Least minutes of a run, and how often it is evaluated; each costs about half a minute of a CPU."""
FLAT_GROUNDS = 0.5
"""Share of pictures on a flat ground from which thresholding is static (`python -m bench.plans thresholds`)."""
SHIPPED = (
    ("model", "prediction"),
    ("objective", "times"),
    ("optimizer", "name"),
    ("optimizer", "decay"),
    ("optimizer", "weight_decay"),
    ("ema", "warmup"),
    ("ema", "relative_length"),
)
"""Fields that plans take from `recipes/fashion-mnist.yaml`."""
FEWEST_GRIDS = 4
SAMPLES, MOST_SAMPLES, JUDGED_CLASSES = 80, 8, 100
"""Pictures of a sample grid, and at most of a class. Up to JUDGED_CLASSES, each class has enough to be judged."""
EVALUATED_FROM_IMAGES = 50
SNAPSHOT_SHARE = 16
BFLOAT16_FASTER = 1.2
"""A run uses bfloat16 where the narrowest network trains so many times faster with it; the shipped weights used it."""


class PlanError(UserError, ValueError):
    """A time or a data set for which there is no plan."""


@dataclass(frozen=True)
class Reason:
    """Why a plan sets a field of the recipe. field: its dotted name."""

    field: str
    value: Any
    why: str


class _Size(NamedTuple):
    """Width of a network, and its residual blocks a level."""

    width: int
    blocks: int


@dataclass(frozen=True)
class Plan:
    """A recipe, the reasons for its fields, and what to expect of the run.

    facts: of the data set. images_per_second: measured. passes: times that the run sees each distinct image.
    """

    recipe: Recipe
    reasons: tuple[Reason, ...]
    minutes: float
    images_per_second: float
    passes: float
    facts: DataFacts

    def expectation(self) -> str:
        """Return what was seen of the data, how long the run is, and the distance that it should reach."""
        expected = forecast(self.recipe)
        return (
            f"{self.facts.told()}. {self.recipe.training.total_images:,} images in {minutes_told(self.minutes)}, at "
            f"{self.images_per_second:,.0f} images/s; each image is seen {self.passes:,.1f} times. Expected Fréchet "
            f"distance: {expected}; with twice the time, {expected.with_more}. Less is better. It is not the FID of "
            f"papers: pictures can be recognised from about {RECOGNISABLE:,.0f} on."
        )


def model_side(longest: int, minutes: float, speed: Callable[[Recipe], float], channels: int) -> int:
    """Return the side to which pictures are scaled. longest: the side that they allow without enlarging.

    Small pictures keep their side, cut to a multiple of the network's. Larger ones get the largest side at which the
    smallest network sees as many images as it has parameters, or the least side; in a short run, SHORT_SIDE.
    """
    sides = [side for side in SIDES if side <= longest] if longest > SIDES[-1] else []
    for side in sides[:-1]:
        candidate = _smallest(channels, side)
        if _seen(speed(candidate), minutes) >= IMAGES_PER_PARAMETER * parameters(candidate):
            return side
    least = sides[-1] if sides else max(side for side in range(4, max(4, longest) + 1) if _shape(side)[1] > 1)
    smallest = _smallest(channels, least)
    short = _seen(speed(smallest), minutes) < SHORT_IMAGES * values(smallest.model)
    return min(least, SHORT_SIDE) if short else least


def make_plan(
    facts: DataFacts, data: DatasetConfig, name: str, minutes: float, speed: Callable[[Recipe], float]
) -> Plan:
    """Choose a recipe for the data set and the time.

    speed: returns the training images per second of a recipe on the device. Raises PlanError when the time is not
    positive or is too short for one batch.
    """
    if not 0.0 < minutes < MINUTES_BELOW:
        raise PlanError(f"minutes is {minutes:g}: give more than 0 and less than {MINUTES_BELOW:,.0f}")
    if facts.images < 2:
        raise PlanError("the data set has 1 image; training needs 2 or more")
    form = facts.channels, facts.side
    size, *larger = _sizes(*form)
    chosen = _candidate(*form, size)
    per_second = speed(chosen)
    short = _candidate(*form, size, "bfloat16")
    gain = speed(short) / per_second
    if gain >= BFLOAT16_FASTER:
        chosen, per_second = short, gain * per_second
    for one in larger:
        # A larger network is never faster: stop measuring at the first one that is too slow.
        candidate = _candidate(*form, one, chosen.training.precision)
        their_speed = speed(candidate)
        enough = IMAGES_PER_PARAMETER if one.width > size.width else IMAGES_TO_DEEPEN
        if _seen(their_speed, minutes) < enough * parameters(candidate):
            break
        chosen, per_second, size = candidate, their_speed, one
    batch = _batch(facts, _seen(per_second, minutes))
    if batch > LEAST_BATCH:
        chosen = _candidate(*form, size, chosen.training.precision, batch)
        per_second = speed(chosen)
    seen = _seen(per_second, minutes)
    if seen < chosen.training.batch_size:
        raise PlanError(f"{minutes:g} minutes are too short for one batch here; give more time")
    reasons = tuple(_reasons(facts, chosen, seen, minutes, per_second, gain))
    tree = chosen.model_dump(mode="json")
    tree |= {"name": name, "dataset": data.model_dump(mode="json")}
    for reason in reasons:
        set_field(tree, reason.field.split("."), reason.value)
    recipe = parse_recipe(tree, source="plan")
    return Plan(recipe, reasons, minutes, per_second, seen / facts.distinct, facts)


def minutes_told(minutes: float) -> str:
    """Return a time in minutes for people."""
    return "1 minute" if minutes == 1.0 else f"{minutes:,g} minutes"


def parameters(recipe: Recipe) -> int:
    """Return an estimate of the network's parameters: 3x3 convolutions of the residual blocks, which hold most."""
    unet = recipe.model.unet
    total, before = 0, unet.width
    for multiplier in unet.multipliers:
        channels = unet.width * multiplier
        # Down: blocks of two convolutions. Up: one block more, whose first convolution also reads the skip connection.
        total += 9 * channels * (2 * channels * unet.blocks_per_level + 3 * channels * (unet.blocks_per_level + 1))
        total += 9 * before * channels
        before = channels
    return total + 4 * 9 * before * before


def _seen(per_second: float, minutes: float) -> int:
    return int(per_second * 60.0 * minutes * TRAINING_SHARE)


def _shape(side: int) -> tuple[int, int]:
    """Return patch size and number of levels for images of that side.

    Patches divide the side. Two levels need an even number of cells. The best maps have nearly BEST_CELLS cells a side.
    """
    choices = [
        (patch, levels)
        for patch in range(1, LONGEST_PATCH + 1)
        for levels in (2, 1)
        if side % (patch * 2 ** (levels - 1)) == 0 and side // patch >= FEWEST_CELLS
    ]
    return min(
        choices, key=lambda choice: (side // choice[0] > MOST_CELLS, -choice[1], abs(side // choice[0] - BEST_CELLS))
    )


def _least_width(channels: int, side: int) -> int:
    """Return the least width: a patch has patch^2 x channels values, and a narrower network would lose some."""
    patch = _shape(side)[0]
    return min(patch * patch * channels, WIDTHS[-1])


def _sizes(channels: int, side: int) -> list[_Size]:
    """Return the networks that a plan chooses from, the smallest first."""
    narrowest, *wider = [width for width in WIDTHS if width >= _least_width(channels, side)]
    return [_Size(narrowest, 1), _Size(narrowest, 2), *(_Size(width, 2) for width in wider)]


def _smallest(channels: int, side: int) -> Recipe:
    return _candidate(channels, side, _sizes(channels, side)[0])


def _batch(facts: DataFacts, seen: int) -> int:
    """Return the batch of a run that sees so many images: it leaves STEPS steps, and two batches a pass."""
    batch = LEAST_BATCH
    while 2 * batch <= min(LARGEST_BATCH, facts.images // 2) and seen >= 2 * batch * STEPS:
        batch *= 2
    return batch


def _candidate(channels: int, side: int, size: _Size, precision: str = "float32", batch: int = LEAST_BATCH) -> Recipe:
    """A recipe with everything that decides the speed."""
    patch, levels = _shape(side)
    width = size.width
    cells = side // patch // 2 ** (levels - 1)
    unet = UNetConfig(
        patch_size=patch,
        width=width,
        multipliers=(1, 2)[:levels],
        blocks_per_level=size.blocks,
        attention_resolutions=(cells,) if cells <= MOST_CELLS else (),
        middle_attention=cells <= MOST_CELLS,
        attention_head_channels=32 if width * levels % 32 == 0 else 16,
        norm_groups=8,
    )
    return parse_recipe(
        {
            "name": "plan",
            "dataset": {"format": "folder"},
            "model": {
                "prediction": "v",
                "image_channels": channels,
                "image_size": side,
                "unet": unet.model_dump(),
            },
            "objective": {"times": {"name": "normal", "mean": 0.5, "scale": 2.0}},
            "optimizer": {"name": "muon", "learning_rate": 2e-3, "decay": "cosine", "weight_decay": 0.01},
            "ema": {"warmup": "power", "relative_length": 0.1},
            "training": {
                "total_images": 1,
                "batch_size": batch,
                "precision": precision,
                "checkpoint_every_images": 1,
                "sample_every_images": 1,
            },
        },
        source="plan",
    )


def _reasons(
    facts: DataFacts, chosen: Recipe, seen: int, minutes: float, per_second: float, gain: float
) -> Iterator[Reason]:
    """Yield the fields that the plan sets, with their values in JSON and the reasons."""
    unet, training, classes = chosen.model.unet, chosen.training, len(facts.class_counts)
    passes = seen / facts.distinct
    cells = facts.side // unet.patch_size
    colour = "in colour" if facts.channels == 3 else "grey"
    yield Reason("model.image_channels", facts.channels, f"the pictures are {colour}")
    yield Reason("model.image_size", facts.side, _why_side(facts.side))
    yield Reason("model.unet.patch_size", unet.patch_size, f"gives maps of {cells}x{cells} cells")
    yield Reason(
        "model.unet.width",
        unet.width,
        f"the widest network that sees at least as many images as it has parameters, {parameters(chosen):,}, or the "
        "narrowest",
    )
    yield Reason(
        "model.unet.blocks_per_level",
        unet.blocks_per_level,
        f"two from {IMAGES_TO_DEEPEN:g} images a parameter on; a short run learns more with one",
    )
    levels = len(unet.multipliers)
    halved = "two levels: the maps can be halved" if levels == 2 else "one level: the maps cannot be halved"
    yield Reason("model.unet.multipliers", list(unet.multipliers), halved)
    least = cells // 2 ** (levels - 1)
    attends = f"the smallest maps have {least}x{least} cells, and attention compares at most {MOST_CELLS}x{MOST_CELLS}"
    yield Reason("model.unet.attention_resolutions", list(unet.attention_resolutions), attends)
    yield Reason("model.unet.middle_attention", unet.middle_attention, attends)
    tree = chosen.model_dump(mode="json")
    for section, name in SHIPPED:
        yield Reason(f"{section}.{name}", tree[section][name], "as the shipped weights were trained")
    yield Reason(
        "training.precision",
        training.precision,
        f"bfloat16 is {gain:.2f} times as fast here, and is used from {BFLOAT16_FASTER:g} times on"
        if gain > 0.0
        else "nobody has measured bfloat16 here",
    )
    yield Reason(
        "training.total_images",
        seen,
        f"{per_second:,.0f} images/s for {TRAINING_SHARE:.0%} of {minutes_told(minutes)}; evaluations take the rest",
    )
    yield Reason("training.minutes", minutes, "the clock ends the run, on a faster or a slower day too")
    steps = seen // training.batch_size
    yield Reason(
        "training.batch_size",
        training.batch_size,
        f"gives {steps:,} steps. More than {LEAST_BATCH} only where {STEPS:,} steps and two batches a pass remain",
    )
    yield Reason(
        "optimizer.warmup_images",
        min(100 * training.batch_size, seen // 20),
        "a twentieth of the run, at most 100 batches",
    )
    base = RATE if unet.blocks_per_level > 1 else SHORT_RATE
    rate = round(base * (WIDTHS[0] / unet.width) ** 0.5, 6)
    yield Reason("optimizer.learning_rate", rate, f"{base:g} for width {WIDTHS[0]} and this depth, less for wider ones")
    yield Reason("training.horizontal_flip", *_flip(facts))
    dropout = 0.0 if passes < 100 else 0.1 if passes < 400 else 0.2
    yield Reason("model.unet.dropout", dropout, f"each picture is seen {passes:,.1f} times")
    snapshot = seen // SNAPSHOT_SHARE
    yield Reason("training.guide_snapshot_images", max(1, snapshot), "a sixteenth of the run, to guide sampling")
    batch = training.batch_size
    yield Reason("training.checkpoint_every_images", max(batch, seen // 16), "sixteen in the run, at most one a batch")
    grids = max(FEWEST_GRIDS, _evaluations(minutes))
    yield Reason("training.sample_every_images", max(batch, seen // grids), f"{grids} in the run, with a verdict each")
    least = FEWEST_TO_JUDGE if classes <= JUDGED_CLASSES else 1
    samples = max(least, min(MOST_SAMPLES, SAMPLES // classes))
    yield Reason("training.samples_per_class", samples, f"for {several(classes, 'class')}")
    guided = classes > 1
    yield Reason(
        "sampling",
        {
            "guidance": 3.0 if guided else 1.0,
            "guidance_interval": [0.5, 2.0] if guided else None,
            "sampler": "unipc_3",
            "steps": 10,
            "spacing": "edm_coarse",
        },
        "the settings of the shipped weights" + ("" if guided else "; one class needs no guidance"),
    )
    yield Reason("sampling.threshold", *_thresholding(facts, guided))
    yield Reason("evaluation", *_evaluation(facts, seen, minutes, batch))


def _thresholding(facts: DataFacts, guided: bool) -> tuple[str, str]:
    """Return the kind of thresholding, by the table of docs/training.md."""
    if not guided:
        return "none", "without guidance, static thresholding brought pictures no nearer to real ones"
    if facts.flat_grounds is None:
        return "none", "this data set was registered before Darkroom looked at the grounds of pictures"
    ground = f"{facts.flat_grounds:.0%} of the pictures lie on a flat ground"
    if facts.flat_grounds < FLAT_GROUNDS:
        return "none", f"{ground}, fewer than half; on textures, without flat grounds, static changed nothing"
    measured = "static brought guided pictures of short runs nearer to real ones or changed little; dynamic was worse"
    return "static", f"{ground}. There, {measured}"


def _why_side(side: int) -> str:
    if side in SIDES:
        return f"the largest of {', '.join(map(str, SIDES))} that the pictures have and this time can train"
    own = "the pictures' own side, or the next smaller one that the network can divide"
    return f"{own}; a short run trains on {SHORT_SIDE}" if side == SHORT_SIDE else own


def _flip(facts: DataFacts) -> tuple[bool | list[str], str]:
    """Return which classes are mirrored: all, none, or those named."""
    if facts.mirrors is None:
        return False, "this data set was registered before Darkroom compared pictures with their mirror images"
    classes = [one for one in zip(facts.class_names, facts.class_counts, facts.mirrors, strict=True) if one[1]]
    mirrored = [name for name, _, mirrors in classes if mirrors]
    if len(mirrored) == len(classes):
        return True, "mirrored pictures look like others of their class"
    few = [name for name, count, mirrors in classes if not mirrors and count < FEWEST_TO_MIRROR]
    others = [name for name, count, mirrors in classes if not mirrors and count >= FEWEST_TO_MIRROR]
    why = [f"mirrored pictures do not look like others of their class in {named(others)}"] if others else []
    if few:
        why.append(f"with fewer than {FEWEST_TO_MIRROR} pictures nobody can tell for {named(few)}")
    return mirrored or False, "; ".join(why)


def _evaluations(minutes: float) -> int:
    """Return how often a run is evaluated."""
    return next((times for least, times in EVALUATIONS if minutes >= least), 0)


def _evaluation(facts: DataFacts, seen: int, minutes: float, batch: int) -> tuple[Mapping[str, Any] | None, str]:
    times = _evaluations(minutes)
    if times == 0:
        return None, f"none in less than {EVALUATIONS[-1][0]:g} minutes"
    if facts.images < EVALUATED_FROM_IMAGES:
        return None, f"none with less than {EVALUATED_FROM_IMAGES} images"
    images = min(1000, facts.images)
    settings = {"every_images": max(batch, seen // times), "images": images, "steps": 10, "guidance": 1.0}
    return settings, f"{times} times, unguided, with {images:,} images"
