"""Several targets in one run: the data is read once, and each gets what it would get alone."""
import json
import os
import unittest

import common

TARGETS = ["cpu:avx2", "cpu:sse41"]


class Comparison(common.Case):
    def without_timing(self, folder):
        report = common.read_json(os.path.join(folder, "report.json"))
        report.pop("timing")
        return report

    def check(self, folder, names):
        comparison = common.read_json(os.path.join(folder, "comparison.json"))
        self.assertEqual([t["folder"] for t in comparison["targets"]], names)
        for target, name in zip(comparison["targets"], names):
            alone = self.quantize(common.CONFIG, self.at("alone_" + name), "--target", name.replace("_", ":"))
            together = os.path.join(folder, name)
            for file in ("package/data.bin", "package/index.json", "model.onnx"):
                self.assertEqual(common.read(os.path.join(alone, file)), common.read(os.path.join(together, file)), (name, file))
            report = self.without_timing(together)
            self.assertEqual(report, self.without_timing(alone))
            self.assertEqual(target["evaluation"], report["evaluation"])
            self.assertEqual(target["coverage"], report["coverage"])
            self.assertGreater(target["cost"]["cycles"], 0)

    def test_each_gets_what_it_would_get_alone(self):
        code, out, err = common.quern("quantize", common.CONFIG, "-o", self.at("all"), "--target", ",".join(TARGETS))
        self.assertEqual(code, 0, err)
        self.assertEqual(sum(line.startswith("statistics ") for line in err.splitlines()), 1, err)
        for word in ("cpu (avx2)", "cpu (sse41)", "SQNR", "top1"):
            self.assertIn(word, out)
        self.check(self.at("all"), ["cpu_avx2", "cpu_sse41"])

    def test_listed_in_the_file(self):
        text = common.read(common.CONFIG).decode()
        example = os.path.relpath(common.EXAMPLE, self.folder)
        for name in ("digits.onnx", "data.npz"):
            text = text.replace(name, os.path.join(example, name))
        lines = [line for line in text.splitlines() if not line.startswith("target")]
        config = self.at("all.yaml")
        common.write(config, "\n".join(lines) + f"\ntarget: {{device: {json.dumps(TARGETS)}}}\n")
        out = self.json("quantize", config, "-o", self.at("all"))
        self.assertEqual([t["target"]["profile"] for t in out["targets"]], ["avx2", "sse41"])
        self.failure(3, ["several targets", "--target"], "explain", config)
        self.assertEqual(len(self.json("quantize", config, "-o", self.at("plan"), "--dry-run")), 2)

    def test_mistakes(self):
        os.mkdir(self.at("work"))
        for targets, code, words in (("cpu,cpu", 3, ["listed twice"]), ("cpu,cqu", 6, ["cqu", "did you mean 'cpu'"]), ("cpu:avx2,cpu:avx3", 3, ["avx3", "did you mean 'avx2'"])):
            self.failure(code, words, "quantize", common.CONFIG, "-o", self.at("work", "out"), "--target", targets, inside=self.at("work"))


if __name__ == "__main__":
    common.main()
