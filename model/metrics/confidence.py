"""Class confidence: how sure a classifier is of single images and how varied over all, as the Inception Score has it.

    exp(E_x KL(p(y | x) || p(y))),  p(y) = E_x p(y | x)

(Salimans et al. 2016, section 4), over all images at once and not as a mean over splits, which Barratt & Sharma 2018,
section 3.1, show to depend on their size. 1 at the least, and the number of classes at the most.
"""

import math

import torch
from torch import Tensor


class ClassConfidence:
    """Streams: two sums are kept of any number of images."""

    def __init__(self) -> None:
        self.count = 0
        self._mean_sum: Tensor | None = None
        self._negative_entropy_sum = 0.0

    def add(self, logits: Tensor) -> None:
        """Take in a batch, (N, classes), of any floating type and device."""
        logarithms = logits.to("cpu", torch.float64).log_softmax(1)
        probabilities = logarithms.exp()
        batch = probabilities.sum(0)
        self._mean_sum = batch if self._mean_sum is None else self._mean_sum + batch
        self._negative_entropy_sum += float((probabilities * logarithms).sum())
        self.count += len(logits)

    @property
    def value(self) -> float:
        """The figure; raises ValueError when there were no images."""
        if self._mean_sum is None:
            raise ValueError("no image has no confidence")
        mean = self._mean_sum / self.count
        return math.exp(self._negative_entropy_sum / self.count - float(torch.xlogy(mean, mean).sum()))
