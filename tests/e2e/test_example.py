"""The embedded example from end to end: files, repeatability, proof, accuracy, and the package read by other people's code."""
import json
import os
import subprocess
import sys
import unittest

import numpy as np

import common

READER = os.path.join(common.SOURCE, "tests", "integer", "package_reader.py")


def comparable(folder, configuration=True):
    """Everything that must be the same in two runs: all bytes, the report less its timing."""
    files = common.tree(folder)
    report = common.read_json(os.path.join(folder, "report.json"))
    report.pop("timing")
    files["report.json"] = json.dumps(report)
    if not configuration:
        files.pop("effective.yaml")
    return files


class Example(common.Case):
    def test_quantize_writes_what_the_page_says(self):
        out = self.quantize()
        self.assertEqual(sorted(common.tree(out)), common.RESULT)
        report = common.read_json(os.path.join(out, "report.json"))
        self.assertEqual(report["coverage"]["macs"], 1)
        self.assertEqual(report["coverage"]["float_nodes"], 0)
        self.assertIn("timing", report)
        for output in report["rewrite"]["outputs"]:
            self.assertLessEqual(output["max_difference"], 1e-4 * output["max_value"])
        self.nothing_half_written(self.folder)

    def test_same_bytes_for_any_threads_and_any_run(self):
        first = self.quantize(common.CONFIG, self.at("a"), "--threads", "1")
        for name, threads in (("b", "2"), ("c", "1"), ("d", "5")):
            other = self.quantize(common.CONFIG, self.at(name), "--threads", threads)
            # The number of threads itself stands in effective.yaml only where the configuration states it.
            self.assertEqual(comparable(first), comparable(other), f"--threads {threads}")

    def test_the_effective_configuration_runs_again_to_the_same_bytes(self):
        out = self.quantize()
        before = comparable(out)
        elsewhere = self.quantize(os.path.join(out, "effective.yaml"), self.at("deeper", "again"))
        self.assertEqual({k: v for k, v in before.items() if k != "effective.yaml"}, comparable(elsewhere, configuration=False))
        self.ok("quantize", os.path.join(out, "effective.yaml"))  # in place: its output is its own folder
        self.assertEqual(before, comparable(out))
        self.nothing_half_written(self.folder)

    def test_verify_finds_no_difference(self):
        out = self.quantize()
        proof = self.json("verify", out)
        self.assertEqual(list(proof), ["tensors", "elements", "mismatches", "saturations", "coverage_nodes", "coverage_macs", "first"])
        self.assertEqual((proof["mismatches"], proof["first"]), (0, None))
        self.assertEqual((proof["coverage_nodes"], proof["coverage_macs"]), (1, 1))
        self.assertGreater(proof["tensors"], 8)
        fewer = self.json("verify", out, "--samples", "5", "--threads", "1")
        self.assertEqual(fewer["elements"] * 100, proof["elements"])

    def test_evaluate_three_ways(self):
        out = self.quantize()
        value = {}
        for kind in ("float", "simulated", "integer"):
            e = self.json("evaluate", common.CONFIG, "--model", out, "--as", kind)
            self.assertEqual(list(e), ["metric", "value", "samples", "seconds"] + (["saturations"] if kind != "float" else []))
            self.assertEqual((e["metric"], e["samples"]), ("top1", 500))
            value[kind] = e["value"]
        print("top1", value)
        self.assertEqual(value["simulated"], value["integer"])
        self.assertGreater(value["float"], 0.97)
        self.assertGreaterEqual(value["integer"], value["float"] - 0.02)
        report = common.read_json(os.path.join(out, "report.json"))["evaluation"]
        self.assertEqual((report["float"], report["quantized"]), (value["float"], value["integer"]))

    def test_verify_refuses_to_prove_nothing(self):
        out = self.quantize()
        self.failure(8, ["--min-coverage"], "verify", self.without_integers(["Conv", "Gemm"]))
        self.failure(8, ["nothing was compared"], "verify", self.without_integers(None), "--min-coverage", "0")
        code, _, err = common.quern("verify", out, "--samples", "0")
        self.assertEqual(code, 2, err)
        self.assertIn("--samples", err)

    def without_integers(self, operations):
        """The example with these operators left in float (None: all)."""
        if operations is None:
            operations = list(self.json("inspect", os.path.join(common.EXAMPLE, "digits.onnx"))["operators"])
        return self.quantize(common.CONFIG, self.at("float"), "--set", "pipeline=[quantize]", "--set",
                             f"pipeline.quantize.ignored={{operations: [{', '.join(operations)}]}}")

    def test_the_package_says_all_that_is_needed(self):
        """Some lines of numpy recompute every integer from the package alone."""
        out = self.quantize()
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            x = data["x_eval"][:100]
        np.savez(self.at("in.npz"), image=x)
        subprocess.run([sys.executable, "-B", READER, os.path.join(out, "package"), self.at("in.npz"), self.at("read.npz"), "--all"], check=True)
        inner = [v["name"] for v in common.read_json(os.path.join(out, "package", "index.json"))["values"] if v["name"].endswith("_quantized")]
        taps = [word for name in inner for word in ("--tap", name)]
        self.assertGreater(len(inner), 8)
        with np.load(self.at("read.npz")) as read:
            for kind in ("simulated", "integer"):
                computed = self.outputs(out, x, kind, "image", *taps)
                self.assertEqual(sorted(computed), sorted(inner + ["logits"]))
                for name, value in computed.items():
                    self.assertEqual((value.dtype, value.shape), (read[name].dtype, read[name].shape), name)
                    self.assertEqual(value.tobytes(), read[name].tobytes(), f"{name}, {kind}")


if __name__ == "__main__":
    common.main()
