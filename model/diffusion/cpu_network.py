"""Carries out a trained network on the CPU with ONNX Runtime."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.model.diffusion.onnx_graph import OnnxGraph
from darkroom.model.diffusion.unet import UNet, embed_classes
from darkroom.model.machine.threads import network_threads

LARGE_SECONDS = 0.02
"""A row of a large network takes at least so long in one thread."""

SETTINGS = {"session.intra_op.allow_spinning": "0"}
"""Threads that spin for their next task take the cores from every other process."""

Feeds = dict[str, NDArray[np.generic]]


class CpuNetwork:
    """A network in the form that `Denoiser` calls, on the CPU.

    A row's output depends on that row alone, to the last bit: not on the batch or the number of threads. PyTorch
    chooses its kernels by the size of the batch. The network that it was made from may change later, or be dropped.

    The threads share the rows of a batch, and each carries out all operations of its own: the threads meet once. Those
    of a large network share each operation, so that a single row is fast too.

    shape: (C, H, W) of an image. threads: default: `network_threads`.
    """

    def __init__(self, network: UNet, shape: tuple[int, int, int], threads: int | None = None) -> None:
        self._class_embedding = network.class_embedding.weight.detach().clone()
        self._parts = threads or network_threads()
        self._others = ThreadPoolExecutor(self._parts, "network")  # begins no thread before the first batch
        graph = OnnxGraph(network, shape)
        self._session = _session(graph, 1)
        if self._parts > 1 and self._row_seconds(shape) >= LARGE_SECONDS:
            self._session = _session(graph, self._parts)
            self._parts = 1

    @torch.inference_mode()
    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output. x: (B, C, H, W), of any floating type; t: (B,); labels as in `UNet.forward`."""
        classes = embed_classes(self._class_embedding, labels)
        feeds = {"x": x.float().contiguous().numpy(), "t": t.numpy(), "classes": classes.numpy()}
        rows = -(-len(x) // self._parts)
        first, *others = (_rows(feeds, begin, begin + rows) for begin in range(0, len(x), rows))
        running = [self._others.submit(self._run, part) for part in others]
        outputs = [self._run(first), *(one.result() for one in running)]
        output = torch.from_numpy(outputs[0] if not running else np.concatenate(outputs))
        return output.to(x.dtype)

    def _run(self, feeds: Feeds) -> NDArray[np.generic]:
        output: NDArray[np.generic] = self._session.run(None, feeds)[0]
        return output

    def _row_seconds(self, shape: tuple[int, int, int]) -> float:
        """Return the seconds of one row: the best of a few tries, since the first one takes longer."""
        x, times = torch.zeros(1, *shape), []
        for _ in range(3):
            began = time.perf_counter()
            self(x, torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
            times.append(time.perf_counter() - began)
        return min(times)


def _session(graph: OnnxGraph, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for name, value in SETTINGS.items():
        options.add_session_config_entry(name, value)
    values = map(onnxruntime.OrtValue.ortvalue_from_numpy, graph.weights.values())
    options.add_external_initializers(list(graph.weights), list(values))
    return onnxruntime.InferenceSession(graph.encoded, options, providers=["CPUExecutionProvider"])


def _rows(feeds: Feeds, begin: int, end: int) -> Feeds:
    return {name: values[begin:end] for name, values in feeds.items()}
