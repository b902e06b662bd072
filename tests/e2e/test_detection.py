"""Networks whose outputs vary in size: a small detector that ends in NonMaxSuppression and a Gather of the kept boxes, and one that
takes the k best of a k that it computes. Float runs agree with ONNX Runtime (or onnx's reference in numpy); quantizing goes through."""
import os
import unittest

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    onnx = None
try:
    import onnxruntime
except ImportError:
    onnxruntime = None

import common

SIDE, POSITIONS, CLASSES = 32, 64, 2


class Builder:
    def __init__(self, seed=5):
        self.random, self.nodes, self.constants = np.random.default_rng(seed), [], []

    def constant(self, values, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, op, inputs, outputs=1, **attributes):
        names = [f"{op}{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, cin, cout, stride, act=True):
        w = self.random.normal(0, (2 / (9 * cin)) ** 0.5, (cout, cin, 3, 3))
        y = self.node("Conv", [x, self.constant(w), self.constant(self.random.normal(0, 0.1, cout))], strides=[stride, stride], pads=[1, 1, 1, 1])
        return self.node("Relu", [y]) if act else y

    def heads(self):
        """Boxes [1, 64, 4] as centers and sizes, scores [1, 2, 64]."""
        body = self.conv(self.conv("x", 3, 8, 2), 8, 16, 2)
        flat = self.constant([1, 4, POSITIONS], np.int64)
        boxes = self.node("Transpose", [self.node("Reshape", [self.conv(body, 16, 4, 1, False), flat])], perm=[0, 2, 1])
        grid = np.stack([np.tile(np.arange(8), 8), np.repeat(np.arange(8), 8), np.full(64, 2), np.full(64, 2)], 1)[None]
        boxes = self.node("Add", [boxes, self.constant(grid)])
        scores = self.node("Sigmoid", [self.conv(body, 16, CLASSES, 1, False)])
        return boxes, self.node("Reshape", [scores, self.constant([1, CLASSES, POSITIONS], np.int64)])

    def refined(self, boxes):
        """A layer behind the cut."""
        y = self.node("MatMul", [boxes, self.constant(self.random.normal(0, 0.5, (4, 8)))])
        return self.node("MatMul", [self.node("Relu", [y]), self.constant(self.random.normal(0, 0.5, (8, 4)))])

    def save(self, path, outputs):
        infos = [helper.make_tensor_value_info(n, t, None) for n, t in outputs]
        graph = helper.make_graph(self.nodes, "detector", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])], infos, self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def suppressing(path):
    b = Builder()
    boxes, scores = b.heads()
    kept = b.node("NonMaxSuppression", [boxes, scores, b.constant([30], np.int64), b.constant([0.3]), b.constant([0.6])], center_point_box=1)
    index = b.node("Gather", [kept, b.constant(2, np.int64)], axis=1)
    picked = b.node("Gather", [b.node("Squeeze", [boxes, b.constant([0], np.int64)]), index], axis=0)
    better = b.refined(picked)
    b.save(path, [(kept, TensorProto.INT64), (picked, TensorProto.FLOAT), (better, TensorProto.FLOAT)])


def best_k(path):
    b = Builder(7)
    boxes, scores = b.heads()
    best = b.node("ReduceMax", [scores], axes=[0, 1], keepdims=0)
    sure = b.node("Cast", [b.node("Greater", [best, b.constant(0.6)])], to=TensorProto.INT64)
    k = b.node("ReduceSum", [sure, b.constant([0], np.int64)], keepdims=1)
    values, index = b.node("TopK", [best, k], outputs=2)
    picked = b.node("Gather", [b.node("Squeeze", [boxes, b.constant([0], np.int64)]), index], axis=0)
    shape = b.node("Concat", [k, b.constant([4], np.int64)], axis=0)
    better = b.node("Reshape", [b.refined(picked), shape])
    b.save(path, [(values, TensorProto.FLOAT), (index, TensorProto.INT64), (better, TensorProto.FLOAT)])


@unittest.skipIf(onnx is None, "this Python lacks onnx")
class Detection(common.Case):
    def theirs(self, model, rows):
        if onnxruntime is not None:
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            return [session.run(None, {"x": row[None]}) for row in rows]
        from onnx.reference import ReferenceEvaluator
        reference = ReferenceEvaluator(model)
        return [reference.run(None, {"x": row[None]}) for row in rows]

    def ours(self, model, rows, kind):
        out = []
        for row in rows:
            np.savez(self.at("in.npz"), x=row[None])
            self.ok("run", model, "--inputs", self.at("in.npz"), "--as", kind, "--outputs", self.at("out.npz"))
            with np.load(self.at("out.npz")) as found:
                out.append({k: found[k] for k in found.files})
        return out

    def prove(self, make):
        model = self.at("model.onnx")
        make(model)
        names = [o.name for o in onnx.load(model).graph.output]
        rows = np.random.default_rng(1).normal(0, 1, (24, 3, SIDE, SIDE)).astype(np.float32)
        few = rows[:6]
        ours, theirs = self.ours(model, few, "float"), self.theirs(model, few)
        sizes = set()
        for a, b in zip(ours, theirs):
            sizes.add(b[0].shape)
            for name, want in zip(names, b):
                self.assertEqual(a[name].shape, want.shape, name)
                if want.size:
                    self.assertLessEqual(np.abs(a[name].astype(np.float64) - want).max(), 1e-4 * np.abs(want).max(), name)
        self.assertGreater(len(sizes), 1)  # the samples do differ in size

        np.savez(self.at("data.npz"), c=rows[:16], e=rows[16:])
        common.write(self.at("config.yaml"), f"quern: 1\nmodel: {model}\ntarget: {{device: cpu}}\ndata:\n"
                     "  calibration: {reader: npz, path: data.npz, inputs: {x: c}}\n  evaluation: {reader: npz, path: data.npz, inputs: {x: e}}\n"
                     "metric: cosine\npipeline:\n  - quantize\n  - bias_correction\noutput: out\n")
        out = self.quantize(self.at("config.yaml"))
        report = common.read_json(os.path.join(out, "report.json"))
        print(report["warnings"], report["coverage"])
        self.assertGreaterEqual(report["coverage"]["macs"], 0.9)
        # Outputs that differ in size are said, and count; none of them ends the run.
        for line in self.json("evaluate", self.at("config.yaml"), "--model", out, "--as", "simulated").items():
            print(line)
        first = self.ours(out, few[:2], "simulated")
        self.assertEqual([sorted(o) for o in first], [sorted(names)] * 2)
        proof = self.json("verify", out, "--samples", "4")
        self.assertEqual(proof["mismatches"], 0)
        # Samples of different sizes don't stack.
        np.savez(self.at("in.npz"), x=few[:, None])
        self.failure(5, ["can't be stacked", "--each"], "run", model, "--inputs", self.at("in.npz"), "--as", "float", "--outputs", self.at("no.npz"), "--each")

    def test_non_max_suppression(self):
        self.prove(suppressing)

    def test_top_k_of_a_computed_k(self):
        self.prove(best_k)


if __name__ == "__main__":
    common.main()
