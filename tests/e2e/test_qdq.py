"""The QDQ file in the hands of others: the ONNX checker and ONNX Runtime."""
import os
import unittest

import numpy as np

try:
    import onnx
    import onnxruntime
except ImportError as e:
    onnx, missing = None, str(e)

import common


@unittest.skipIf(onnx is None, "this Python lacks onnx or onnxruntime")
class Qdq(common.Case):
    def examine(self, out, float_file, x, y, name, dense):
        file = os.path.join(out, "model.onnx")
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        self.assertGreaterEqual(model.opset_import[0].version, 13)
        properties = {p.key: p.value for p in model.metadata_props}
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertEqual(properties["quern.tool"], "quern")
        self.assertEqual(properties["quern.version"], report["tool"]["version"])
        self.assertIn(report["target"]["id"], properties["quern.target"])
        self.assertEqual(properties["quern.rules_sha256"], report["target"]["rules_sha256"])
        self.assertEqual(properties["quern.configuration_sha256"], report["configuration_sha256"])
        self.assertEqual(properties["quern.model_sha256"], report["model"]["sha256"])

        # Weights are int8 and biases int32 initializers, behind a DequantizeLinear each.
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        made_by = {o: n for n in model.graph.node for o in n.output}
        found = 0
        for node in model.graph.node:
            if node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            for k, kind in ((1, onnx.TensorProto.INT8), (2, onnx.TensorProto.INT32)):
                if k < len(node.input) and node.input[k]:
                    dequantize = made_by[node.input[k]]
                    self.assertEqual(dequantize.op_type, "DequantizeLinear", node.name)
                    self.assertEqual(kinds[dequantize.input[0]], kind, node.name)
            found += 1
        self.assertEqual(found, dense or found)
        self.assertGreater(found, 0)
        # A quarter of the weights' bytes.
        original = {t.name: t for t in onnx.load(float_file).graph.initializer}
        bytes_of = lambda tensors, kind: sum(int(np.prod(t.dims, dtype=np.int64)) for t in tensors if t.data_type == kind and len(t.dims) > 1)
        self.assertEqual(bytes_of(model.graph.initializer, onnx.TensorProto.INT8), bytes_of(original.values(), onnx.TensorProto.FLOAT))
        big = [t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims, dtype=int) > 4096]
        self.assertEqual(big, [], "weights are still stored as float")
        share = os.path.getsize(file) / os.path.getsize(float_file)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, {name: row[None]})[0] for row in x]).reshape(len(x), -1)
        (ours,) = self.outputs(out, x, "integer", name).values()
        ours = ours.reshape(len(x), -1)
        a, b = theirs.argmax(1), ours.argmax(1)
        print(f"file {share:.3f} of the float file; predictions equal to ONNX Runtime's: {(a == b).mean():.4f} of {len(x)}")
        if y is not None:
            right = np.sum(a == y), np.sum(b == y)
            print(f"top1: ONNX Runtime {right[0] / len(x):.4f}, integer {right[1] / len(x):.4f}")
            self.assertLessEqual(abs(right[0] - right[1]), max(1, 0.002 * len(x)))
        self.assertGreaterEqual((a == b).mean(), 0.98)
        return share

    def test_the_example(self):
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            x, y = data["x_eval"], data["y_eval"]
        self.examine(self.quantize(), os.path.join(common.EXAMPLE, "digits.onnx"), x, y, "image", 7)

    def test_keyword_spotting(self):
        config, x, y, name, path = self.network_config("kws_dscnn")
        # 24,000 weights only: a third of the file is long names.
        self.assertLessEqual(self.examine(self.quantize(config), path, x, y, name, 10), 0.65)

    def test_hand_signs(self):
        config, x, y, name, path = self.network_config("mnv2_signs")
        self.assertLessEqual(self.examine(self.quantize(config), path, x[:200], y[:200], name, None), 0.4)


if __name__ == "__main__":
    common.main()
