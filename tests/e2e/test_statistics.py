"""calibrate, merge and quantize --statistics: the same bytes as one run, and what is refused."""
import os
import resource
import signal
import subprocess
import time

import common


class Statistics(common.Case):
    def calibrate(self, name, *more, config=common.CONFIG):
        self.ok("calibrate", config, "-o", self.at(name), *more)
        return self.at(name)

    def result(self, *more):
        """Every file of a result; of the report all but what may differ between two runs."""
        out = self.quantize(common.CONFIG, self.at("out"), *more)
        files = {path: digest for path, digest in common.tree(out).items() if path != "report.json"}
        report = common.read_json(os.path.join(out, "report.json"))
        del report["timing"]
        return files, report

    def test_shards(self):
        one_run = self.result()
        whole = self.calibrate("whole.qstat", "--threads", "1")
        self.assertEqual(self.result("--statistics", whole), one_run)

        shards = [self.calibrate(f"{i}.qstat", "--shard", f"{i}/3") for i in (1, 2, 3)]
        self.ok("merge", shards[2], shards[0], shards[1], "-o", self.at("merged.qstat"))
        self.assertEqual(common.read(self.at("merged.qstat")), common.read(whole))

    def test_a_round_for_a_stage_that_changes_the_network(self):
        config = self.network_config("mnv2_signs", "model_stretched.onnx", calibration=16)[0]
        whole = self.calibrate("whole.qstat", config=config)

        def round_of(number, *more):
            shards = [self.calibrate(f"{number}-{i}.qstat", "--shard", f"{i}/2", *more, config=config) for i in (1, 2)]
            self.ok("merge", *reversed(shards), "-o", self.at(f"merged{number}.qstat"))
            return self.at(f"merged{number}.qstat")
        first = round_of(1)
        self.failure(5, ["merged1.qstat", "has no pass over the network"], "quantize", config, "--statistics", first, "-o", self.at("out2"))
        self.assertEqual(common.read(round_of(2, "--statistics", first)), common.read(whole))

    def test_what_is_refused(self):
        whole = self.calibrate("whole.qstat")
        bytes_ = common.read(whole)
        quantize = lambda path: ["quantize", common.CONFIG, "--statistics", path, "-o", self.at("out")]
        for name, content, words in [("cut", bytes_[:-100], ["cut.qstat", "cut off or damaged"]), ("empty", b"", ["empty.qstat"]),
                                     ("flipped", bytes_[:500] + bytes([bytes_[500] ^ 1]) + bytes_[501:], ["flipped.qstat", "damaged"]),
                                     ("later", bytes_[:8] + b"\x07" + bytes_[9:], ["later.qstat", "version 7"]),
                                     ("other", b"no statistics at all" * 9, ["other.qstat", "does not begin as one"])]:
            common.write(self.at(name + ".qstat"), content)
            self.failure(5, words, *quantize(self.at(name + ".qstat")))
            self.failure(5, words, "merge", whole, self.at(name + ".qstat"), "-o", self.at("merged.qstat"))
        self.failure(7, ["nowhere.qstat"], *quantize(self.at("nowhere.qstat")))
        shard = self.calibrate("shard.qstat", "--shard", "1/2")
        self.failure(5, ["sample", "shard.qstat"], "merge", shard, shard, "-o", self.at("merged.qstat"))
        for bad in ("0/2", "3/2", "1", "1/2x", "a/b"):
            self.failure(2, ["--shard", bad], "calibrate", common.CONFIG, "-o", self.at("x.qstat"), "--shard", bad)
        self.failure(2, ["some would be empty"], "calibrate", common.CONFIG, "-o", self.at("x.qstat"), "--shard", "1/1000000")
        self.failure(7, [], "calibrate", common.CONFIG, "-o", self.at("no", "such", "folder", "x.qstat"))

    def test_a_file_that_does_not_fit_the_disk(self):
        code, _, err = common.quern("calibrate", common.CONFIG, "-o", self.at("x.qstat"),
                                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        self.assertEqual(code, 7, err)
        self.assertEqual(os.listdir(self.folder), [])

    def test_interrupted(self):
        for wait in (0.0, 0.05, 0.1, 0.2):
            process = subprocess.Popen([common.QUERN, "calibrate", common.CONFIG, "-o", self.at("x.qstat")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                       env=common.environment())
            self.assertTrue(process.stderr.readline())
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            process.stderr.close()
            code = process.wait(timeout=60)
            self.assertIn(code, (0, 130))
            self.assertEqual(os.listdir(self.folder), ["x.qstat"] if code == 0 else [])
            if code == 0:
                os.remove(self.at("x.qstat"))


if __name__ == "__main__":
    common.main()
