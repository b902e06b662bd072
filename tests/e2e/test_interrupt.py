"""Ctrl-C and SIGTERM at any moment: exit code 130, the output folder absent or whole, an earlier result kept, nothing else.
QUERN_INTERRUPTS: how many moments of the short run (default 100)."""
import os
import random
import signal
import subprocess
import time
import unittest

import common


class Interrupt(common.Case):
    def prepare(self):
        """A configuration that takes a second or so, and how long it takes here from the first word on."""
        if common.shared("mnv2_signs") is not None:
            self.config = self.network_config("mnv2_signs")[0]
        else:
            self.config = common.CONFIG
        process, begin = self.start()
        self.assertEqual(process.wait(), 0)
        return time.monotonic() - begin

    def start(self):
        """Started, and the first line of progress seen: signals are handled from then on."""
        process = subprocess.Popen([common.QUERN, "quantize", self.config, "-o", self.at("place", "out"), "--threads", "1"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=common.environment())
        self.addCleanup(process.stderr.close)
        self.assertTrue(process.stderr.readline())
        return process, time.monotonic()

    def test_at_any_moment(self):
        duration = self.prepare()
        out = self.at("place", "out")
        whole = common.tree(out)
        self.assertEqual(sorted(whole), common.RESULT)
        chance, codes = random.Random(7), []
        for moment in range(6):
            keep = moment % 2 == 0  # with an earlier result, and without
            if not keep:
                subprocess.run(["rm", "-rf", self.at("place")], check=True)
            else:
                self.quantize(self.config, out, "--threads", "1")
                before = common.tree(out)
            process, _ = self.start()
            time.sleep(duration * chance.random() * 0.95 if moment else 0)
            process.send_signal(signal.SIGINT if moment % 4 < 2 else signal.SIGTERM)
            words = process.stderr.read().decode()
            code = process.wait(timeout=60)
            codes.append(code)
            self.assertIn(code, (130, 0), words)  # 0: it was done before
            self.nothing_half_written(self.folder)
            if code == 130:
                self.assertIn("interrupted", words)
                self.assertEqual(words.count("quern: "), 1, words)
                if keep:
                    self.assertEqual(common.tree(out), before)
                else:
                    self.assertFalse(os.path.exists(self.at("place")), "a folder made on the way is left")
            else:
                self.assertEqual(sorted(common.tree(out)), common.RESULT)
        print(f"{duration:.2f} s; exit codes: {codes}")
        self.assertIn(130, codes)
        self.ok("verify", self.quantize(self.config, out), "--samples", "2")

    def test_a_hundred_moments(self):
        """Of the short example, from the start of the process to beyond its end; half of them with an earlier result of another seed."""
        few = ["--set", "data.calibration.samples=30", "--set", "data.evaluation.samples=30"]
        results = {}
        for seed in (1, 2):
            out = self.quantize(common.CONFIG, self.at(f"seed{seed}", "out"), "--set", f"seed={seed}", *few)
            results[seed] = self.content(out)
        duration = 0
        for _ in range(3):
            begin = time.monotonic()
            self.quantize(common.CONFIG, self.at("timed"), "--threads", "1", *few)
            duration = max(duration, time.monotonic() - begin)
        chance, tally = random.Random(11), {}
        count = int(os.environ.get("QUERN_INTERRUPTS", "100"))
        for moment in range(count):
            place, kind = self.at("place"), signal.SIGINT if chance.random() < 0.5 else signal.SIGTERM
            out, keep, threads = os.path.join(place, "out"), moment % 2 == 0, 1 + moment // 2 % 2
            subprocess.run(["rm", "-rf", place], check=True)
            if keep:
                os.mkdir(place)
                subprocess.run(["cp", "-r", self.at("seed1", "out"), out], check=True)
            process = subprocess.Popen([common.QUERN, "quantize", common.CONFIG, "-o", out, "--threads", str(threads), "--set", "seed=2", *few], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=common.environment())
            # A quarter within the last part, where results are written and put into place.
            part = chance.random()
            time.sleep(duration * (1.1 * part if moment % 4 else 0.7 + 0.4 * part))
            process.send_signal(kind)
            words = process.stderr.read().decode()
            process.stderr.close()
            code = process.wait(timeout=30)
            tally[code] = tally.get(code, 0) + 1
            what = f"moment {moment}, {threads} threads: code {code}\n{words}"
            # -2, -15: before main() the loader is at work, and a signal does what it does to any program.
            self.assertIn(code, (0, 130, -kind), what)
            if code == -kind:
                self.assertEqual(words, "", what)
            if code == 130:
                self.assertEqual(words.count("quern: interrupted"), 1, what)
            if code == 0:
                self.assertEqual(os.listdir(place), ["out"], what)
                self.assertEqual(self.content(out), results[2], what)
            elif keep:
                self.assertEqual(os.listdir(place), ["out"], what)
                self.assertEqual(self.content(out), results[1], what)
            else:
                self.assertFalse(os.path.exists(place), what)
        print(f"{duration:.2f} s a run; exit codes: {tally}")
        self.assertGreater(tally.get(130, 0), count // 5)

    def content(self, out):
        """What does not differ between two runs, and that there is nothing beside it."""
        tree = common.tree(out)
        self.assertEqual(sorted(tree), common.RESULT)
        report = common.read_json(os.path.join(out, "report.json"))
        report.pop("timing")
        effective = [line for line in common.read(os.path.join(out, "effective.yaml")).decode().splitlines() if not line.startswith("threads:")]
        tree.update({"report.json": report, "effective.yaml": effective})
        return tree

    def test_two_signals(self):
        """The second does not wait, and what it leaves is put in order by the next run."""
        self.prepare()
        process, _ = self.start()
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        process.stderr.read()
        self.assertEqual(process.wait(timeout=30), 130)
        for path, folders, _ in os.walk(self.at("place")):
            for name in folders:
                if name.endswith(".partial"):
                    os.utime(os.path.join(path, name), (1, 1))  # a new one might still be at work
        self.quantize(self.config, self.at("place", "out"), "--threads", "1")
        self.assertEqual(sorted(common.tree(self.at("place", "out"))), common.RESULT)
        self.nothing_half_written(self.folder)

    def test_stops_soon(self):
        self.prepare()
        process, _ = self.start()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        process.wait(timeout=60)
        self.assertLess(time.monotonic() - begin, 5)


if __name__ == "__main__":
    common.main()
