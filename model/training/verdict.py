"""Judges a training by its losses and by pictures that it draws. Pure functions, which return findings.

Pictures are uint8, (N, C, H, W). The thresholds come from the training pictures and from white noise of the same
contrast, so that they fit any data set. A class is judged by the majority of its pictures, and only when it has at
least FEWEST_TO_JUDGE: real pictures then hardly ever fail.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from darkroom.model.config import ModelConfig
from darkroom.model.images.compare import Vectors, distances, thumbnails
from darkroom.model.training.finding import Finding, FindingKind, Severity
from darkroom.model.training.forecast import Forecast, recognisable_images
from darkroom.model.words import several

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOISE, GRAINY = 0.20, 0.10
"""Share of the way from the data's grain to white noise's, from which pictures are noise, and grainy."""
NOISE_BY_CONTRAST = 0.50
"""The same share for grain as a part of the picture's own contrast: it finds faint noise."""
EXPLODED = 3.0
"""The loss has exploded when it is so many times the loss of an output of zeros."""
EASY = 0.25
LAGGING = 1.1
"""The average of the weights lags when its loss is so many times that of the weights themselves."""
COPY_RATIO = 1.0 / 3.0
"""A picture is a copy when its nearest training picture is so much nearer than the second nearest."""
COPIED_MORE = 0.25
"""The model copies when the share of copies among its pictures is so much higher than among real ones."""
JUDGED_PICTURES = 2000
COMPARED_PICTURES = 10_000
LEFT_OUT = 1000
"""Training pictures that are compared with all others, as a stand-in for pictures that the model has not seen."""
ALIKE, CLASS_ALIKE = 0.5, 0.1
"""Pictures are alike when they vary by less than this share of real ones. The real pictures of a class that was split
by concept were seen to vary by less than a fifth."""
DRAWS = 200
FEWEST_TO_JUDGE = 3
FEW_OF_A_CLASS, FEW_IN_ALL = 10, 50
MIXED_FROM = 200
SURE = 4.0
"""Standard deviations that make an agreement with the classes more than chance."""
SLOW = 2.0
"""A run is slow when its plan had so many times the images by now."""
NAMED = 3
"""Classes that one kind of finding names one by one."""


def grain(images: Pixels) -> Floats:
    """Return the median of |mixed second difference| of each image, (N,), in grey levels.

    It is 0 where a picture is flat or has straight edges, and 1.35 standard deviations for white noise. Edges and
    drawings hardly change a median; grain over the whole picture does.
    """
    x = images.astype(np.int16)
    mixed = x[:, :, :-1, :-1] - x[:, :, 1:, :-1] - x[:, :, :-1, 1:] + x[:, :, 1:, 1:]
    return np.asarray(np.median(np.abs(mixed).reshape(len(x), -1), axis=1), dtype=np.float64)


WHITE_NOISE_GRAIN = 2.0 * 0.6745
"""`grain` of white noise with a standard deviation of 1: the mixed difference has 2, and 0.6745 makes it a median."""


def contrast(images: Pixels) -> Floats:
    """Return the standard deviation of each image within its channels, (N,), in grey levels: 0 for one flat colour."""
    values = images.reshape(len(images), images.shape[1], -1)
    return np.asarray(np.sqrt(values.var(axis=2, dtype=np.float64).mean(axis=1)))


def saturation(images: Pixels) -> Floats:
    """Return the share of each image's values that are 0 or 255, (N,)."""
    return np.asarray(((images == 0) | (images == 255)).reshape(len(images), -1).mean(axis=1), dtype=np.float64)


def _grain_by_contrast(images: Pixels) -> Floats:
    """Return each image's grain as a part of white noise's of the same contrast, (N,); pictures below 2 grey levels
    of contrast count as if they had 2."""
    return np.asarray(grain(images) / (WHITE_NOISE_GRAIN * np.maximum(contrast(images), 2.0)))


