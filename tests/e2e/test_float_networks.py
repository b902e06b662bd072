"""Every shared network that needs no recurrent operator runs in float equal to ONNX Runtime: max|a-b| <= 1e-4 max|b|.

ONNX Runtime computes the graph as it stands (no optimizations): version 1.20 folds a Pad into the AveragePool behind it, which then leaves the
padding out of its means, and gives fastestdet_coco other results than its own unoptimized run."""
import os
import unittest

import numpy as np

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

import common


@unittest.skipIf(onnxruntime is None, "this Python lacks onnxruntime")
class FloatNetworks(common.Case):
    def compare(self, network, model="model.onnx", samples=4):
        found = common.shared(network)
        if found is None:
            self.skipTest(f"the shared network {network} is not beside the project")
        _, x, _, name = found
        path = os.path.join(common.MODELS, network, model)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names, rank = [o.name for o in session.get_outputs()], len(session.get_inputs()[0].shape)
        for row in x[:samples]:
            fed = row if row.ndim == rank else row[None]
            np.savez(self.at("in.npz"), **{name: fed})
            self.ok("run", path, "--inputs", self.at("in.npz"), "--as", "float", "--outputs", self.at("out.npz"))
            with np.load(self.at("out.npz")) as ours:
                for output, theirs in zip(names, session.run(None, {name: fed})):
                    self.assertEqual(ours[output].shape, theirs.shape)
                    self.assertLessEqual(np.abs(ours[output] - theirs).max(), 1e-4 * np.abs(theirs).max(), output)

    def test_ae_mnist100(self):
        self.compare("ae_mnist100", samples=16)

    def test_fastestdet_coco(self):
        self.compare("fastestdet_coco")

    def test_kws_dscnn(self):
        self.compare("kws_dscnn", samples=16)

    def test_mnv2_signs(self):
        self.compare("mnv2_signs")
        self.compare("mnv2_signs", "model_stretched.onnx")

    def test_tinyvit_mnist(self):
        self.compare("tinyvit_mnist", samples=16)

    def test_unet_nuclei(self):
        self.compare("unet_nuclei")

    def test_vww_mobilenetv1(self):
        self.compare("vww_mobilenetv1")


if __name__ == "__main__":
    common.main()
