"""Model files that are broken, hostile or unknown: one clear error with the right code, and nothing written."""
import os
import random
import unittest

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    onnx = None

import common

MODEL = os.path.join(common.EXAMPLE, "digits.onnx")


def network(nodes, initializers=(), inputs=None, outputs=("y",)):
    info = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", [info(n) for n in (inputs or ["x"])], [info(n) for n in outputs], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


class Models(common.Case):
    def refused(self, content, words=("model.onnx",), code=4, run=True):
        """By every verb that reads models."""
        file = self.at("model.onnx")
        if content is not None:
            common.write(file, content if isinstance(content, bytes) else content.SerializeToString())
        np.savez(self.at("in.npz"), x=np.zeros((1, 4), np.float32))
        np.savez(self.at("data.npz"), x=np.ones((4, 4), np.float32))
        common.write(self.at("config.yaml"), "quern: 1\nmodel: model.onnx\ntarget: {device: cpu}\ndata:\n"
                                             "  calibration: {reader: npz, path: data.npz, inputs: {x: x}}\noutput: new/out\n")
        said = self.failure(code, words, "quantize", self.at("config.yaml"))
        if run:
            self.failure(code, words, "run", file, "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"))
            self.failure(code, words, "inspect", file)
        return said

    def test_no_model(self):
        whole, chance = common.read(MODEL), random.Random(3)
        for content in (b"", whole[:len(whole) // 2], whole[:100], whole[:-1], chance.randbytes(5000), b"PK\x03\x04", b"\xff" * 64, b"quern: 1\n",
                        b"<html>", b"\x0a" + b"\xff" * 9 + b"\x01"):
            with self.subTest(content[:20]):
                self.refused(content)

    def test_no_file(self):
        self.refused(None, ["model.onnx"], (3, 4, 7))
        os.mkdir(self.at("model.onnx"))
        self.failure((3, 4, 7), ["model.onnx"], "quantize", self.at("config.yaml"))
        os.rmdir(self.at("model.onnx"))
        os.mkfifo(self.at("model.onnx"))
        code, _, err = common.quern("inspect", self.at("model.onnx"), timeout=20)  # does not wait for a writer
        self.assertIn(code, (4, 7), err)

    @unittest.skipIf(onnx is None, "this Python lacks onnx")
    def test_external_data(self):
        weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "multiply")]

        def outside(location, **more):
            w = onnx.TensorProto()
            w.CopyFrom(weights)
            w.ClearField("raw_data")
            w.data_location = TensorProto.EXTERNAL
            for key, value in dict(location=location, **more).items():
                w.external_data.add(key=key, value=str(value))
            return network(nodes, [w])
        common.write(self.at("w.bin"), np.ones((4, 4), np.float32).tobytes())
        os.mkdir(self.at("folder"))
        secret = common.tempfile.NamedTemporaryFile(suffix=".bin")
        self.addCleanup(secret.close)
        secret.write(b"\0" * 64)
        secret.flush()
        os.symlink(secret.name, self.at("link.bin"))
        common.write(self.at("model.onnx"), outside("w.bin").SerializeToString())
        self.ok("inspect", self.at("model.onnx"))
        self.refused(outside("absent.bin"), ["absent.bin"], (4, 7))
        for location in (secret.name, "../" + os.path.relpath(secret.name, os.path.dirname(self.folder)), "folder/../../x.bin", "link.bin", "folder", "", "/dev/zero"):
            with self.subTest(location):
                self.refused(outside(location), ["model.onnx" if not location else os.path.basename(location)], (4, 7))
        for more in (dict(offset=60), dict(offset=-4), dict(length=1 << 40), dict(offset="x"), dict(length=-1), dict(offset=1 << 63)):
            with self.subTest(more):
                self.refused(outside("w.bin", **more), [], 4)

    @unittest.skipIf(onnx is None, "this Python lacks onnx")
    def test_graphs_that_are_none(self):
        node = helper.make_node
        w = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
        huge = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20, 1 << 20], raw_data=b"\0" * 64)
        short = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], raw_data=b"\0" * 8)
        cases = {
            "cycle": (network([node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two"), node("Relu", ["b"], ["y"], "three")]), []),
            "own output": (network([node("Add", ["x", "y"], ["y"], "one")]), ["one"]),
            "nobody makes it": (network([node("Add", ["x", "nothing"], ["y"], "one")]), ["nothing"]),
            "made twice": (network([node("Relu", ["x"], ["y"], "one"), node("Relu", ["x"], ["y"], "two")]), ["y"]),
            "output of nobody": (network([node("Relu", ["x"], ["z"], "one")]), ["y"]),
            "huge": (network([node("MatMul", ["x", "w"], ["y"], "one")], [huge]), ["w"]),
            "short": (network([node("MatMul", ["x", "w"], ["y"], "one")], [short]), ["w"]),
            "twice an initializer": (network([node("MatMul", ["x", "w"], ["y"], "one")], [w, w]), ["w"]),
            "shapes that do not fit": (network([node("MatMul", ["x", "v"], ["y"], "one")], [numpy_helper.from_array(np.ones((5, 4), np.float32), "v")]), ["one"]),
            "no input": (network([node("Relu", [], ["y"], "one")]), ["one"]),
            "opset of tomorrow": (network([node("Relu", ["x"], ["y"], "one")]), ["999"]),
        }
        cases["opset of tomorrow"][0].opset_import[0].version = 999
        for name, (model, words) in cases.items():
            with self.subTest(name):
                self.refused(model, words, run=name != "shapes that do not fit")

    @unittest.skipIf(onnx is None, "this Python lacks onnx")
    def test_an_unknown_operator_is_named(self):
        for domain in ("", "com.example"):
            model = network([helper.make_node("Relu", ["x"], ["a"], "one"), helper.make_node("Teleport", ["a"], ["y"], "the_node", domain=domain)])
            if domain:
                model.opset_import.append(helper.make_opsetid(domain, 1))
            with self.subTest(domain):
                said = self.refused(model, ["Teleport", "the_node"], run=False)
                self.failure(4, ["Teleport", "the_node"], "run", self.at("model.onnx"), "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"))
                self.assertIn("export the model with other operators", said)

    def test_random_changes_never_crash(self):
        """Seeded: a few bytes of the example's file get other values. QUERN_E2E_CHANGES: how many files (default 25)."""
        chance, outcomes = random.Random(int(os.environ.get("QUERN_E2E_SEED", "1"))), {}
        np.savez(self.at("in.npz"), image=np.zeros((1, 1, 8, 8), np.float32))
        whole = common.read(MODEL)
        # Most bytes are weights; the structure stands where names are.
        text = [i for i in range(len(whole) - 8) if whole[i:i + 4].isalnum()]
        for number in range(int(os.environ.get("QUERN_E2E_CHANGES", "25"))):
            content = bytearray(whole)
            for _ in range(chance.choice([1, 1, 3, 20])):
                at = min(len(whole) - 1, max(0, chance.choice(text) + chance.randint(-6, 6)))
                content[at] = chance.choice([content[at] ^ 1 << chance.randrange(8), 0, 255, 128, 127, chance.randrange(256)])
            common.write(self.at("model.onnx"), bytes(content))
            code, _, err = common.quern("run", self.at("model.onnx"), "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"), timeout=60)
            outcomes[code] = outcomes.get(code, 0) + 1
            self.assertIn(code, (0, 4, 5, 7), f"{number}: {err}")
        print("exit codes:", dict(sorted(outcomes.items())))


if __name__ == "__main__":
    common.main()
