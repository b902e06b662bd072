"""Odd places, odd inputs and several at once: each one clear error, or the right result; never a hang."""
import os
import resource
import socket
import subprocess
import unittest

import numpy as np

import common

DIGITS = os.path.join(common.EXAMPLE, "digits.onnx")
FEW = ["--set", "data.calibration.samples=4", "--set", "data.evaluation.samples=4"]


class Odd(common.Case):
    def standard_output(self, *arguments, **more):
        return subprocess.run([common.QUERN, *map(str, arguments)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=common.environment(), timeout=60, **more)

    def test_standard_output_is_closed(self):
        """A result that can't be told is an error; files that were to be written are there, and nothing else has become one's content."""
        closed = lambda: os.close(1)
        done = self.standard_output("inspect", DIGITS, preexec_fn=closed)
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn(b"standard output", done.stderr)
        done = self.standard_output("quantize", common.CONFIG, "-o", self.at("out"), *FEW, preexec_fn=closed)
        self.assertEqual(done.returncode, 7, done.stderr)
        plain = self.quantize(common.CONFIG, self.at("plain"), *FEW)
        left, right = common.tree(self.at("out")), common.tree(plain)
        left.pop("report.json"), right.pop("report.json")
        self.assertEqual(left, right)

    def test_all_is_closed(self):
        done = subprocess.run([common.QUERN, "quantize", common.CONFIG, "-o", self.at("out"), *FEW], env=common.environment(), timeout=60,
                              preexec_fn=lambda: os.closerange(0, 3))
        self.assertEqual(done.returncode, 7)
        plain = self.quantize(common.CONFIG, self.at("plain"), *FEW)
        left, right = common.tree(self.at("out")), common.tree(plain)
        left.pop("report.json"), right.pop("report.json")
        self.assertEqual(left, right)

    def test_a_reader_that_goes_away(self):
        process = subprocess.Popen([common.QUERN, "inspect", DIGITS, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=common.environment())
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(timeout=60), 0)

    def test_full_standard_error(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("this machine has no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run([common.QUERN, "quantize", common.CONFIG, "-o", self.at("out"), *FEW], stdout=subprocess.DEVNULL, stderr=full,
                                  env=common.environment(), timeout=60)
        self.assertEqual(done.returncode, 0)  # progress that can't be shown is no error

    def config(self, folder, model="m.onnx", data="d.npz"):
        config = os.path.join(os.fsencode(folder), b"c.yaml")
        with open(config, "wb") as f:
            f.write(b"quern: 1\nmodel: %s\ntarget: {device: cpu}\ndata:\n  calibration: {reader: npz, path: %s, inputs: {image: x_calib}, samples: 4}\n"
                    % (model.encode(), data.encode()))
        return config

    def filled(self, folder):
        os.makedirs(folder)
        for name, to in (("digits.onnx", b"m.onnx"), ("data.npz", b"d.npz")):
            common.write(os.path.join(os.fsencode(folder), to), common.read(os.path.join(common.EXAMPLE, name)))
        return self.config(folder)

    def test_names_that_are_no_text(self):
        """Linux takes any bytes as a name. The command does, too, and its messages show them in some way."""
        for name in (b"\xff\xfe", b"new\nline", b"tab\tand 'quote\" $HOME *", "caf\u00e9 \u6570".encode(), b"-o", b" "):
            folder = os.path.join(os.fsencode(self.folder), b"x" + name if name == b"-o" else name)
            config = self.filled(folder)
            out = os.path.join(folder, b"out")
            run = lambda *a: subprocess.run([os.fsencode(common.QUERN), *a], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                            env=common.environment(), timeout=60)
            done = run(b"quantize", config, b"-o", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sorted(common.tree(os.fsdecode(out))), common.RESULT)
            done = run(b"verify", out, b"--samples", b"1")
            if done.returncode == 6 and b"can't run its profile" in done.stderr:
                continue
            self.assertEqual(done.returncode, 0, done.stderr)
            done = run(b"inspect", os.path.join(folder, b"nothing"))
            self.assertEqual(done.returncode, 4, done.stderr)

    def test_long_names(self):
        long = "a" * 255
        self.filled(self.at(long))
        self.failure(7, ["too long"], "quantize", os.path.join(self.at(long), "c.yaml"), "-o", self.at("b" * 256))
        deep = self.folder
        while len(deep) < 5000:
            deep = os.path.join(deep, "d" * 200)
        self.failure(7, ["too long"], "quantize", common.CONFIG, "-o", deep)
        self.failure((3, 7), ["too long"], "quantize", os.path.join(deep, "c.yaml"), "-o", self.at("out"))
        self.failure((4, 7), [], "inspect", deep)

    def test_inputs_that_are_no_files(self):
        pipe, door = self.at("pipe"), self.at("door")
        os.mkfifo(pipe)
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        try:
            server.bind(door)
        except OSError:  # a path that is too long for a socket
            door = pipe
        np.savez(self.at("in.npz"), image=np.zeros((1, 1, 8, 8), np.float32))
        for place in (pipe, door, "/dev/zero", "/dev/null", self.folder):
            self.failure((3, 7), [], "quantize", place, "-o", self.at("out"))
            self.failure((2, 4, 7), [], "inspect", place)
            self.failure(7, [], "run", DIGITS, "--inputs", place, "--outputs", self.at("o.npz"))
            self.failure(7, [], "run", DIGITS, "--inputs", self.at("in.npz"), "--outputs", place)
            self.failure((5, 7), [], "quantize", common.CONFIG, "-o", self.at("out"), "--set", f"data.calibration.path={place}")
            self.failure((4, 7), [], "quantize", common.CONFIG, "-o", self.at("out"), "--set", f"model={place}")

    def test_loops_of_links(self):
        os.symlink("b", self.at("a"))
        os.symlink("a", self.at("b"))
        os.symlink("nowhere", self.at("c"))
        for name in ("a", "c"):
            self.failure(7, [name], "quantize", common.CONFIG, "-o", self.at(name))
            self.failure((3, 7), [name], "quantize", self.at(name))
            self.failure((4, 7), [name], "inspect", self.at(name))

        self.failure(7, ["a"], "quantize", common.CONFIG, "-o", self.at("a", "out"))

    def test_a_link_to_the_folder(self):
        """The result goes where the link leads; the link stays."""
        os.mkdir(self.at("real"))
        os.symlink("real", self.at("link"))
        self.quantize(common.CONFIG, self.at("link"), *FEW)
        self.assertTrue(os.path.islink(self.at("link")))
        self.assertEqual(sorted(common.tree(self.at("real"))), common.RESULT)

    def test_hostile_texts(self):
        """A mebibyte of brackets, and nesting beyond any use."""
        n = 1 << 20
        texts = {"[": "[" * n, "{": "{" * n, "[ with a key": "quern: " + "[" * (n - 7), "- ": "- " * (n // 2), "? ": "? " * (n // 2), "a: {": "a: {" * (n // 4), "\"": "\"" * n,
                 "&": "".join(f"a{i}: &x{i} [*x{i - 1}, *x{i - 1}]\n" if i else "a0: &x0 [0]\n" for i in range(64)), "tabs": "\t" * n, "zeros": "\0" * n,
                 "high": b"\xff" * n, "beyond the limit": "#" * (n + 1)}
        for name, text in texts.items():
            with self.subTest(name):
                common.write(self.at("c.yaml"), text)
                self.failure((3, 7), ["c.yaml"], "quantize", self.at("c.yaml"), "-o", self.at("out"), timeout=20)
        self.failure((2, 3), [], "quantize", common.CONFIG, "-o", self.at("out"), "--set", "target=" + "[" * 100000, timeout=20)
        self.failure((2, 3), [], "quantize", common.CONFIG, "-o", self.at("out"), "--set", "a." * 50000 + "b=1", timeout=20)

    def test_small_files_with_large_claims(self):
        """A few hundred bytes never take gigabytes or minutes: refused, or left unfolded and refused where they are run."""
        try:
            import onnx
            from onnx import TensorProto, helper, numpy_helper
        except ImportError:
            self.skipTest("the onnx package is not installed")
        whole, real = lambda *v: np.array(v, np.int64), lambda *v: np.array(v, np.float32)
        kernel, image = np.zeros((1, 1, 3, 3), np.float32), [1, 1, 4, 4]
        node = helper.make_node
        filled = [node("ConstantOfShape", ["s"], ["c"]), node("ReduceSum", ["c"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
        ranged = [node("Range", ["a", "b", "d"], ["r"]), node("Cast", ["r"], ["f"], to=1), node("ReduceSum", ["f"], ["q"], keepdims=0), node("Add", ["x", "q"], ["y"])]
        many = [node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(40)] + [node("Sum", [f"c{i}" for i in range(40)], ["c"]), *filled[1:]]
        chain = lambda op, n, width, **a: [node(op, ["x" if i == 0 else f"v{i - 1}"] * width, ["y" if i == n - 1 else f"v{i}"], **a) for i in range(n)]
        cases = {
            "bytes that overflow": (filled, {"s": whole(1 << 31, 1 << 31)}, [2], (4, 9)),
            "elements that overflow": (filled, {"s": whole(1 << 61, 4)}, [2], (4, 9)),
            "many large constants": (many, {"s": whole(1 << 26)}, [2], (4, 9)),
            "Expand": ([node("Expand", ["x", "s"], ["y"])], {"s": whole(1 << 40, 2)}, [2], (4, 9)),
            "Tile": ([node("Tile", ["x", "s"], ["y"])], {"s": whole(1 << 40)}, [2], (4, 9)),
            "Pad": ([node("Pad", ["x", "s"], ["y"])], {"s": whole(1 << 40, 1 << 40)}, [2], (4, 9)),
            "Range": (ranged, {"a": np.int64(-1 << 63), "b": np.int64((1 << 63) - 1), "d": np.int64(1)}, [2], (4, 9)),
            "Resize": ([node("Resize", ["x", "", "s"], ["y"])], {"s": real(1, 1, 1e30, np.nan)}, image, (4, 9)),
            "Conv, pads": ([node("Conv", ["x", "w"], ["y"], pads=[1 << 30] * 4)], {"w": kernel}, image, (4, 9)),
            "Conv, dilations": ([node("Conv", ["x", "w"], ["y"], dilations=[1 << 60] * 2, pads=[1 << 60] * 4)], {"w": kernel}, image, (4,)),
            "ConvTranspose": ([node("ConvTranspose", ["x", "w"], ["y"], strides=[1 << 29] * 2)], {"w": kernel}, image, (4, 9)),
            "OneHot": ([node("Cast", ["x"], ["i"], to=7), node("OneHot", ["i", "d", "v"], ["y"])], {"d": whole(1 << 40), "v": real(0, 1)}, [2], (4, 9)),
            "TopK": ([node("TopK", ["x", "k"], ["y", "i"])], {"k": whole(1 << 40)}, [2], (4,)),
            "GatherND": ([node("GatherND", ["x", "i"], ["y"])], {"i": np.full((1, 1), 1 << 62, np.int64)}, [2], (4, 5)),
            "doubling sixty times": (chain("Concat", 60, 2, axis=0), {}, [2], (4, 9)),
            "a chain of 5,000": (chain("Relu", 5000, 1), {}, [2], (0,)),
            "one of 20,000 inputs": (chain("Concat", 1, 20000, axis=0), {}, [2], (0,)),
        }
        memory = lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        if os.environ.get("QUERN_SANITIZED"):
            del cases["many large constants"]  # 10 GB where memory can't be limited
        for name, (nodes, constants, shape, codes) in cases.items():
            with self.subTest(name):
                graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                                          [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()])
                common.write(self.at("m.onnx"), helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
                np.savez(self.at("x.npz"), x=np.ones(shape, np.float32))
                limits = {} if os.environ.get("QUERN_SANITIZED") else {"preexec_fn": memory}
                for arguments in (["inspect", self.at("m.onnx")], ["run", self.at("m.onnx"), "--inputs", self.at("x.npz"), "--outputs", self.at("y.npz")]):
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    code, _, err = common.quern(*arguments, timeout=60, **limits)
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    self.assertIn(code, codes if arguments[0] == "run" else (0, 4, 9), err)
                    if code:
                        self.assertEqual(err.count("quern: "), 1, err)
                    self.assertLess(after.ru_utime - before.ru_utime, 10)

    def test_two_at_once(self):
        """Into one folder, new and existing: both are done or one says why, and the result is one of the two, whole."""
        for keep in (False, True):
            for round_ in range(4):
                out = self.at(f"out{keep}{'' if keep else round_}")
                both = [subprocess.Popen([common.QUERN, "quantize", common.CONFIG, "-o", out, "--threads", "1", "--set", f"seed={seed}", *FEW], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=common.environment()) for seed in (1, 2, 3)]
                for process in both:
                    err = process.stderr.read().decode()
                    process.stderr.close()
                    self.assertEqual(process.wait(timeout=60), 0, err)
                self.assertEqual(sorted(common.tree(out)), common.RESULT)
                effective = common.read(os.path.join(out, "effective.yaml")).decode()
                seed = next(s for s in (1, 2, 3) if f"seed: {s}\n" in effective)
                alone = self.quantize(common.CONFIG, self.at(f"alone{seed}"), "--set", f"seed={seed}", *FEW)
                left, right = common.tree(out), common.tree(alone)
                for tree in (left, right):
                    tree.pop("report.json"), tree.pop("effective.yaml")  # times and paths
                self.assertEqual(left, right)


if __name__ == "__main__":
    common.main()
