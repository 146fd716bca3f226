"""Measures drawn images against the training set: `python -m bench.peers.score FILE.npz ...`.

Run it in Darkroom's environment. The extractor, the statistics and the judge are those of Darkroom's own evaluations,
for all contenders. The figures of images in RUN/drawn/ are written to `bench/results/peers/RUN/*.json`, for
`bench.peers.table`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.agreement import agreement
from bench.classifier import Classifier, load_classifier
from bench.judge import JUDGE_PATH
from bench.peers.drawn import Drawn
from bench.peers.train import CACHE, RECIPE, data_set
from darkroom.model.checkpoint import write_atomically
from darkroom.model.metrics.extractors import load_extractor
from darkroom.model.metrics.feature_measures import FeatureMeasure, FrechetMeasure, SampleMeasure
from darkroom.model.metrics.reference_images import ReferenceImages
from darkroom.model.metrics.references import FolderReferences

RESULTS = Path("bench/results/peers")
REFERENCES = Path(".darkroom/references")
BATCH_IMAGES = 64


def figures(drawn: Drawn, reference: ReferenceImages, judge: Classifier) -> dict[str, float]:
    """Return every figure by name. `agreement` is the share of images in which the judge sees the requested class."""
    images = torch.from_numpy(drawn.images).permute(0, 3, 1, 2)
    measures: list[FeatureMeasure] = [
        FrechetMeasure(reference),
        SampleMeasure(reference, len(images), kernel=True, manifolds=True),
    ]
    for first in range(0, len(images), BATCH_IMAGES):
        batch = images[first : first + BATCH_IMAGES]
        features = reference.extractor.features(batch)
        for measure in measures:
            measure.add(range(first, first + len(batch)), features)
    found = {figure.metric: figure.value for measure in measures for figure in measure.figures()}
    by_class = drawn.by_class(len(reference.dataset.class_names))
    return {**found, "agreement": agreement(judge, by_class, drawn.facts["guidance"]).overall}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--images", type=int, help="measure only the first images of each file; default: all")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe that names the data set")
    parser.add_argument("--cache", type=Path, default=CACHE, help="cache of decoded data sets")
    parser.add_argument("--references", type=Path, default=REFERENCES, help="cache of the data set's statistics")
    parser.add_argument("--judge", type=Path, default=JUDGE_PATH, help="file of `python -m bench.judge train`")
    arguments = parser.parse_args(argv)
    dataset, judge = data_set(arguments.recipe, arguments.cache), load_classifier(arguments.judge)
    extractor = load_extractor("efficientnet-lite0")
    reference = ReferenceImages(dataset, extractor, FolderReferences(arguments.references), lambda: False)
    for path in arguments.files:
        drawn = Drawn.load(path)
        if arguments.images is not None:
            if len(drawn.labels) < arguments.images:
                sys.exit(f"{path} has {len(drawn.labels)} images, not {arguments.images}; draw more")
            drawn = Drawn(drawn.images[: arguments.images], drawn.labels[: arguments.images], drawn.facts)
        found = figures(drawn, reference, judge)
        result: dict[str, Any] = {**drawn.facts, "images": len(drawn.labels), "figures": found}
        kept = RESULTS / path.parents[1].name / f"{path.stem}-{len(drawn.labels)}.json"
        write_atomically(kept, (json.dumps(result, indent=1) + "\n").encode())
        print(path, ", ".join(f"{name} {value:.4g}" for name, value in found.items()))


if __name__ == "__main__":
    main()