@dataclass(frozen=True)
class Measure:
    """A measure of single pictures, and the bound beyond which one is bad.

    normal: share of each class's training pictures that lies beyond the bound, (classes,). Classes for which that is
    more than a tenth are not judged.
    """

    bad: Callable[[Pixels], npt.NDArray[np.bool_]]
    normal: Floats


@dataclass(frozen=True)
class Reference:
    """The facts of the training pictures, with which drawn ones are compared.

    vectors, labels: thumbnails of up to COMPARED_PICTURES pictures, without exact repeats. flipped: their mirror images
    follow, and repeats of those that training does not mirror.
    copies: share of copies among real pictures (COPY_RATIO). agreement: share of real pictures whose nearest neighbour
    has their class; chance: that share if classes meant nothing; compared: the number of pictures in both.
    """

    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    noise: Measure
    grainy: Measure
    flat: Measure
    saturated: Measure
    vectors: Vectors
    labels: Labels
    flipped: bool
    copies: float
    agreement: float
    chance: float
    compared: int


def look_at_training(
    images: Pixels, labels: Labels, class_names: Sequence[str], *, flipped: Sequence[bool]
) -> Reference:
    """Return what the checks need of the training pictures. images: (N, C, S, S).

    flipped: for each class, whether training mirrors it.

    Costs a second or two; it looks at JUDGED_PICTURES one by one and at COMPARED_PICTURES side by side.
    """
    random = np.random.default_rng(0)
    order = random.permutation(len(images))
    some = np.sort(order[:JUDGED_PICTURES])
    judged, theirs = np.asarray(images[some]), labels[some]
    low, full = float(np.quantile(contrast(judged), 0.01)), _high(saturation(judged))

    def measure(bad: Callable[[Pixels], npt.NDArray[np.bool_]]) -> Measure:
        beyond = bad(judged)
        return Measure(bad, np.array([_share(beyond[theirs == label]) for label in range(len(class_names))]))

    grains = grain(judged)
    white = WHITE_NOISE_GRAIN * float(judged.std())
    noise, grainy, faint_noise = (
        high + share * max(0.0, whole - high)
        for share, high, whole in (
            (NOISE, _high(grains), white),
            (GRAINY, _high(grains), white),
            (NOISE_BY_CONTRAST, _high(_grain_by_contrast(judged)), 1.0),
        )
    )

    compared = np.sort(order[:COMPARED_PICTURES])
    vectors = _vectors(images[compared])
    _, distinct = np.unique(vectors, axis=0, return_index=True)
    distinct = random.permutation(distinct)  # so that its first pictures are of all classes
    vectors, of_class = vectors[distinct], labels[compared][distinct]
    left_out = distances(vectors[:LEFT_OUT], vectors)
    left_out[np.arange(len(left_out)), np.arange(len(left_out))] = np.inf
    shares = np.bincount(of_class) / len(of_class)
    agreeing = of_class[left_out.argmin(axis=1)] == of_class[: len(left_out)]
    if any(flipped):
        mirrored = np.where(
            np.asarray(flipped)[of_class, None], _vectors(images[compared][distinct][..., ::-1]), vectors
        )
        vectors, of_class = np.concatenate([vectors, mirrored]), np.concatenate([of_class, of_class])
    return Reference(
        class_names=tuple(class_names),
        class_counts=tuple(np.bincount(labels, minlength=len(class_names)).tolist()),
        noise=measure(lambda pictures: (grain(pictures) > noise) | (_grain_by_contrast(pictures) > faint_noise)),
        grainy=measure(lambda pictures: grain(pictures) > grainy),
        flat=measure(lambda pictures: contrast(pictures) < max(2.0, low / 4.0)),
        saturated=measure(lambda pictures: saturation(pictures) > (1.0 + full) / 2.0),
        vectors=vectors,
        labels=of_class,
        flipped=any(flipped),
        copies=_share(_copies(left_out)),
        agreement=_share(agreeing),
        chance=float((shares**2).sum()),
        compared=len(left_out),
    )


