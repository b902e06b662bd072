#!/usr/bin/env python3
"""Trains the embedded example: a small convolutional network for 8 x 8 pictures of handwritten digits.

    OPENBLAS_NUM_THREADS=1 python train.py [--epochs 40] [--seed 7] [--out .]

Needs numpy, scikit-learn (the data) and onnx (to write the file); no deep-learning framework, no download. Writes
digits.onnx and data.npz. Seeded: the same versions on the same machine give the same bytes.

The network has one of everything the quantizer has to handle: convolution with batch normalisation (left as separate nodes),
a depthwise convolution in a residual block, a stride, two branches that are concatenated, average pooling, a dense layer.
"""
import argparse
import os

import numpy as np

rng = np.random.default_rng()  # replaced in main


# ---- layers: forward(x, training) keeps what backward(dy) needs; params and grads are lists of arrays -----------------------

class Conv:
    """Convolution without bias; depthwise when `depthwise`."""

    def __init__(self, inputs, outputs, kernel, stride=1, depthwise=False):
        self.k, self.s, self.p, self.depthwise = kernel, stride, kernel // 2, depthwise
        fan = kernel * kernel * (1 if depthwise else inputs)
        shape = (outputs, 1 if depthwise else inputs, kernel, kernel)
        self.params = [(rng.standard_normal(shape) * np.sqrt(2.0 / fan)).astype(np.float32)]

    def windows(self, x):
        p, k, s = self.p, self.k, self.s
        x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]  # n c h w k k

    def forward(self, x, training):
        self.shape, self.w = x.shape, self.windows(x)
        if self.depthwise:
            return np.einsum("nchwij,cij->nchw", self.w, self.params[0][:, 0])
        return np.tensordot(self.w, self.params[0], axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)

    def backward(self, dy):
        n, c, h, w = self.shape
        weight = self.params[0]
        dx = np.zeros((n, c, h + 2 * self.p, w + 2 * self.p), np.float32)
        if self.depthwise:
            self.grads = [np.einsum("nchwij,nchw->cij", self.w, dy)[:, None]]
        else:
            self.grads = [np.tensordot(dy, self.w, axes=([0, 2, 3], [0, 2, 3]))]
        oh, ow = dy.shape[2:]
        for i in range(self.k):
            for j in range(self.k):
                if self.depthwise:
                    part = dy * weight[None, :, 0, i, j, None, None]
                else:
                    part = np.tensordot(dy, weight[:, :, i, j], axes=([1], [0])).transpose(0, 3, 1, 2)
                dx[:, :, i:i + oh * self.s:self.s, j:j + ow * self.s:self.s] += part
        return dx[:, :, self.p:self.p + h, self.p:self.p + w]


class BatchNorm:
    epsilon = 1e-5

    def __init__(self, channels):
        self.params = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
        self.mean, self.var = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x, training):
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean += 0.05 * (mean - self.mean)
            self.var += 0.05 * (var - self.var)
        else:
            mean, var = self.mean, self.var
        self.inverse = 1 / np.sqrt(var + self.epsilon)
        self.hat = (x - mean[:, None, None]) * self.inverse[:, None, None]
        return self.hat * self.params[0][:, None, None] + self.params[1][:, None, None]

    def backward(self, dy):
        self.grads = [(dy * self.hat).sum((0, 2, 3)), dy.sum((0, 2, 3))]
        count = dy.size / dy.shape[1]
        centred = dy - (self.grads[1] / count)[:, None, None] - self.hat * (self.grads[0] / count)[:, None, None]
        return centred * (self.params[0] * self.inverse)[:, None, None]


class Relu:
    params = []

    def forward(self, x, training):
        self.on = x > 0
        return x * self.on

    def backward(self, dy):
        return dy * self.on


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x, training):
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class Network:
    def __init__(self):
        self.stem = Chain(Conv(1, 16, 3), BatchNorm(16), Relu())
        self.block = Chain(Conv(16, 16, 3, depthwise=True), BatchNorm(16), Relu(), Conv(16, 16, 1), BatchNorm(16))
        self.after = Relu()
        self.down = Chain(Conv(16, 32, 3, stride=2), BatchNorm(32), Relu())
        self.wide = Chain(Conv(32, 16, 3), BatchNorm(16), Relu())
        self.thin = Chain(Conv(32, 16, 1), BatchNorm(16), Relu())
        self.dense = [(rng.standard_normal((10, 128)) * np.sqrt(1.0 / 128)).astype(np.float32), np.zeros(10, np.float32)]

    def forward(self, x, training=False):
        stem = self.stem.forward(x, training)
        x = self.after.forward(stem + self.block.forward(stem, training), training)
        x = self.down.forward(x, training)
        x = np.concatenate([self.wide.forward(x, training), self.thin.forward(x, training)], axis=1)
        n, c, h, w = x.shape
        self.features = x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)).reshape(n, -1)
        return self.features @ self.dense[0].T + self.dense[1]

    def backward(self, dy):
        self.dense_grads = [dy.T @ self.features, dy.sum(0)]
        d = (dy @ self.dense[0]).reshape(-1, 32, 2, 2).repeat(2, 2).repeat(2, 3) / 4
        d = self.wide.backward(d[:, :16]) + self.thin.backward(d[:, 16:])
        d = self.after.backward(self.down.backward(d))
        self.stem.backward(d + self.block.backward(d))

    def parameters(self):
        """(array, gradient) pairs in a fixed order."""
        pairs = []
        for chain in (self.stem, self.block, self.down, self.wide, self.thin):
            for layer in chain.layers:
                pairs += list(zip(layer.params, getattr(layer, "grads", layer.params)))
        return pairs + list(zip(self.dense, getattr(self, "dense_grads", self.dense)))


