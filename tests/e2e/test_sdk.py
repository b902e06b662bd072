"""The SDK in the hands of a vendor: everything installed to a new prefix, `quern new`, the page docs/add-a-target.md followed word for word, and
the examples built and used. Nothing of the sources is near but the example's model and data."""
import os
import re
import shutil
import subprocess
import unittest

import numpy as np

import common

EXAMPLES = os.path.join(common.SOURCE, "sdk", "examples")


def blocks(page):
    """(language, file or None, text) of every fenced block."""
    with open(os.path.join(common.SOURCE, "docs", page)) as f:
        text = f.read()
    return [(m[1], m[2], m[3]) for m in re.finditer(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", text, re.S | re.M)]


class Sdk(common.Case):
    @classmethod
    def setUpClass(cls):
        cls.cmake = shutil.which("cmake")
        cls.prefix = os.path.join(common.tempfile.mkdtemp(prefix="quern-sdk-"), "prefix")
        cls.addClassCleanup(shutil.rmtree, os.path.dirname(cls.prefix), ignore_errors=True)
        cls.failure_text = ""
        if cls.cmake and os.path.exists(common.QUERN):
            done = subprocess.run([cls.cmake, "--install", common.BUILD, "--prefix", cls.prefix], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            cls.failure_text = "" if done.returncode == 0 else done.stdout.decode()

    def setUp(self):
        super().setUp()
        if not self.cmake:
            self.skipTest("there is no cmake")
        self.assertEqual(self.failure_text, "")
        self.env = common.environment(PATH=os.path.join(self.prefix, "bin") + os.pathsep + os.environ["PATH"], PREFIX=self.prefix, CONFIG=common.CONFIG,
                                      XDG_CACHE_HOME=self.at("cache"))

    def shell(self, script, code=0):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=240)
        self.assertEqual(done.returncode, code, f"{script}\n{done.stdout.decode()}")
        return done.stdout.decode()

    def build(self, example):
        source = self.at(example)
        shutil.copytree(os.path.join(EXAMPLES, example), source)
        self.shell(f'cmake -S {example} -B {example}/build -DCMAKE_PREFIX_PATH="$PREFIX" -DCMAKE_BUILD_TYPE=Release && cmake --build {example}/build')
        return os.path.join(source, "build", [f for f in os.listdir(os.path.join(source, "build")) if f.endswith(".so")][0])

    def test_the_page_about_targets(self):
        said = ""
        for language, file, text in blocks("add-a-target.md"):
            if file:
                common.write(self.at(file), text)
            elif language == "sh":
                said = self.shell(text)
        self.assertIn("0 mismatches", said)
        # What the reader has now is the example; what was written by hand is short.
        hand = 0
        for name in ("rules.json", "conv.hpp"):
            mine = common.read(self.at("my_npu", name)).decode()
            hand += len(mine.splitlines())
            self.assertEqual(mine.replace("my_npu", "shift_npu"), common.read(os.path.join(EXAMPLES, "shift_npu", name)).decode(), name)
        same = lambda text: [line for line in text.replace("my_npu", "shift_npu").splitlines() if not line.startswith("//") and line.strip()]
        self.assertEqual(same(common.read(self.at("my_npu", "my_npu.cpp")).decode()), same(common.read(os.path.join(EXAMPLES, "shift_npu", "shift_npu.cpp")).decode()))
        self.assertLess(hand, 200)
        # A planted fault is found.
        self.shell("sed -i 's/(v + (int64_t{1} << (shift - 1))) >> shift/v >> shift/' my_npu/my_npu.cpp && cmake --build my_npu/build")
        self.assertIn("differ", self.shell("quern verify out --plugin my_npu/build/my_npu.so --samples 2", code=8))

    def test_new_algorithm(self):
        self.shell('quern new algorithm my_range && cmake -S my_range -B my_range/build -DCMAKE_PREFIX_PATH="$PREFIX" && cmake --build my_range/build')
        listing = self.shell("quern plugins --plugin my_range/build/my_range.so")
        self.assertRegex(listing, r"usable +my_range/build/my_range.so")
        self.shell("quern quantize $CONFIG --plugin my_range/build/my_range.so --set pipeline.quantize.activations.range=my_range -o out --skip-evaluation")

    def test_new_refuses(self):
        for arguments, words in (("targt x", "did you mean 'target'"), ("target X", "can't be a name"), ("target 9x", "can't be a name")):
            self.assertIn(words, self.shell(f"quern new {arguments}", code=2))
        os.mkdir(self.at("there"))
        self.assertIn("is there already", self.shell("quern new target there", code=2))
        self.assertEqual(os.listdir(self.at("there")), [])

    def test_percentile_calibrator(self):
        plugin = self.build("percentile")
        self.shell(f"quern quantize $CONFIG --plugin {plugin} --set 'pipeline.quantize.activations.range={{estimator: mean_percentile, percentile: 0.999}}' -o out --skip-evaluation")
        self.assertIn("mean_percentile", common.read(self.at("out", "effective.yaml")).decode())

    def csv(self, name, x, y=None):
        with open(self.at(name), "w") as f:
            for i, row in enumerate(x.reshape(len(x), -1)):
                f.write(",".join(([str(int(y[i]))] if y is not None else []) + [repr(float(v)) for v in row]) + "\n")

    def test_reader_and_metric(self):
        plugin = self.build("data")
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            arrays = {k: data[k] for k in data.files}
        text = common.read(common.CONFIG).decode()
        calibration = arrays[re.search(r"image: (\w*calib\w*)", text)[1]].astype(np.float32)
        evaluation = arrays[re.search(r"image: (\w*(?:eval|test)\w*)", text)[1]].astype(np.float32)
        labels = arrays[re.search(r"labels: (\w+)", text)[1]]
        self.csv("calib.csv", calibration[:40])
        self.csv("eval.csv", evaluation[:60], labels)
        np.savez(self.at("data.npz"), c=calibration[:40], e=evaluation[:60], y=labels[:60])
        preprocess = re.search(r"preprocess: \{[^}]*\}", text)
        more = ", " + preprocess[0] if preprocess else ""
        head = f"quern: 1\nmodel: {os.path.join(common.EXAMPLE, 'digits.onnx')}\n"
        common.write(self.at("csv.yaml"), head + f"data:\n  calibration: {{reader: csv_rows, path: calib.csv{more}}}\n"
                     f"  evaluation: {{reader: csv_rows, path: eval.csv, labels: true{more}}}\nmetric: mean_reciprocal_rank\n")
        common.write(self.at("npz.yaml"), head + f"data:\n  calibration: {{reader: npz, path: data.npz, inputs: {{image: c}}{more}}}\n"
                     f"  evaluation: {{reader: npz, path: data.npz, inputs: {{image: e}}, labels: y{more}}}\nmetric: top1\n")
        self.shell(f"quern quantize csv.yaml --plugin {plugin} -o csv && quern quantize npz.yaml -o npz")
        self.assertEqual(common.read(self.at("csv", "package", "data.bin")), common.read(self.at("npz", "package", "data.bin")))
        rank = common.read_json(self.at("csv", "report.json"))["evaluation"]
        top1 = common.read_json(self.at("npz", "report.json"))["evaluation"]
        self.assertEqual(rank["metric"], "mean_reciprocal_rank")
        self.assertGreaterEqual(rank["quantized"], top1["quantized"])
        self.assertEqual(rank["sqnr_db"], top1["sqnr_db"])
        # From elsewhere, and again from the effective configuration.
        self.shell(f"cd / && quern quantize {self.at('csv', 'effective.yaml')} --plugin {plugin} -o {self.at('again')} && quern verify {self.at('again')} --plugin {plugin}")
        self.assertEqual(common.read(self.at("again", "package", "index.json")), common.read(self.at("csv", "package", "index.json")))
        # Mistakes.
        for change, code, words in (("calib.csv", 5, ["nowhere.csv", "can't be opened"]), ("path: calib", 3, ["pth", "path"]), ("mean_reciprocal_rank", 3, ["mean_reciprocal_rang", "did you mean"]),
                                    ("csv_rows, path: calib", 3, ["csv_row'", "did you mean 'csv_rows'"])):
            wrong = {"calib.csv": "nowhere.csv", "path: calib": "pth: calib", "mean_reciprocal_rank": "mean_reciprocal_rang", "csv_rows, path: calib": "csv_row, path: calib"}[change]
            common.write(self.at("bad.yaml"), common.read(self.at("csv.yaml")).decode().replace(change, wrong, 1))
            said = self.shell(f"quern quantize bad.yaml --plugin {plugin} -o bad", code=code)
            for word in words:
                self.assertIn(word, said)
            self.assertFalse(os.path.exists(self.at("bad")))
        for line, words in (("1,2,3", "numbers; the network takes"), ("a,b", "is no number"), ("nan", "is no number")):
            common.write(self.at("calib.csv"), line + "\n")
            self.assertIn(words, self.shell(f"quern quantize csv.yaml --plugin {plugin} -o bad", code=5))


if __name__ == "__main__":
    common.main()