def judge_data(reference: Reference) -> list[Finding]:
    """Return what is wrong with the training pictures themselves: too few, all flat, or in the wrong classes.

    Classes are mixed when pictures are no more like those of their class than chance: by their nearest neighbours,
    MIXED_FROM pictures tell. On six real data sets the agreement was 21 to 151 standard deviations above chance, and
    with shuffled classes within 2.
    """
    findings = []
    names, counts = reference.class_names, reference.class_counts
    if sum(counts) < FEW_IN_ALL:
        few_told = several(sum(counts), "picture")
        advice = f"The data set has only {few_told}, and the model will repeat them; add some hundreds more"
        findings.append(Finding("few_pictures", "warning", None, advice))
    else:
        few = [label for label, count in enumerate(counts) if count < FEW_OF_A_CLASS]
        findings += _for_classes(
            "few_pictures",
            few,
            names,
            lambda one: (
                f"has {several(counts[one], 'picture')} of {sum(counts):,}, too few to learn; add more or leave it out"
            ),
            "have too few pictures to learn; add more, or join them with others",
        )
    if float(np.average(reference.flat.normal, weights=np.maximum(counts, 1e-9))) > 0.5:
        advice = "Most training pictures are one flat colour; look at the data set before you train longer"
        findings.append(Finding("flat", "warning", None, advice))
    elif reference.compared >= MIXED_FROM and len(names) > 1 and not _beyond_chance(reference, reference.agreement):
        advice = (
            "Pictures of one class are no more alike than pictures of different classes; check that the folders were "
            "not mixed up"
        )
        findings.append(Finding("classes_mixed", "warning", None, advice))
    return findings


def judge_pictures(reference: Reference, images: Pixels, labels: Labels) -> list[Finding]:
    """Return what is wrong with drawn pictures. images: (N, C, S, S); labels: (N,).

    Noise comes first, as nothing else can be told of noise, and grain last, as it is the least fault.
    """
    counts, names = reference.class_counts, reference.class_names

    def found(measure: Measure, kind: FindingKind, whole: Severity, are: str, advice: str) -> list[Finding]:
        bad = measure.bad(images)
        judged = measure.normal[labels] <= 0.1
        if judged.any() and _share(bad[judged]) > 0.5:
            return [Finding(kind, whole, None, f"The pictures are {are}; {advice}")]
        classes = [
            label
            for label in np.unique(labels[judged]).tolist()
            if (labels == label).sum() >= FEWEST_TO_JUDGE and _share(bad[labels == label]) > 0.5
        ]
        told = f"of {sum(counts):,} pictures are of this class"
        return _for_classes(
            kind, classes, names, lambda one: f"is {are}: {counts[one]:,} {told}; {advice}", f"are {are}; {advice}"
        )

    noise = found(reference.noise, "noise", "failure", "still noise", "train longer, or on fewer classes")
    if any(finding.class_name is None for finding in noise):
        return noise
    findings = [
        *noise,
        *found(reference.flat, "flat", "failure", "one flat colour", "lower optimizer.learning_rate"),
        *found(
            reference.saturated,
            "saturated",
            "warning",
            "black, white or pure colours",
            "lower sampling.guidance or optimizer.learning_rate",
        ),
    ]
    whole = {finding.kind for finding in findings if finding.class_name is None}
    if not whole:
        vectors = _vectors(images)
        findings += _alike(reference, vectors, labels, {finding.class_name for finding in findings}) or [
            *_ignored(reference, vectors, labels),
            *_copied(reference, vectors),
        ]
    if not findings:
        findings += found(reference.grainy, "grainy", "warning", "still grainy", "train longer")
    return findings


