"""ResNet-50 and MobileNetV2 (224x224) with random weights, and noise that looks like images: for timing, not for accuracy.

  make_networks.py FOLDER      -> resnet50.onnx, mobilenetv2.onnx, images.npz ("x": 32 x 3 x 224 x 224)

Weights are He-initialised from a fixed seed. Statistics of every BatchNormalization are those that its input would have if the elements
were independent: means and variances are carried from layer to layer, so that activations stay near unit variance through all of
the network, as in a trained one. Opset 13, batch axis free."""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GRID = np.linspace(-6, 6, 1201)
DENSITY = np.exp(-GRID**2 / 2)
DENSITY /= DENSITY.sum()


class Network:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, op, inputs, **attributes):
        out = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def conv(self, x, channels, kernel, stride=1, group=1, act=None, gain=1.0):
        """Conv, BatchNormalization and activation. A tensor here is (name, mean, variance), the latter two per channel."""
        name, mean, variance = x
        fan_in = len(mean) // group * kernel * kernel
        w = self.rng.standard_normal((channels, len(mean) // group, kernel, kernel)) * np.sqrt(2 / fan_in)
        key = f"c{len(self.nodes)}"
        out = self.add("Conv", [name, self.constant(key + "_w", w)], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        if group == 1:
            m, v = w.sum((2, 3)) @ mean, (w**2).sum((2, 3)) @ variance
        else:
            m, v = w.sum((1, 2, 3)) * mean, (w**2).sum((1, 2, 3)) * variance
        gamma, beta = gain * self.rng.uniform(0.8, 1.2, channels), 0.1 * self.rng.standard_normal(channels)
        parts = [self.constant(f"{key}_{part}", values) for part, values in (("gamma", gamma), ("beta", beta), ("mean", m), ("var", v + 1e-3))]
        out = self.add("BatchNormalization", [out, *parts])
        return self.act((out, beta, gamma**2), act)

    def act(self, x, act):
        name, mean, variance = x
        if act is None:
            return x
        high = 6.0 if act == "relu6" else np.inf
        if act == "relu6":
            name = self.add("Clip", [name, "zero", "six"])
        else:
            name = self.add("Relu", [name])
        values = np.clip(mean[:, None] + np.sqrt(variance)[:, None] * GRID, 0, high)
        first = values @ DENSITY
        return name, first, np.maximum((values**2) @ DENSITY - first**2, 1e-3)

    def sum(self, a, b):
        return self.add("Add", [a[0], b[0]]), a[1] + b[1], a[2] + b[2]

    def finish(self, x, classes, file):
        name, mean, _ = x
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [name])], axis=1)
        w = self.rng.standard_normal((classes, len(mean))) / np.sqrt(len(mean))
        self.nodes.append(helper.make_node("Gemm", [flat, self.constant("fc_w", w), self.constant("fc_b", np.zeros(classes))], ["logits"], name="fc", transB=1))
        graph = helper.make_graph(self.nodes, os.path.basename(file)[:-5], [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
                                  [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, file)


def resnet50(file):
    n = Network(50)
    x = n.conv(("x", np.zeros(3), np.ones(3)), 64, 7, 2, act="relu")
    x = (n.add("MaxPool", [x[0]], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), x[1] + np.sqrt(x[2]), x[2])
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            s = stride if block == 0 else 1
            y = n.conv(n.conv(n.conv(x, width, 1, act="relu"), width, 3, s, act="relu"), 4 * width, 1, gain=0.5)
            x = n.act(n.sum(y, n.conv(x, 4 * width, 1, s) if block == 0 else x), "relu")
    n.finish(x, 1000, file)


def mobilenetv2(file):
    n = Network(2)
    n.constant("zero", 0.0)
    n.constant("six", 6.0)
    x = n.conv(("x", np.zeros(3), np.ones(3)), 32, 3, 2, act="relu6")
    for expand, channels, blocks, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for block in range(blocks):
            s = stride if block == 0 else 1
            wide = expand * len(x[1])
            y = n.conv(x, wide, 1, act="relu6") if expand > 1 else x
            y = n.conv(n.conv(y, wide, 3, s, group=wide, act="relu6"), channels, 1)
            x = n.sum(y, x) if s == 1 and len(x[1]) == channels else y
    n.finish(n.conv(x, 1280, 1, act="relu6"), 1000, file)


def images(file, count=32, size=224):
    """Noise of several octaves, the coarser the stronger, per channel and shared by the channels; each image of mean 0 and variance 1."""
    rng = np.random.default_rng(224)
    x = np.zeros((count, 3, size, size), np.float32)
    for step in (56, 28, 14, 7, 4, 2, 1):
        cells = size // step + 1
        for channels in (1, 3):
            noise = rng.standard_normal((count, channels, cells, cells)).astype(np.float32)
            at = np.arange(size) / step
            low, part = at.astype(int), (at % 1).astype(np.float32)
            high = np.minimum(low + 1, cells - 1)
            rows = noise[:, :, low] * (1 - part)[:, None] + noise[:, :, high] * part[:, None]
            x += step**0.5 * (rows[..., low] * (1 - part) + rows[..., high] * part)
    x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    np.savez(file, x=x)


if __name__ == "__main__":
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, make in (("resnet50.onnx", resnet50), ("mobilenetv2.onnx", mobilenetv2), ("images.npz", images)):
        file = os.path.join(folder, name)
        if not os.path.exists(file):
            make(file + ".part" + os.path.splitext(name)[1])
            os.replace(file + ".part" + os.path.splitext(name)[1], file)
