"""`quern run` as a door for other people's tools: named arrays in, named arrays out, taps, samples along axis 0."""
import os
import unittest

import numpy as np

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

import common

MODEL = os.path.join(common.EXAMPLE, "digits.onnx")


class Run(common.Case):
    def setUp(self):
        super().setUp()
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            self.x = data["x_eval"][:40]

    def run_model(self, x, *more, model=MODEL, kind="float"):
        np.savez(self.at("in.npz"), image=x)
        self.ok("run", model, "--inputs", self.at("in.npz"), "--outputs", self.at("out.npz"), "--as", kind, *more)
        with np.load(self.at("out.npz")) as out:
            return {k: out[k] for k in out.files}

    def test_a_batch_and_each_sample(self):
        batch = self.run_model(self.x)
        self.assertEqual(list(batch), ["logits"])
        self.assertEqual(batch["logits"].shape, (40, 10))
        each = self.run_model(self.x, "--each")["logits"]
        self.assertLessEqual(np.abs(each - batch["logits"]).max(), 1e-4 * np.abs(each).max())
        for k in (0, 17, 39):  # the same bytes as a run of that sample alone, whatever the threads
            self.assertEqual(self.run_model(self.x[k:k + 1])["logits"].tobytes(), each[k].tobytes())
        self.assertEqual(self.run_model(self.x, "--each", "--threads", "1")["logits"].tobytes(), each.tobytes())
        self.assertEqual(self.run_model(self.x, "--each", "--threads", "3")["logits"].tobytes(), each.tobytes())
        # Rows of the input's whole rank are fed as they are, and the outputs keep their axes.
        self.assertEqual(self.run_model(self.x.reshape(8, 5, 1, 8, 8), "--each")["logits"].shape, (8, 5, 10))

    def test_integers_do_not_depend_on_the_batch(self):
        out = self.quantize()
        each = self.run_model(self.x, "--each", model=out, kind="integer")["logits"]
        for kind in ("integer", "simulated"):
            for more in ([], ["--threads", "2"], ["--each", "--threads", "2"]):
                self.assertEqual(self.run_model(self.x, *more, model=out, kind=kind)["logits"].tobytes(), each.tobytes(), (kind, more))

    def test_taps(self):
        # The network's own tensors: also one that the rewriting would fold away.
        tensors = [name for node in self.json("inspect", MODEL)["nodes"] for name in node["outputs"]]
        inner = [tensors[1], tensors[len(tensors) // 2]]
        out = self.run_model(self.x, "--each", "--tap", inner[0], "--tap", inner[1])
        self.assertEqual(sorted(out), sorted(["logits", *inner]))
        for name in inner:
            self.assertEqual(len(out[name]), 40)
        self.assertEqual(self.run_model(self.x, "--tap", "logits").keys(), {"logits"})
        self.assertEqual(self.run_model(self.x, "--tap", "image")["image"].tobytes(), self.x.tobytes())

    @unittest.skipIf(onnxruntime is None, "this Python lacks onnxruntime")
    def test_float_taps_are_those_of_onnxruntime(self):
        import onnx
        model = onnx.load(MODEL)
        names = [o for n in model.graph.node for o in n.output][:-1]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        theirs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": self.x})))
        ours = self.run_model(self.x, *[w for n in names for w in ("--tap", n)])
        self.assertEqual(sorted(ours), sorted(theirs))
        for name, value in theirs.items():
            self.assertEqual(ours[name].shape, value.shape, name)
            self.assertLessEqual(np.abs(ours[name] - value).max(), 1e-4 * np.abs(value).max(), name)

    def test_the_written_onnx_file_runs_too(self):
        """QDQ is defined in float: equal to the integers but for a rounding here and there."""
        out = self.quantize()
        qdq = self.run_model(self.x, "--each", model=os.path.join(out, "model.onnx"))["logits"]
        integer = self.run_model(self.x, "--each", model=out, kind="integer")["logits"]
        self.assertLessEqual(np.abs(qdq - integer).max(), 0.02 * np.abs(integer).max())

    def test_what_does_not_fit(self):
        target = self.at("out.npz")

        def refused(code, words, arrays, *more, model=MODEL):
            np.savez(self.at("in.npz"), **arrays)
            self.failure(code, words, "run", model, "--inputs", self.at("in.npz"), "--outputs", target, *more)
        refused(5, ["imag", "did you mean 'image'"], {"imag": self.x})
        refused(5, ["'image'"], {})
        refused(5, ["image"], {"image": self.x[:, 0]})
        refused(5, ["image"], {"image": self.x[:, :, :7]})
        refused(5, ["image"], {"image": self.x.astype(np.float64)})
        refused(5, ["no sample"], {"image": self.x[:0]}, "--each")
        refused(5, ["image"], {"image": np.float32(1)}, "--each")
        refused(2, ["--tap", "nothing"], {"image": self.x}, "--tap", "nothing")
        refused(2, ["folder"], {"image": self.x}, "--as", "integer")
        refused(2, ["effective.yaml"], {"image": self.x}, model=self.folder)
        np.savez(self.at("in.npz"), image=self.x)
        self.failure(7, ["absent"], "run", MODEL, "--inputs", self.at("in.npz"), "--outputs", self.at("absent", "out.npz"))
        common.write(self.at("in.npz"), b"PK\x03\x04 no archive")
        self.failure(5, ["in.npz"], "run", MODEL, "--inputs", self.at("in.npz"), "--outputs", target)


if __name__ == "__main__":
    common.main()