def judge_losses(weights: Floats, average: Floats, linear: Floats, zeros: Floats) -> list[Finding]:
    """Return what losses on the same noisy training pictures tell. Each is (B,), one value for each picture.

    weights: of the network's weights. average: of their moving average. linear: of the best estimate that looks at each
    pixel alone, with the data's mean and deviation there. zeros: of an output of zeros. A network that is not better
    than `linear` knows nothing about pictures. Where all pictures are nearly the same, their mean is a good guess, too;
    a loss below EASY of `zeros` therefore always counts as learned.
    """
    ours = float(weights.mean())
    if not ours <= EXPLODED * float(zeros.mean()):
        advice = (
            f"The loss has exploded to {ours:.3g}, and an output of zeros has {zeros.mean():.3g}; begin again with a "
            "lower optimizer.learning_rate"
        )
        return [Finding("exploded", "failure", None, advice)]
    findings = []
    if ours >= max(float(linear.mean()), EASY * float(zeros.mean())):
        advice = (
            f"The loss is {ours:.3g}, and a guess at each pixel alone has {linear.mean():.3g}: the model has learned "
            "nothing yet; try a lower optimizer.learning_rate, or train longer"
        )
        findings.append(Finding("not_learning", "failure", None, advice))
    lag = average - weights
    error = float(lag.std() / max(1, len(lag)) ** 0.5)
    if float(average.mean()) > LAGGING * ours and float(lag.mean()) > 3.0 * error:
        advice = (
            f"The average of the weights lags: its loss is {average.mean():.3g}, and that of the weights {ours:.3g}; "
            "set ema.warmup to power, or a lower ema.decay"
        )
        findings.append(Finding("average_lags", "warning", None, advice))
    return findings


def judge_speed(images_seen: int, place: int) -> list[Finding]:
    """Return a warning when a run that ends by the clock is slow. place: the images that its plan has by now."""
    if place < SLOW * images_seen:
        return []
    advice = (
        f"The training is slow: it saw {images_seen:,} images in the time planned for {place:,}; look for what else "
        "uses the machine, or give the run more minutes"
    )
    return [Finding("slow", "warning", None, advice)]


def judge_distance(distance: float, expected: Forecast) -> list[Finding]:
    """Return a warning when a measured distance lies above the range that recorded runs had at that moment."""
    if distance <= expected.high:
        return []
    advice = (
        f"The distance is {distance:,.0f}, and most trainings had {expected} at this point; look at the sample grids, "
        "and for pictures that do not belong to the data set"
    )
    return [Finding("behind", "warning", None, advice)]


def little_training(images_seen: int, model: ModelConfig) -> str | None:
    """Return a sentence about a model that saw too few images to be good, or None."""
    enough = recognisable_images(model)
    if images_seen >= enough:
        return None
    return f"It saw {images_seen:,} images, and its pictures need {enough:,}; expect noise and blurs"


def _alike(reference: Reference, vectors: Vectors, labels: Labels, told: Collection[str | None]) -> list[Finding]:
    """Pictures are alike when they vary much less than the least varied draws of real pictures.

    Each of DRAWS draws takes as many pictures of each class at random; their first percentile counts. told: classes of
    which worse was found.
    """
    random = np.random.default_rng(0)
    present = np.unique(labels)
    members = {label: np.flatnonzero(reference.labels == label) for label in present.tolist()}
    if any(len(own) == 0 for own in members.values()):
        return []

    def lowest(wanted: Labels) -> float:
        draws = np.stack([random.choice(members[one], DRAWS) for one in wanted.tolist()], axis=1)
        return float(np.quantile([_spread(reference.vectors[draw]) for draw in draws], 0.01))

    if len(labels) > len(present) and _spread(vectors) < ALIKE * lowest(labels):
        advice = "The pictures are all alike; lower sampling.guidance, or begin again with a lower learning rate"
        return [Finding("alike", "failure", None, advice)]
    classes = [
        label
        for label in present.tolist()
        if (labels == label).sum() >= FEWEST_TO_JUDGE
        and reference.class_names[label] not in told
        and _spread(vectors[labels == label]) < CLASS_ALIKE * lowest(labels[labels == label])
    ]
    advice = "are all alike; lower sampling.guidance, or add pictures that differ"
    return _for_classes("alike", classes, reference.class_names, lambda _: f"has pictures that {advice}", advice)


