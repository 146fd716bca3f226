"""Carries out a trained network on the CPU with ONNX Runtime."""

import onnxruntime
import torch
from torch import Tensor

from darkroom.model.diffusion.onnx_graph import OnnxGraph
from darkroom.model.diffusion.unet import UNet, embed_classes
from darkroom.model.machine.threads import network_threads

SETTINGS = {"session.intra_op.allow_spinning": "0"}
"""Threads that spin for their next task take the cores from every other process."""


class CpuNetwork:
    """A network in the form that `Denoiser` calls, on the CPU.

    A row's output depends on that row alone, to the last bit: not on the batch or the number of threads. PyTorch
    chooses its kernels by the size of the batch. The network that it was made from may change later, or be dropped.

    shape: (C, H, W) of an image. threads: default: `network_threads`.
    """

    def __init__(self, network: UNet, shape: tuple[int, int, int], threads: int | None = None) -> None:
        self._class_embedding = network.class_embedding.weight.detach().clone()
        graph = OnnxGraph(network, shape)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or network_threads()
        for name, value in SETTINGS.items():
            options.add_session_config_entry(name, value)
        values = map(onnxruntime.OrtValue.ortvalue_from_numpy, graph.weights.values())
        options.add_external_initializers(list(graph.weights), list(values))
        self._session = onnxruntime.InferenceSession(graph.encoded, options, providers=["CPUExecutionProvider"])

    @torch.inference_mode()
    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output. x: (B, C, H, W), of any floating type; t: (B,); labels as in `UNet.forward`."""
        classes = embed_classes(self._class_embedding, labels)
        feeds = {"x": x.float().contiguous().numpy(), "t": t.numpy(), "classes": classes.numpy()}
        output: Tensor = torch.from_numpy(self._session.run(None, feeds)[0])
        return output.to(x.dtype)
