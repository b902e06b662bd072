"""QDQ profiles in the runtimes that they are for: what runs in integers is counted in the graphs that these run, and compared with
what report.json foretold."""
import collections
import os
import unittest

import numpy as np

try:
    import onnx
    import onnxruntime
except ImportError as e:
    onnx, missing = None, str(e)
try:
    import openvino
except ImportError:
    openvino = None

import common
import runtimes

FILES = ["model.onnx", "model.ort.onnx", "model.openvino.onnx"]


@unittest.skipIf(onnx is None, "this Python lacks onnx or onnxruntime")
class Runtimes(common.Case):
    def export(self, config=common.CONFIG):
        out = self.quantize(config, None, "--set", "export.qdq=[plain, ort, openvino]", "--skip-evaluation")
        report = common.read_json(os.path.join(out, "report.json"))
        exports = {e["profile"]: e for e in report["exports"]}
        self.assertEqual([exports[p]["file"] for p in ("plain", "ort", "openvino")], FILES)
        for file in FILES:
            onnx.checker.check_model(os.path.join(out, file), full_check=True)
        return out, exports

    def metadata(self, file):
        return {p.key: p.value for p in onnx.load(file).metadata_props}

    def foretold(self, export):
        return collections.Counter(n["op"] for n in export["float_nodes"])

    def check_ort(self, out, export):
        file = os.path.join(out, export["file"])
        integer, floats, others = runtimes.ort_counts(file)
        self.assertEqual(integer, export["heavy_integer"])
        self.assertEqual(len(floats), export["heavy_float"])
        heavy = [n["node"] for n in export["float_nodes"] if n["op"] in runtimes.HEAVY]
        for name in heavy:
            self.assertTrue(any(name in runs or runs in name for _, runs in floats) or any("MatMul" in op for op, _ in floats), name)
        added = [a["tensor"] for a in export["added_quantizers"]]
        self.assertEqual(self.metadata(file).get("quern.qdq_added", "").split("\n") if added else [], added)
        self.assertEqual(self.metadata(file)["quern.qdq"], "ort")
        return integer, floats, others

    def agreement(self, out, x, name, least, profile="model.ort.onnx"):
        session = runtimes.ort_session(os.path.join(out, profile))
        theirs = np.concatenate([session.run(None, {name: row[None]})[0] for row in x]).reshape(len(x), -1)
        (ours,) = self.outputs(out, x, "integer", name).values()
        same = (theirs.argmax(1) == ours.reshape(len(x), -1).argmax(1)).mean()
        print(f"{profile}: predictions equal to ONNX Runtime's: {same:.4f} of {len(x)}")
        self.assertGreaterEqual(same, least)

    def test_onnx_runtime_runs_the_example_in_integers(self):
        out, exports = self.export()
        integer, floats, others = self.check_ort(out, exports["ort"])
        self.assertEqual((integer, floats), (7, []))
        kinds = collections.Counter(op for op, _ in others)
        self.assertEqual((kinds["QLinearAdd"], kinds["QLinearConcat"], kinds["QLinearAveragePool"]), (1, 1, 1))
        self.assertEqual((kinds["QuantizeLinear"], kinds["DequantizeLinear"]), (1, 0), "there is a border inside")
        self.assertEqual(len(exports["ort"]["added_quantizers"]), 1)
        self.assertEqual(exports["ort"]["float_nodes"], [])
        plain, _, _ = runtimes.ort_counts(os.path.join(out, "model.onnx"))
        self.assertLess(plain, 7, "the plain file fuses as well: the profile is of no use any more")
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            self.agreement(out, data["x_eval"][:300], "image", 0.98)

    def test_the_package_does_not_depend_on_the_files(self):
        first = common.tree(self.quantize(output=self.at("a")))
        second = common.tree(self.quantize(common.CONFIG, self.at("b"), "--set", "export.qdq=ort"))
        for name in ("package/data.bin", "package/index.json"):
            self.assertEqual(first[name], second[name])
        self.assertIn("model.onnx", first)
        self.assertNotIn("model.onnx", second)
        self.assertIn("model.ort.onnx", second)
        third = common.tree(self.quantize(common.CONFIG, self.at("b"), "--set", "export.qdq=[]"))
        self.assertEqual([n for n in third if n.endswith(".onnx")], [], "files of an earlier result are left")
        self.failure(3, ["export", "ort"], "quantize", common.CONFIG, "-o", self.at("c"), "--set", "export.qdq=[orrt]")

    def test_without_kept_statistics_the_added_ranges_are_measured(self):
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            np.savez(self.at("data.npz"), **{k: data[k] for k in data.files})
        common.write(self.at("config.yaml"), f"quern: 1\nmodel: {os.path.join(common.EXAMPLE, 'digits.onnx')}\npipeline: [quantize]\n"
                     "data: {calibration: {reader: npz, path: data.npz, inputs: {image: x_calib}}}\n")
        out, exports = self.export(self.at("config.yaml"))
        self.check_ort(out, exports["ort"])
        (added,) = exports["ort"]["added_quantizers"]
        self.assertGreater(added["scale"], 0)
        with np.load(self.at("data.npz")) as data:
            self.agreement(out, data["x_eval"][:100], "image", 0.97)

    def network(self, name, heavy, least):
        config, x, _, feed, _ = self.network_config(name)
        out, exports = self.export(config)
        integer, floats, _ = self.check_ort(out, exports["ort"])
        print(f"{name}: ONNX Runtime runs {integer} of {integer + len(floats)} heavy operators in integers")
        self.assertGreaterEqual(integer, heavy)
        if least:
            self.agreement(out, x[:200], feed, least)
        self.check_openvino(out, exports["openvino"], heavy)

    def check_openvino(self, out, export, heavy):
        if openvino is None:
            print("openvino is not installed: its kernels are not counted")
            return
        integer, floats, _ = runtimes.openvino_counts(os.path.join(out, export["file"]))
        print(f"OpenVINO runs {integer} of {integer + len(floats)} heavy operators in integers")
        self.assertGreaterEqual(integer, heavy)
        self.assertGreaterEqual(integer, export["heavy_integer"])

    def test_openvino_runs_the_example_in_integers(self):
        if openvino is None:
            self.skipTest("this Python lacks openvino (bench/peers/requirements.txt)")
        out, exports = self.export()
        self.check_openvino(out, exports["openvino"], 7)

    def test_keyword_spotting(self):
        self.network("kws_dscnn", 10, 0.98)

    def test_hand_signs(self):
        self.network("mnv2_signs", 26, 0.98)

    def test_person_detection(self):
        self.network("vww_mobilenetv1", 28, 0.98)

    def test_segmentation(self):
        self.network("unet_nuclei", 15, 0)


if __name__ == "__main__":
    common.main()
