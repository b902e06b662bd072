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
import runtimes


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

        session = runtimes.ort_session(file)
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

    def written_in_pieces(self):
        """A network of opset 13 whose activations and normalisation are written as arithmetic; (path, its input)."""
        from onnx import TensorProto, helper, numpy_helper
        nodes, constants, rng = [], [], np.random.default_rng(3)

        def constant(value):
            constants.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{len(constants)}"))
            return constants[-1].name

        def op(kind, *inputs, **attributes):
            nodes.append(helper.make_node(kind, list(inputs), [f"{kind}{len(nodes)}_out"], name=f"{kind}{len(nodes)}", **attributes))
            return nodes[-1].output[0]

        def dense(x, wide, name):
            w = constant(rng.normal(size=(16, 16) if not wide else wide) * 0.25)
            return op("Add", op("MatMul", x, w), constant(rng.normal(size=16) * 0.1))

        v = dense("x", None, "a")
        v = op("Mul", v, op("Sigmoid", v))
        v = dense(v, None, "b")
        v = op("Div", op("Mul", v, op("Clip", op("Add", v, constant(3)), constant(0), constant(6))), constant(6))
        v = dense(v, None, "c")
        v = op("Mul", op("Mul", v, op("Add", op("Erf", op("Div", v, constant(np.sqrt(2)))), constant(1))), constant(0.5))
        residual, v = v, dense(v, None, "d")
        v = op("Add", residual, op("Mul", v, op("Tanh", op("Softplus", v))))
        centred = op("Sub", v, op("ReduceMean", v, axes=[-1]))
        deviation = op("Sqrt", op("Add", op("ReduceMean", op("Pow", centred, constant(2)), axes=[-1]), constant(1e-5)))
        v = op("Add", op("Mul", op("Div", centred, deviation), constant(rng.uniform(0.5, 2, 16))), constant(rng.normal(size=16)))
        dense(v, None, "e")
        nodes[-1].output[0] = "y"
        graph = helper.make_graph(nodes, "pieces", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 16])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 16])], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, self.at("pieces.onnx"))
        x = rng.normal(size=(96, 5, 16)).astype(np.float32) * 1.5
        np.savez(self.at("data.npz"), x=x)
        return self.at("pieces.onnx"), x

    def test_recognised_operators_are_written_out(self):
        path, x = self.written_in_pieces()
        run = lambda file: runtimes.ort_session(file).run(None, {"x": x})[0]
        want = run(path)
        for ignored, tolerance in (("[MatMul, Add]", 2e-6), ("[]", 0.2)):
            write_to, config = self.at("out" + str(tolerance)), self.at("config.yaml")
            common.write(config, f"quern: 1\nmodel: {path}\ntarget: {{device: cpu}}\ndata:\n  calibration: {{reader: npz, path: data.npz, inputs: {{x: x}}}}\n"
                                 f"pipeline:\n  - quantize: {{ignored: {{operations: {ignored}}}}}\noutput: out\n")
            report = common.read_json(os.path.join(self.quantize(config, write_to), "report.json"))
            rewritten = {p["pass"]: p["changed"] for p in report["rewrite"]["passes"]}
            self.assertEqual(rewritten["recognize_activations"], 4)
            self.assertGreaterEqual(rewritten["recognize_normalizations"], 1)
            file = os.path.join(write_to, "model.onnx")
            model = onnx.load(file)
            onnx.checker.check_model(model, full_check=True)
            self.assertEqual(model.opset_import[0].version, 13)
            kinds = {n.op_type for n in model.graph.node}
            self.assertFalse(kinds & {"Swish", "HardSwish", "Gelu", "Mish", "LayerNormalization"})
            self.assertLessEqual({"Sigmoid", "Erf", "Softplus", "ReduceMean"}, kinds)
            theirs = run(file)
            (ours,) = self.outputs(write_to, x, "integer", "x").values()
            ours = ours.reshape(want.shape)
            largest = np.abs(want).max()
            print(f"ignored {ignored}: ONNX Runtime on the written file is {np.abs(theirs - want).max() / largest:.2g} from the float file, {np.abs(theirs - ours).max() / largest:.2g} from ours")
            self.assertLessEqual(np.abs(theirs - want).max(), tolerance * largest)
            # A fused function looks up the nearest of 4,096 places: now and then the neighbour of the code that rounding gives.
            self.assertLessEqual(np.abs(theirs - ours).max(), max(tolerance * largest * 0.4, 2e-6 * largest))

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
