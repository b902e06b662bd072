"""A network whose weights are large: Gemm and MatMul layers in turn, with external data, and calibration data for it.

    python bench/large_model.py FOLDER [--size 8192] [--layers 4]

Writes FOLDER/model.onnx, FOLDER/model.onnx.data (layers x size x size x 4 bytes), FOLDER/data.npz and FOLDER/config.yaml.
The default has 1 GB of weights; --size 12288 --layers 4 is beyond 2 GB. `bench/memory.py` quantizes it and says what it took."""
import argparse
import os

import numpy as np
import onnx
from onnx import TensorProto, helper


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("--size", type=int, default=8192)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--samples", type=int, default=32)
    a = p.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    rng = np.random.default_rng(1)
    n = a.size
    nodes, inits = [], []
    offset = 0
    value = "x"
    with open(os.path.join(a.folder, "model.onnx.data"), "wb") as data:
        for i in range(a.layers):
            t = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[n, n], data_location=TensorProto.EXTERNAL)
            for _ in range(0, n, 256):
                data.write((rng.standard_normal((min(256, n), n), dtype=np.float32) * np.float32((2 / n) ** 0.5)).tobytes())
            for k, v in (("location", "model.onnx.data"), ("offset", str(offset)), ("length", str(4 * n * n))):
                e = t.external_data.add()
                e.key, e.value = k, v
            offset += 4 * n * n
            inits.append(t)
            out = f"y{i}"
            if i % 2 == 0:
                inits.append(onnx.numpy_helper.from_array(rng.standard_normal(n).astype(np.float32) * np.float32(0.1), f"b{i}"))
                nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [out], name=f"gemm{i}", transB=1))
            else:
                nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [out], name=f"matmul{i}"))
            if i + 1 < a.layers:
                nodes.append(helper.make_node("Relu", [out], [f"r{i}"], name=f"relu{i}"))
                out = f"r{i}"
            value = out
    graph = helper.make_graph(nodes, "large", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", n])],
                              [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", n])], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with open(os.path.join(a.folder, "model.onnx"), "wb") as f:
        f.write(model.SerializeToString())
    np.savez(os.path.join(a.folder, "data.npz"), x=rng.standard_normal((a.samples, n)).astype(np.float32))
    with open(os.path.join(a.folder, "config.yaml"), "w") as f:
        f.write("quern: 1\nmodel: model.onnx\ndata:\n  calibration: {reader: npz, path: data.npz, inputs: {x: x}}\noutput: out\n")


if __name__ == "__main__":
    main()