def _ignored(reference: Reference, vectors: Vectors, labels: Labels) -> list[Finding]:
    """The model ignores the classes when its pictures agree with theirs no more than chance, and real ones do.

    By the nearest training picture of each. Real pictures must agree twice as often as chance, and beyond doubt.
    """
    real = reference.agreement
    if len(np.unique(labels)) < 2 or real < 2.0 * reference.chance or not _beyond_chance(reference, real):
        return []
    nearest = reference.labels[distances(vectors, reference.vectors).argmin(axis=1)]
    agreement, uncertain = _share(nearest == labels), 1.0 / len(labels) ** 0.5
    # A model that always draws its commonest class agrees by that class's share of `labels`.
    chance = float((np.bincount(labels) / len(labels)).max())
    if agreement > chance + uncertain or real < chance + 4.0 * uncertain:
        return []
    advice = (
        f"The pictures do not depend on the class: {agreement:.0%} look like their own, and {real:.0%} of real ones "
        "do; train longer, or raise sampling.guidance"
    )
    return [Finding("class_ignored", "warning", None, advice)]


def _copied(reference: Reference, vectors: Vectors) -> list[Finding]:
    """Pictures are copied when many more of them than of real pictures lie next to one training picture.

    The rule by COPY_RATIO is that of Yoon et al. 2023 and Gu et al. 2023. Real pictures are training pictures, each
    compared with all others: they stand in for a held-out split, which not every data set has.
    """
    to_training = distances(vectors, reference.vectors)
    if reference.flipped:  # a picture and its mirror image are one
        to_training = np.minimum(*np.split(to_training, 2, axis=1))
    share = _share(_copies(to_training))
    if share <= reference.copies + COPIED_MORE:
        return []
    advice = (
        f"{share:.0%} of the pictures are copies of training pictures; add pictures, train for a shorter time, or "
        "raise model.unet.dropout"
    )
    return [Finding("copied", "warning", None, advice)]


def _copies(to_training: Vectors) -> npt.NDArray[np.bool_]:
    """Return which pictures are copies, (N,), by their distances to training pictures, (N, M)."""
    if to_training.shape[1] < 3:
        return np.zeros(len(to_training), dtype=np.bool_)
    nearest = np.partition(to_training, 1, axis=1)
    return np.asarray(nearest[:, 0] < COPY_RATIO * nearest[:, 1])


def _beyond_chance(reference: Reference, agreement: float) -> bool:
    chance = reference.chance
    return bool(agreement > chance + SURE * (chance * (1.0 - chance) / max(1, reference.compared)) ** 0.5)


def _for_classes(
    kind: FindingKind, classes: Sequence[int], names: Sequence[str], one: Callable[[int], str], many: str
) -> list[Finding]:
    """Return a warning for each class, or one for all when there are more than NAMED."""
    if len(classes) <= NAMED:
        return [Finding(kind, "warning", names[label], f"{names[label]} {one(label)}") for label in classes]
    first = ", ".join(names[label] for label in classes[:NAMED])
    return [Finding(kind, "warning", None, f"{first} and {len(classes) - NAMED} more classes {many}")]


def _spread(vectors: Vectors) -> float:
    """Return the root mean square distance of pairs."""
    return float(vectors.var(axis=0).sum() ** 0.5)


def _vectors(images: Pixels) -> Vectors:
    return thumbnails(np.asarray(images)).reshape(len(images), -1)


def _high(values: Floats) -> float:
    return float(np.quantile(values, 0.99))


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else 0.0
