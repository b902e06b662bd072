"""Calls of the system that fail, at every moment of a run: memory, disks, threads. One clear error with its code, an earlier result
whole, nothing else left. QUERN_FAULT_POINTS: how many moments of the allocations are tried ("all": every one)."""
import os
import random
import resource
import shutil
import unittest

import numpy as np

import common

LIBRARY = os.path.join(common.BUILD, "lib", "libquern_fault.so")
SMALL = ["--set", "data.calibration.samples=4", "--set", "data.evaluation.samples=4"]


class Faults(common.Case):
    def setUp(self):
        super().setUp()
        if os.environ.get("QUERN_SANITIZED") or not os.path.exists(LIBRARY):
            self.skipTest("faults are made by replacing malloc, as sanitizers do themselves")
        self.out = self.at("place", "out")
        self.quantize(common.CONFIG, self.out, "--threads", "1", *SMALL)
        self.whole = common.tree(self.out)
        self.clean = {k: v for k, v in self.whole.items() if k != "report.json"}  # its timing

    def arguments(self, threads=1):
        return ["quantize", common.CONFIG, "-o", self.out, "--threads", threads, *SMALL]

    def faulty(self, wish, *arguments, **more):
        """Code and standard error of a run with this fault."""
        code, _, err = common.quern(*arguments, env={"LD_PRELOAD": LIBRARY, "QUERN_FAULT": wish}, timeout=60, **more)
        return code, err

    def counts(self, *arguments):
        report = self.at("counts")
        self.ok(*arguments, env={"LD_PRELOAD": LIBRARY, "QUERN_FAULT_REPORT": report})
        words = common.read(report).decode().split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def judge(self, what, code, err, codes, words, earlier):
        """A failure tells one thing and changes nothing; a success is the result that there would have been."""
        what = f"{what}: code {code}\n{err}"
        self.assertIn(code, [0, *codes], what)
        if code == 0:
            now = common.tree(self.out)
            self.assertEqual({k: v for k, v in now.items() if k != "report.json"}, self.clean, what)
            self.assertEqual(os.listdir(self.at("place")), ["out"], what)
        else:
            self.assertEqual(sum(line.startswith("quern: ") for line in err.splitlines()), 1, what)
            for bad in ("terminate called", "unexpected failure", "a fault of"):
                self.assertNotIn(bad, err, what)
            self.assertTrue(any(word in err for word in words), what)
            if earlier:
                self.assertEqual(common.tree(self.at("place")), earlier, what)
            else:
                self.assertFalse(os.path.exists(self.at("place")), what)

    def put_back(self, keep):
        """The place with an earlier result or without; gives what is there."""
        if not keep:
            shutil.rmtree(self.at("place"), ignore_errors=True)
            return None
        if not os.path.exists(self.out) or common.tree(self.out) != self.whole:
            shutil.rmtree(self.at("place"), ignore_errors=True)
            self.quantize(common.CONFIG, self.out, "--threads", "1", *SMALL)
            self.whole = common.tree(self.out)
        return common.tree(self.at("place"))

    def moments(self, total, usual):
        points = os.environ.get("QUERN_FAULT_POINTS", str(usual))
        if points == "all":
            return range(1, total + 1)
        chance, points = random.Random(5), min(int(points) * usual // 100 or 1, total)
        return [1 + i * total // points + chance.randrange(max(1, total // points)) for i in range(points)]

    def sweep(self, kind, usual, threads, codes=(9,), words=("memory",), more=""):
        total, tally = self.counts(*self.arguments(threads))[kind], {}
        for i, n in enumerate(self.moments(total, usual)):
            earlier = self.put_back(i % 2 == 0)
            code, err = self.faulty(f"{kind}:{n}{more}", *self.arguments(threads))
            self.judge(f"{kind}:{n}", code, err, codes, words, earlier)
            tally[code] = tally.get(code, 0) + 1
        print(f"{kind}{more}, {threads} threads: {total} allocations; exit codes {tally}")
        self.assertIn(9, tally)

    def test_memory_of_cpp(self):
        self.sweep("new", 100, 1)

    def test_memory_of_cpp_in_workers(self):
        self.sweep("new", 30, 2)

    def test_memory_of_all(self):
        # C's too: the loader's (6: a plugin that can't be loaded) and OpenSSL's among them.
        self.sweep("malloc", 50, 1, (6, 9), ("memory", "allocate"))

    def test_an_address_space_too_small(self):
        """Not one allocation but all beyond a limit. 127 is the loader's, before there is a command."""
        tally = {}
        for megabytes in [40, 60, 70, 80, 90, 95, 100, 105, 110, 115, 120, 130, 140, 150, 160, 180, 200, 250, 300, 400]:
            earlier = self.put_back(True)
            limit = megabytes << 20
            code, _, err = common.quern(*self.arguments(), timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
            tally[megabytes] = code
            if code == 127 and "error while loading shared libraries" in err:
                self.assertEqual(common.tree(self.at("place")), earlier)
                continue
            self.judge(f"{megabytes} MiB", code, err, (6, 7, 9), ("memory", "allocate"), earlier)
        print("exit codes by MiB:", tally)
        self.assertEqual(tally[400], 0)

    def test_files(self):
        """Every single call that writes: no space, no quota, a broken disk."""
        tally = {}
        for kind, number in (("write", 28), ("short", 28), ("fsync", 5), ("close", 122), ("rename", 28), ("mkdir", 28), ("open", 28)):
            for keep in (True, False):
                self.put_back(keep)
                total = self.counts(*self.arguments())["write" if kind == "short" else kind]
                for n in range(1, total + 1):
                    earlier = self.put_back(keep)
                    code, err = self.faulty(f"{kind}:{n}:{number}", *self.arguments())
                    self.judge(f"{kind}:{n}:{number}", code, err, (7,), (os.strerror(number),), earlier)
                    if code:
                        self.assertIn(self.at("place"), err)
                    tally[kind, code] = tally.get((kind, code), 0) + 1
        print("exit codes:", tally)
        for kind in ("write", "short", "fsync", "close", "rename", "mkdir", "open"):
            self.assertIn((kind, 7), tally)
        self.assertEqual([key for key in tally if key[1] == 0 and key[0] not in ("close", "rename")], [])

    def test_files_of_run(self):
        model, source, target = os.path.join(common.EXAMPLE, "digits.onnx"), self.at("in.npz"), self.at("o", "out.npz")
        os.mkdir(self.at("o"))
        np.savez(source, image=np.zeros((2, 1, 8, 8), np.float32))
        arguments = ["run", model, "--inputs", source, "--outputs", target]
        self.ok(*arguments)
        before = common.tree(self.at("o"))
        for kind, number in (("write", 28), ("short", 28), ("fsync", 5), ("close", 122), ("rename", 28), ("open", 28)):
            total, failed = self.counts(*arguments)["write" if kind == "short" else kind], 0
            for n in range(1, total + 1):
                code, err = self.faulty(f"{kind}:{n}:{number}", *arguments)
                self.assertEqual(common.tree(self.at("o")), before, err)
                if code == 0 and kind == "close":  # of a file that is only read
                    continue
                self.assertEqual(code, 7, err)
                self.assertIn("out.npz", err)
                self.assertIn(os.strerror(number), err)
                failed += 1
            self.assertGreater(failed, 0, kind)

    def test_killed_while_results_are_moved(self):
        """kill -9 in the middle: the next run, also one that fails, finds or restores one whole result."""
        total = self.counts(*self.arguments())["rename"]
        for n in range(1, total + 1):
            earlier = self.put_back(True)
            self.assertEqual(self.faulty(f"kill:rename:{n}", *self.arguments())[0], -9)
            for path, folders, _ in os.walk(self.at("place")):
                for name in folders:
                    if name.endswith(".partial"):
                        os.utime(os.path.join(path, name), (1, 1))  # a new one might still be at work
            code, err = self.faulty("write:1:28", *self.arguments())
            self.assertEqual(code, 7, err)
            now = common.tree(self.at("place"))
            self.assertEqual(sorted(now), sorted(earlier))
            for path, digest in now.items():
                if not path.endswith("report.json"):  # of the killed run where it had ended
                    self.assertEqual(digest, earlier[path], f"{n}: {path}")

    def test_no_more_threads(self):
        total = self.counts(*self.arguments(2))["thread"]
        self.assertGreater(total, 0)
        for n in range(1, total + 1):
            self.put_back(False)
            code, err = self.faulty(f"thread:{n}", *self.arguments(2))
            self.assertEqual(code, 0, err)
            self.judge(f"thread:{n}", code, err, (), (), None)


if __name__ == "__main__":
    common.main()
