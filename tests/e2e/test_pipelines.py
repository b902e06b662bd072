"""The pipelines of configs/models: each quantizes and evaluates its network for cpu, and its float metric is the network's own."""
import os
import re
import subprocess
import sys
import unittest

import common

PIPELINES = os.path.join(common.SOURCE, "configs", "models")


class Pipelines(common.Case):
    def setUp(self):
        super().setUp()
        if not os.path.isdir(common.MODELS):
            self.skipTest("the shared networks are not beside the project")
        for name in os.listdir(common.MODELS):
            os.symlink(os.path.join(common.MODELS, name), self.at(name))

    def own_figure(self, network, word, script="eval.py"):
        """What the network's own script prints after `word`."""
        path = os.path.join(common.MODELS, network, script)
        done = subprocess.run([sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240)
        if done.returncode != 0:
            self.skipTest(f"{path} does not run here: {done.stderr.decode().strip().splitlines()[-1]}")
        return float(re.search(re.escape(word) + r" (-?[0-9.]+)", done.stdout.decode()).group(1))

    def run_pipeline(self, pipeline, *more):
        with open(os.path.join(PIPELINES, pipeline + ".yaml")) as f:
            common.write(self.at(pipeline + ".yaml"), f.read())
        out = self.at("result")
        self.ok("quantize", self.at(pipeline + ".yaml"), "-o", out, *more, timeout=550)
        metric = common.read_json(os.path.join(out, "report.json"))["evaluation"]
        print(pipeline, *more, metric)
        return metric

    def prove(self, pipeline, word, network=None, loss=0.02):
        metric = self.run_pipeline(pipeline)
        # Against the float network itself where there are no labels: the script compares with outputs of another machine's float kernels.
        figure = self.own_figure(network or pipeline, word) if word else 1
        self.assertAlmostEqual(metric["float"], figure, delta=6e-5)
        self.assertGreaterEqual(metric["quantized"], metric["float"] - loss)

    def test_every_network_has_one(self):
        there = {re.search(r"^model: ([^/]+)/", common.read(os.path.join(PIPELINES, f)).decode(), re.M).group(1)
                 for f in os.listdir(PIPELINES) if f.endswith(".yaml")}
        self.assertEqual(there, {n for n in os.listdir(common.MODELS) if os.path.isdir(os.path.join(common.MODELS, n))})

    def test_kws_dscnn(self):
        self.prove("kws_dscnn", "top1")

    def test_mnv2_signs(self):
        self.prove("mnv2_signs", "top1")

    def test_mnv2_signs_stretched(self):
        self.prove("mnv2_signs_stretched", "top1", "mnv2_signs")

    def test_vww_mobilenetv1(self):
        self.prove("vww_mobilenetv1", None)

    def test_fastestdet_coco(self):
        self.prove("fastestdet_coco", None, loss=0.2)

    def test_unet_nuclei(self):
        self.prove("unet_nuclei", "dice")

    def test_tinyvit_mnist(self):
        self.prove("tinyvit_mnist", "top1")

    def test_gru_spoken_digits(self):
        self.prove("gru_spoken_digits", "top1")

    def test_ae_mnist100(self):
        self.prove("ae_mnist100", "auc")

    def test_dtln(self):
        for i in (1, 2):
            self.assertGreater(self.run_pipeline(f"dtln_model_{i}")["quantized"], 15)

    def test_other_targets(self):
        self.run_pipeline("kws_dscnn", "--target", "vpu_sim")
        self.run_pipeline("ae_mnist100", "--target", "gna_sim")


if __name__ == "__main__":
    common.main()
