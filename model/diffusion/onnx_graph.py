"""The U-Net's forward pass as an ONNX graph, which ONNX Runtime carries out. `unet.py` says what each part computes.

Inputs: x (B, C, H, W) float32, t (B,) int64, and classes (B, E) float32, the class embeddings. The graph holds no
weights: they lie beside it, so that neither its size nor its making depends on theirs.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from darkroom.model.diffusion.unet import (
    GroupNorm,
    Level,
    ResidualBlock,
    SelfAttention,
    UNet,
    embedding_frequencies,
)

OPSET, IR_VERSION = 17, 8
Floats = npt.NDArray[np.float32]


class OnnxGraph:
    """The graph of one network. weights: arrays by name, to be given to the session beside `encoded`.

    shape: (C, H, W) of an image.
    """

    def __init__(self, network: UNet, shape: tuple[int, int, int]) -> None:
        self.weights: dict[str, Floats] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._groups = network.config.norm_groups
        output = self._unet(network, shape)
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", *shape]),
            helper.make_tensor_value_info("t", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["B", network.time_out.out_features]),
        ]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        beside = [_reference(name, array) for name, array in self.weights.items()]
        graph = helper.make_graph(self._nodes, "unet", inputs, outputs, [*self._constants.values(), *beside])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        self.encoded: bytes = model.SerializeToString()

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        return self._split(kind, 1, *inputs, **attributes)[0]

    def _split(self, kind: str, parts: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self._nodes)}_{part}" for part in range(parts)]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def _constant(self, values: Any, kind: type[np.generic] = np.int64) -> str:
        array = np.asarray(values, kind)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return str(self._constants[key].name)

    def _weight(self, values: Tensor) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(values.detach().numpy(), np.float32)
        return name

    def _reshape(self, x: str, *shape: int) -> str:
        """A side of 0 keeps its length."""
        return self._op("Reshape", x, self._constant(shape))

    def _silu(self, x: str) -> str:
        return self._op("Mul", x, self._op("Sigmoid", x))

    def _linear(self, x: str, layer: nn.Linear) -> str:
        return self._op("Gemm", x, self._weight(layer.weight), self._weight(layer.bias), transB=1)

    def _conv(self, x: str, layer: nn.Conv2d) -> str:
        assert layer.bias is not None
        assert isinstance(layer.padding, tuple)
        sides = [*layer.padding, *layer.padding]
        return self._op(
            "Conv", x, self._weight(layer.weight), self._weight(layer.bias), strides=list(layer.stride), pads=sides
        )

    def _normalised(self, x: str, channels: int, side: int, epsilon: float) -> str:
        """Normalise in groups, without gain and bias."""
        ones, zeros = np.ones(self._groups), np.zeros(self._groups)
        unit = (self._constant(ones, np.float32), self._constant(zeros, np.float32))
        grouped = self._op("InstanceNormalization", self._reshape(x, 0, self._groups, -1), *unit, epsilon=epsilon)
        return self._reshape(grouped, 0, channels, side, side)

    def _norm(self, x: str, layer: GroupNorm, side: int) -> str:
        gain, bias = (self._weight(part.detach().reshape(1, -1, 1, 1)) for part in (layer.weight, layer.bias))
        normalised = self._normalised(x, layer.num_channels, side, layer.eps)
        return self._op("Add", self._op("Mul", normalised, gain), bias)

    def _scaled(self, out: str, scale: float) -> str:
        return out if scale == 1.0 else self._op("Mul", out, self._constant(scale, np.float32))

    def _block(self, x: str, embedding: str, block: ResidualBlock, side: int) -> str:
        """embedding: after its SiLU."""
        channels = block.conv_out.in_channels
        h = self._conv(self._silu(self._norm(x, block.norm_in, side)), block.conv_in)
        h = self._normalised(h, channels, side, block.norm_out.eps)
        gain, bias = (self._projected(embedding, *part) for part in _conditioned(block))
        h = self._op("Add", self._op("Mul", h, gain), bias)
        h = self._conv(self._silu(h), block.conv_out)
        shortcut = x if isinstance(block.shortcut, nn.Identity) else self._conv(x, block.shortcut)
        return self._scaled(self._op("Add", shortcut, h), block.residual_scale)

    def _projected(self, embedding: str, weight: Tensor, offset: Tensor) -> str:
        """Project an embedding to one number for each channel, (B, C, 1, 1)."""
        projected = self._op("Gemm", embedding, self._weight(weight), self._weight(offset), transB=1)
        return self._reshape(projected, 0, len(offset), 1, 1)

    def _attention(self, x: str, layer: SelfAttention, side: int) -> str:
        channels, heads = layer.query.in_features, layer.heads
        tokens = self._op("Transpose", self._reshape(self._norm(x, layer.norm, side), 0, channels, -1), perm=[0, 2, 1])

        def projected(projection: nn.Linear, order: list[int], factor: float = 1.0) -> str:
            y = self._op("MatMul", tokens, self._weight(projection.weight.detach().T * factor))
            y = self._op("Add", y, self._weight(projection.bias.detach() * factor))
            return self._op("Transpose", self._reshape(y, 0, 0, heads, channels // heads), perm=order)

        query = projected(layer.query, [0, 2, 1, 3], 1.0 / math.sqrt(channels // heads))
        scores = self._op("MatMul", query, projected(layer.key, [0, 2, 3, 1]))
        attended = self._op("MatMul", self._op("Softmax", scores, axis=-1), projected(layer.value, [0, 2, 1, 3]))
        joined = self._reshape(self._op("Transpose", attended, perm=[0, 2, 1, 3]), 0, 0, channels)
        out = self._op("MatMul", joined, self._weight(layer.out.weight.detach().T))
        out = self._op("Transpose", self._op("Add", out, self._weight(layer.out.bias)), perm=[0, 2, 1])
        return self._scaled(self._op("Add", x, self._reshape(out, 0, channels, side, side)), layer.residual_scale)

    def _embedding(self, network: UNet) -> str:
        t = self._op("Cast", "t", to=TensorProto.FLOAT)
        if network.time_scale != 1.0:
            t = self._op("Mul", t, self._constant(network.time_scale, np.float32))
        t = self._reshape(self._op("Sub", t, self._constant(1.0, np.float32)), -1, 1)
        angles = self._op("Mul", t, self._weight(embedding_frequencies(network.config.width)[None]))
        waves = self._op("Concat", self._op("Cos", angles), self._op("Sin", angles), axis=1)
        time = self._linear(self._silu(self._linear(waves, network.time_in)), network.time_out)
        return self._silu(self._op("Add", time, "classes"))

    def _unet(self, network: UNet, shape: tuple[int, int, int]) -> str:
        config, (image_channels, image_side, _) = network.config, shape
        patch, side = config.patch_size, image_side // config.patch_size
        embedding = self._embedding(network)
        x = "x"
        if patch > 1:
            x = self._reshape(x, 0, image_channels, side, patch, side, patch)
            x = self._reshape(self._op("Transpose", x, perm=[0, 1, 3, 5, 2, 4]), 0, -1, side, side)
        x = self._conv(x, network.stem)
        skips = [x]
        for level in network.down:
            assert isinstance(level, Level)
            for index in range(len(level.blocks)):
                x = self._level_block(x, embedding, level, index, side)
                skips.append(x)
            if level.resample is not None:
                x = self._conv(x, level.resample)
                side = (side + 1) // 2
                skips.append(x)
        x = self._block(x, embedding, network.middle_in, side)
        if isinstance(network.middle_attention, SelfAttention):
            x = self._attention(x, network.middle_attention, side)
        x = self._block(x, embedding, network.middle_out, side)
        for level in network.up:
            assert isinstance(level, Level)
            for index in range(len(level.blocks)):
                x = self._level_block(self._op("Concat", x, skips.pop(), axis=1), embedding, level, index, side)
            if level.resample is not None:
                x, side = self._conv(self._doubled(x), level.resample), 2 * side
        x = self._conv(self._silu(self._norm(x, network.norm, side)), network.head)
        return self._op("DepthToSpace", x, blocksize=patch, mode="CRD") if patch > 1 else x

    def _level_block(self, x: str, embedding: str, level: Level, index: int, side: int) -> str:
        block, attentions = level.blocks[index], level.attentions
        assert isinstance(block, ResidualBlock)
        x = self._block(x, embedding, block, side)
        if len(attentions):
            attention = attentions[index]
            assert isinstance(attention, SelfAttention)
            x = self._attention(x, attention, side)
        return x

    def _doubled(self, x: str) -> str:
        factors = self._constant([1.0, 1.0, 2.0, 2.0], np.float32)
        return self._op(
            "Resize", x, "", factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )


def _conditioned(block: ResidualBlock) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return weight and offset of two projections of the embedding: what multiplies and what is added after norm_out.

    With norm_out's gain g and bias b, the scale s and the shift f: (g n + b)(1 + s) + f = n g (1 + s) + b (1 + s) + f.
    """
    g, b = block.norm_out.weight.detach().double(), block.norm_out.bias.detach().double()
    s, f = block.scale_shift.weight.detach().double().chunk(2)
    s_offset, f_offset = block.scale_shift.bias.detach().double().chunk(2)
    return (g[:, None] * s, g * (1.0 + s_offset)), (b[:, None] * s + f, b * (1.0 + s_offset) + f_offset)


def _reference(name: str, array: Floats) -> onnx.TensorProto:
    """Return an initializer whose values the session gets beside the graph."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="beside the graph")
    return tensor