# ---- training ----------------------------------------------------------------------------------------------------------------

def shifted(x):
    """Every picture moved by at most one pixel, and its contrast changed a little."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        dy, dx = rng.integers(-1, 2, 2)
        padded = np.pad(x[i, 0], 1)
        out[i, 0] = padded[1 + dy:9 + dy, 1 + dx:9 + dx] * rng.uniform(0.85, 1.0)
    return out


def train(network, x, y, epochs, batch=64, rate=4e-3):
    moments = None
    step, steps = 0, epochs * (len(x) // batch)
    for epoch in range(epochs):
        order, losses = rng.permutation(len(x)), []
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start:start + batch]
            logits = network.forward(shifted(x[rows]), training=True)
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            losses.append(-np.log(p[np.arange(batch), y[rows]] + 1e-12).mean())
            p[np.arange(batch), y[rows]] -= 1
            network.backward((p / batch).astype(np.float32))
            pairs = network.parameters()
            moments = moments or [(np.zeros_like(a), np.zeros_like(a)) for a, _ in pairs]
            step += 1
            now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
            for (a, g), (m, v) in zip(pairs, moments):  # Adam with decoupled weight decay
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                a -= now * (m / (1 - 0.9 ** step) / (np.sqrt(v / (1 - 0.999 ** step)) + 1e-8) + (1e-3 * a if a.ndim > 1 else 0))
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")


# ---- ONNX --------------------------------------------------------------------------------------------------------------------

def export(network, path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def node(op, name, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def chain(prefix, layers, x):
        """Nodes named <prefix>_conv1, <prefix>_bn1, <prefix>_relu1, ..."""
        count = {"conv": 0, "bn": 0, "relu": 0}
        for layer in layers:
            kind = {Conv: "conv", BatchNorm: "bn", Relu: "relu"}[type(layer)]
            count[kind] += 1
            name = f"{prefix}_{kind}{count[kind]}"
            if kind == "conv":
                group = layer.params[0].shape[0] if layer.depthwise else 1
                x = node("Conv", name, [x, constant(name + "_w", layer.params[0])], name, kernel_shape=[layer.k] * 2,
                         strides=[layer.s] * 2, pads=[layer.p] * 4, group=group)
            elif kind == "bn":
                inputs = [x] + [constant(name + s, a) for s, a in zip(("_scale", "_bias", "_mean", "_var"),
                                                                        layer.params + [layer.mean, layer.var])]
                x = node("BatchNormalization", name, inputs, name, epsilon=layer.epsilon)
            else:
                x = node("Relu", name, [x], name)
        return x

    stem = chain("stem", network.stem.layers, "image")
    x = node("Add", "block_add", [stem, chain("block", network.block.layers, stem)], "block_add")
    x = node("Relu", "block_out", [x], "block_out")
    x = chain("down", network.down.layers, x)
    x = node("Concat", "branches", [chain("wide", network.wide.layers, x), chain("thin", network.thin.layers, x)], "branches", axis=1)
    x = node("AveragePool", "pool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = node("Flatten", "flat", [x], "flat", axis=1)
    node("Gemm", "dense", [x, constant("dense_w", network.dense[0]), constant("dense_b", network.dense[1])], "logits", transB=1)
    graph = helper.make_graph(
        nodes, "digits", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="train.py",
                              doc_string="Handwritten digits, 8 x 8 grey pictures scaled to 0..1. Data: UCI Optical Recognition of "
                                         "Handwritten Digits (E. Alpaydin, C. Kaynak), CC BY 4.0.")
    onnx.checker.check_model(model, full_check=True)
    with open(path, "wb") as f:
        f.write(model.SerializeToString(deterministic=True))


def main():
    global rng
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)

    from sklearn.datasets import load_digits
    digits = load_digits()
    x = (digits.images.astype(np.float32) / 16)[:, None]
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(2024).permutation(len(x))  # the split does not depend on the seed of the training
    evaluation, training = order[:500], order[500:]

    network = Network()
    train(network, x[training], y[training], args.epochs)
    right = (network.forward(x[evaluation]).argmax(1) == y[evaluation]).mean()
    print(f"top-1 on {len(evaluation)} held-out pictures: {right:.4f}")
    export(network, os.path.join(args.out, "digits.onnx"))
    # Calibration pictures come from the training part: they are never judged.
    np.savez_compressed(os.path.join(args.out, "data.npz"), x_calib=x[training[:300]], x_eval=x[evaluation], y_eval=y[evaluation])


if __name__ == "__main__":
    main()
