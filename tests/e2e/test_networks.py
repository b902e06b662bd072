"""Real networks: everything but a final Softmax runs as integers, exactly as simulated; float runs agree with ONNX Runtime."""
import os
import unittest

import numpy as np

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

import common


class Networks(common.Case):
    def prove(self, network, model="model.onnx"):
        config, x, _, name, path = self.network_config(network, model, calibration=16)
        out = self.quantize(config, None, "--skip-evaluation")
        self.assertEqual(sorted(common.tree(out)), common.RESULT)
        report = common.read_json(os.path.join(out, "report.json"))
        floats = report["float_nodes"]
        self.assertLessEqual(len(floats), 1)
        for node in floats:
            self.assertEqual(node["op"], "Softmax")
            self.assertTrue(node["reason"])
        self.assertEqual(report["coverage"]["float_nodes"], len(floats))
        self.assertGreaterEqual(report["coverage"]["macs"], 0.99)

        proof = self.json("verify", out, "--samples", "8")
        print({k: proof[k] for k in ("tensors", "elements", "mismatches", "coverage_macs")})
        self.assertEqual(proof["mismatches"], 0)
        self.assertGreaterEqual(proof["coverage_macs"], 0.99)
        # Every unit's result is among the tensors compared.
        units = sum(n["op"] == "Unit" for n in common.read_json(os.path.join(out, "package", "index.json"))["nodes"])
        self.assertGreaterEqual(proof["tensors"], units)

        if onnxruntime is None:
            self.skipTest("this Python lacks onnxruntime; the float run was not compared")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        rows = x[:8]
        theirs = np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])
        (ours,) = self.outputs(path, rows, "float", name).values()
        self.assertLessEqual(np.abs(ours - theirs.reshape(ours.shape)).max(), 1e-4 * np.abs(theirs).max())
        # A folder as float is the network it was made from.
        (again,) = self.outputs(out, rows, "float", name).values()
        self.assertEqual(ours.tobytes(), again.tobytes())

    def test_kws_dscnn(self):
        self.prove("kws_dscnn")

    def test_vww_mobilenetv1(self):
        self.prove("vww_mobilenetv1")

    def test_mnv2_signs(self):
        self.prove("mnv2_signs")

    def test_mnv2_signs_stretched(self):
        self.prove("mnv2_signs", "model_stretched.onnx")


if __name__ == "__main__":
    common.main()
