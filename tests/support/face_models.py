"""Stand-ins for insightface's published packs: small .onnx files with their interfaces, and pictures for them.

The detection model has det_10g.onnx's inputs and outputs and finds marks that `image_of` paints: a red square is a
face, whose green says how large it is and whose blue how far its landmarks are turned. The recognition model has
w600k_r50.onnx's and random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
CELL = 32  # the stride at which faces are found
EYES_NOSE_MOUTH = np.float32([[-0.4, -0.4], [0.4, -0.42], [0.02, 0.05], [-0.3, 0.45], [0.32, 0.44]]).reshape(1, 10)
TURNED = np.float32([[0, -0.5], [0.5, 0.4], [0.2, 0.0], [-0.4, -0.1], [0.1, 0.5]]).reshape(1, 10)
NEVER = 1 << 20


@dataclass(frozen=True)
class Mark:
    """A face that the detection model finds with its centre at x, y, `reach` cells to every side."""

    x: int
    y: int
    reach: float = 2.0
    turn: float = 0.3
    side: int = CELL


SMALL, LARGE = Mark(128, 128, reach=2, turn=0.3), Mark(384, 320, reach=4, turn=0.8)


def image_of(marks: Sequence[Mark], width: int = 640, height: int = 640, seed: int = 0) -> torch.Tensor:
    """[1, H, W, 3] in 255ths: dark noise with the marks on it."""
    noise = torch.randint(0, 60, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    for mark in marks:
        colour = torch.tensor([255, round(mark.reach * 255 / 8), round(mark.turn * 255)])
        noise[mark.y : mark.y + mark.side, mark.x : mark.x + mark.side] = colour
    return (noise.float() / 255).unsqueeze(0)


def save_pack(folder: Path, largest_input: int = NEVER, seed: int = 0) -> Path:
    """A pack of buffalo_l's file names. The detection model finds nothing in squares above `largest_input`."""
    folder.mkdir(parents=True)
    onnx.save(detection_model(largest_input), folder / "det_10g.onnx")
    onnx.save(recognition_model(seed), folder / "w600k_r50.onnx")
    return folder


def detection_model(largest_input: int = NEVER) -> onnx.ModelProto:
    graph = _Graph()
    height = graph.add("Gather", graph.add("Shape", "input.1"), graph.constant(np.int64(2)))
    is_small = graph.add("LessOrEqual", height, graph.constant(np.int64(largest_input)))
    gate = graph.add("Cast", is_small, to=TensorProto.FLOAT)
    outputs = [_outputs_at(graph, stride, gate) for stride in STRIDES]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n{name}", width])
        for names, width in zip(zip(*outputs, strict=True), (1, 4, 10), strict=True)
        for name in names
    ]
    return graph.model([1, 3, "?", "?"], values)


def _outputs_at(graph: _Graph, stride: int, gate: str) -> tuple[str, str, str]:
    """Scores [cells * 2, 1], boxes [cells * 2, 4] and landmarks [cells * 2, 10] of one stride."""
    pooled = graph.add("AveragePool", "input.1", kernel_shape=[stride, stride], strides=[stride, stride])
    cells = graph.add("Reshape", graph.add("Transpose", pooled, perm=[0, 2, 3, 1]), graph.constant([-1, 3]))
    colours = graph.add(
        "Add", graph.add("Mul", cells, graph.constant(np.float32(0.502))), graph.constant(np.float32(0.5))
    )
    red, green, blue = (
        graph.add("Gather", colours, graph.constant(np.int64([channel])), axis=1) for channel in range(3)
    )
    score = graph.add("Mul", red, gate if stride == CELL else graph.constant(np.float32(0)))
    reach = graph.add("Mul", green, graph.constant(np.float32(8)))  # [cells, 1]
    box = graph.add("MatMul", reach, graph.constant(np.ones((1, 4), np.float32)))
    upright = graph.add("MatMul", reach, graph.constant(EYES_NOSE_MOUTH))
    landmarks = graph.add("Add", upright, graph.add("MatMul", blue, graph.constant(TURNED)))
    nothing = graph.add("Mul", score, graph.constant(np.float32(0)))
    return tuple(
        graph.add("Reshape", graph.add("Concat", first, second, axis=1), graph.constant([-1, width]))
        for first, second, width in ((score, nothing, 1), (box, box, 4), (landmarks, landmarks, 10))
    )


def recognition_model(seed: int = 0, width: int = 512) -> onnx.ModelProto:
    drawn = np.random.default_rng(seed)
    graph = _Graph()
    kernel = graph.constant(drawn.normal(0, 0.1, (8, 3, 16, 16)).astype(np.float32))
    seen = graph.add("Relu", graph.add("Conv", "input.1", kernel, strides=[16, 16]))
    weights = graph.constant(drawn.normal(0, 0.2, (8 * 7 * 7, width)).astype(np.float32))
    embedding = graph.add("MatMul", graph.add("Flatten", seen), weights)
    value = helper.make_tensor_value_info(embedding, TensorProto.FLOAT, ["None", width])
    return graph.model(["None", 3, 112, 112], [value])


class _Graph:
    """Nodes of an ONNX graph, each named by the number of the value it makes."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operation: str, *inputs: str, **attributes) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], name=f"Node_{name}", **attributes))
        return name

    def constant(self, value) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def model(self, shape: Sequence[int | str], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        source = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "stand-in", [source], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model
