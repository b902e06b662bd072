"""The readers of plugins through the command: pictures with annotations, effective.yaml run again, a file that can't be read."""
import os
import unittest

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    onnx = None

import common

CONFIG = """quern: 1
model: net.onnx
data:
  calibration: {{reader: images, path: pictures, resize: {{size: 16}}, color: rgb, {more}
                preprocess: {{mean: 127.5, scale: 0.0078125}}}}
  evaluation: {{reader: images, path: pictures, resize: {{size: 16}}, color: rgb, {more} annotations: {{format: csv, path: lists/classes.csv}},
               preprocess: {{mean: 127.5, scale: 0.0078125}}}}
metric: top1
output: out
"""


@unittest.skipIf(onnx is None, "this Python lacks onnx")
class Readers(common.Case):
    def setUp(self):
        super().setUp()
        random = np.random.default_rng(5)
        weight = numpy_helper.from_array(random.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32), "w")
        nodes = [helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["b"]),
                 helper.make_node("GlobalAveragePool", ["b"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
        graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])], [weight])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), self.at("net.onnx"))
        os.makedirs(self.at("pictures", "below"))
        os.makedirs(self.at("lists"))
        lines = ["file,class"]
        for i in range(24):
            name = f"below/{i:02}.ppm" if i % 2 else f"{i:02}.ppm"
            h, w = 12 + i, 20
            pixels = (random.integers(0, 200, (h, w, 3)) + np.arange(w)[None, :, None] * (i % 4)).clip(0, 255).astype(np.uint8)
            common.write(self.at("pictures", name), b"P6 %d %d 255\n" % (w, h) + pixels.tobytes())
            lines.append(f"{name},{i % 4}")
        common.write(self.at("lists", "classes.csv"), "\n".join(lines) + "\n")
        common.write(self.at("c.yaml"), CONFIG.format(more=""))

    def test_pictures_from_end_to_end(self):
        out = self.quantize(self.at("c.yaml"))
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertEqual(report["evaluation"]["samples"], 24)
        self.assertEqual(self.json("verify", out, "--samples", "4")["mismatches"], 0)
        # The configuration beside the result finds pictures and lists from there.
        again = self.quantize(os.path.join(out, "effective.yaml"), self.at("again"))
        for name in ("model.onnx", "package/data.bin", "package/index.json"):
            self.assertEqual(common.read(os.path.join(out, name)), common.read(os.path.join(again, name)), name)

    def test_a_picture_that_cannot_be_read(self):
        common.write(self.at("pictures", "below", "13.ppm"), b"P6 20 2")
        self.failure(5, ["13.ppm"], "quantize", self.at("c.yaml"))
        common.write(self.at("c.yaml"), CONFIG.format(more="on_error: skip,"))
        code, _, err = common.quern("quantize", self.at("c.yaml"), "-o", self.at("out"))
        if code == 6 and "can't run its profile" in err:
            self.skipTest("this machine can't run the target")
        self.assertEqual(code, 0, err)
        self.assertIn("1 of 24 files can't be read and are skipped", err)
        self.assertIn("13.ppm", err)
        self.assertEqual(common.read_json(self.at("out", "report.json"))["evaluation"]["samples"], 23)

    def test_mistakes_have_a_place(self):
        common.write(self.at("c.yaml"), CONFIG.format(more="on_eror: skip,"))
        self.failure(3, ["c.yaml:4", "on_eror", "on_error"], "quantize", self.at("c.yaml"))
        os.remove(self.at("lists", "classes.csv"))
        common.write(self.at("c.yaml"), CONFIG.format(more=""))
        self.failure(5, ["classes.csv"], "quantize", self.at("c.yaml"))


if __name__ == "__main__":
    common.main()
