"""Targets beside cpu, one class each: whole networks run as simulated, and what a target has of its own shows in the report."""
import os
import unittest

import numpy as np

import common


class Target(common.Case):
    device = ""

    def prove(self, network, target="", model="model.onnx", pipeline="", calibration=16):
        """Quantizes a shared network and verifies it: no mismatch, and 95 % of the multiply-accumulates in integers. Gives the report."""
        config, *_ = self.network_config(network, model, calibration, f"{{device: {self.device}{target}}}")
        if pipeline:
            common.write(config, common.read(config).decode() + f"pipeline: [{pipeline}]\n")
        out = self.quantize(config, None, "--skip-evaluation")
        proof = self.json("verify", out, "--samples", "3")
        self.assertEqual(proof["mismatches"], 0)
        self.assertGreater(proof["elements"], 0)
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertEqual(report["target"]["name"], self.device)
        self.assertGreaterEqual(report["coverage"]["macs"], 0.95)
        return report


class VpuSim(Target):
    device = "vpu_sim"

    def test_depthwise_network(self):
        report = self.prove("kws_dscnn")
        # What has no integer kernel runs in f16.
        self.assertEqual({n["precision"] for n in report["float_nodes"]} - {"f16"}, set())
        self.assertEqual(report["coverage"]["f16_nodes"], len(report["float_nodes"]))

    def test_residuals_share_scale_and_zero_point(self):
        report = self.prove("mnv2_signs")
        quantizers = {q["id"]: q for q in report["quantizers"]}
        sums = [u for u in report["units"] if u["config"] == "add"]
        self.assertTrue(sums)
        for unit in sums:
            a, b = (quantizers[unit["operands"][side]["quantizer"]] for side in "ab")
            self.assertEqual((a["scale"], a["zero_point"]), (b["scale"], b["zero_point"]))

    def test_accuracy_preset_has_one_zero_point_for_all_channels(self):
        report = self.prove("kws_dscnn", ", preset: accuracy")
        weights = [q for q in report["quantizers"] if q["kind"] == "weight" and q["type"] == "w8u"]
        self.assertTrue(weights)
        for q in weights:
            self.assertEqual(len(set(q["zero_point"])), 1)
        self.assertTrue(any(q["zero_point"][0] != 0 for q in weights))

    def test_weights_of_four_bits(self):
        report = self.prove("kws_dscnn", pipeline="{quantize: {weights: {bits: 4}}}")
        weights = [q for q in report["quantizers"] if q["kind"] == "weight"]
        self.assertEqual({(q["type"], q["bits"]) for q in weights}, {("w4", 4)})
        # Every unit has a cost, and weights of fewer bits are fewer bytes to bring.
        eight = self.prove("kws_dscnn")
        self.assertEqual((report["cost"]["units_without"], eight["cost"]["units_without"]), (0, 0))
        self.assertLess(report["cost"]["bytes"], eight["cost"]["bytes"])

    def test_attention_in_half(self):
        """LayerNormalization and Softmax in f16: their bytes do not depend on the instructions that the host may use."""
        report = self.prove("tinyvit_mnist")
        half = {n["op"] for n in report["float_nodes"] if n["precision"] == "f16"}
        self.assertTrue({"LayerNormalization", "Softmax"} <= half, half)
        self.assertEqual(report["not_portable"], [])
        x = np.asarray(common.shared("tinyvit_mnist")[1][:2])
        name = common.shared("tinyvit_mnist")[3]
        bytes_of = []
        for isa in ("SSE41", "AVX2"):
            (y,) = self.masked(isa, x, name)
            bytes_of.append(y)
        self.assertEqual(bytes_of[0], bytes_of[1])

    def masked(self, isa, x, name):
        np.savez(self.at("in.npz"), **{name: x})
        self.ok("run", self.at("out"), "--inputs", self.at("in.npz"), "--as", "integer", "--outputs", self.at("out.npz"), "--each",
                env={"ONEDNN_MAX_CPU_ISA": isa})
        with np.load(self.at("out.npz")) as out:
            return [out[k].tobytes() for k in out.files]


class GnaSim(Target):
    device = "gna_sim"

    def test_dense(self):
        for profile in ("gna1", "gna2", "gna3"):
            report = self.prove("ae_mnist100", f", profile: {profile}", calibration=64)
            self.assertEqual(report["coverage"]["float_nodes"], 0)
        report = self.prove("ae_mnist100", ", preset: accuracy", calibration=64)
        self.assertEqual({q["bits"] for q in report["quantizers"] if q["kind"] != "bias"}, {16})

    def test_recurrent(self):
        config, *_ = self.network_config("gru_spoken_digits", target=f"{{device: {self.device}}}")
        out = self.quantize(config)
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertGreaterEqual(report["evaluation"]["quantized"], report["evaluation"]["float"] - 0.005)
        self.assertEqual(report["evaluation"]["saturations"], {})
        self.assertEqual(self.json("verify", out, "--samples", "3")["mismatches"], 0)
        # What QDQ can't say is measured, and the file says so.
        (plain,) = report["exports"]
        self.assertGreater(min(d["sqnr_db"] for d in plain["preview"]["outputs"].values()), 30)
        self.assertIn(b"quern.qdq_preview", common.read(os.path.join(out, "model.onnx")))

    def test_denoiser(self):
        folder = os.path.join(common.MODELS, "dtln_denoise")
        if not os.path.isdir(folder):
            self.skipTest("the shared network dtln_denoise is not beside the project")
        for stage, names in {1: ("input_2", "input_3"), 2: ("input_4", "input_5")}.items():
            files = ", ".join(f"{n}: {os.path.join(folder, f'calib_m{stage}_{n}.npy')}" for n in names)
            config = self.at(f"stage{stage}.yaml")
            common.write(config, f"quern: 1\nmodel: {os.path.join(folder, f'model_{stage}.onnx')}\ntarget: {{device: {self.device}}}\n"
                                 f"data:\n  calibration: {{reader: npy, inputs: {{{files}}}, samples: 64}}\noutput: out{stage}\n")
            out = self.quantize(config, None)
            report = common.read_json(os.path.join(out, "report.json"))
            for output, db in report["evaluation"]["sqnr_db"].items():
                self.assertGreaterEqual(db, 30, output)
            proof = self.json("verify", out, "--samples", "8")
            self.assertEqual(proof["mismatches"], 0)
            self.assertGreaterEqual(proof["coverage_macs"], 0.95)


if __name__ == "__main__":
    common.main()
