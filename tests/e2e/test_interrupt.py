"""Ctrl-C and SIGTERM at any moment: exit code 130, the output folder absent or whole, an earlier result kept, nothing else."""
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
