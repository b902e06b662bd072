"""Recurrent networks on the cpu target: unrolled, their products as integers, exactly as simulated."""
import os
import unittest

import numpy as np

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

import common


class Recurrent(common.Case):
    def prove(self, config, *more):
        out = self.quantize(config, None, *more)
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertGreaterEqual(report["coverage"]["macs"], 0.9)
        proof = self.json("verify", out, "--samples", "8")
        self.assertEqual(proof["mismatches"], 0)
        self.assertGreaterEqual(proof["coverage_macs"], 0.9)
        return out, report

    def test_gru_spoken_digits(self):
        config, x, y, name, path = self.network_config("gru_spoken_digits")
        out, report = self.prove(config)
        self.assertNotIn("GRU", [node["op"] for node in report["float_nodes"]])
        # 26 steps share the integers of one matrix: not larger than the float file.
        self.assertLess(os.path.getsize(os.path.join(out, "package", "data.bin")), os.path.getsize(path))
        found = report["evaluation"]
        self.assertGreaterEqual(found["quantized"], found["float"] - 0.01)
        if onnxruntime is None:
            self.skipTest("this Python lacks onnxruntime; the exported file was not run")
        rows = x[:64]
        session = onnxruntime.InferenceSession(os.path.join(out, "model.onnx"), providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])
        (ours,) = self.outputs(out, rows, "integer", name).values()
        # ONNX Runtime adds up in another order, so a code may differ here and there: near, not equal.
        self.assertLessEqual(np.abs(ours.reshape(theirs.shape) - theirs).mean(), 0.02 * np.abs(theirs).max())

    def test_dtln_denoise(self):
        folder = os.path.join(common.MODELS, "dtln_denoise")
        if not os.path.isdir(folder):
            self.skipTest("the shared network dtln_denoise is not beside the project")
        for stage, names in {1: ("input_2", "input_3"), 2: ("input_4", "input_5")}.items():
            files = ", ".join(f"{n}: {os.path.join(folder, f'calib_m{stage}_{n}.npy')}" for n in names)
            config = self.at(f"stage{stage}.yaml")
            common.write(config, f"quern: 1\nmodel: {os.path.join(folder, f'model_{stage}.onnx')}\ntarget: {{device: cpu}}\n"
                                 f"data:\n  calibration: {{reader: npy, inputs: {{{files}}}, samples: 64}}\noutput: out{stage}\n")
            self.prove(config, "--skip-evaluation")


if __name__ == "__main__":
    common.main()
