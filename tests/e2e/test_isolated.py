"""Plugins kept in a process of their own: whatever a target plugin does there in the middle of `quantize`, the run ends with the results that
a good one gives, and says what happened."""
import os
import unittest

import common

WILD = os.path.join(common.BUILD, "tests", "plugins", "test_wild", "test_wild.so")
CPU = os.path.join(common.BUILD, "lib", "quern", "plugins", "cpu.so")


class Isolated(common.Case):
    def setUp(self):
        super().setUp()
        for file in (WILD, CPU):
            if not os.path.exists(file):
                self.skipTest(f"there is no {file}; build first")
        self.good = self.quantize(common.CONFIG, self.at("good"))
        self.node = common.read_json(os.path.join(self.good, "report.json"))["units"][1]["nodes"][0]

    def wild(self, fault, *more):
        folder = self.at(fault.replace(":", "_").replace("/", "_"))
        code, out, err = common.quern("quantize", common.CONFIG, "-o", folder, "--target", "wild", "--plugin", WILD, "--isolated", *more,
                                      env={"QUERN_TEST_INNER": CPU, "QUERN_TEST_FAULT": fault, "XDG_CACHE_HOME": self.at("cache")})
        self.assertEqual(code, 0, f"{fault}\n{err}")
        self.assertNotIn("Traceback", err)
        return folder, err

    def same(self, folder, fault):
        self.assertEqual(common.read(os.path.join(folder, "package", "data.bin")), common.read(os.path.join(self.good, "package", "data.bin")), fault)
        a, b = (common.read_json(os.path.join(f, "report.json")) for f in (folder, self.good))
        self.assertEqual(a["evaluation"], b["evaluation"], fault)
        return a

    def test_results_of_a_good_plugin(self):
        folder, err = self.wild("none:none")
        self.assertEqual(self.same(folder, "none").get("warnings", []), common.read_json(os.path.join(self.good, "report.json")).get("warnings", []))

    def test_faults_cost_neither_the_run_nor_its_results(self):
        faults = {"crash": "SIGSEGV", "exit": "code 3", "throw": "exception", "status": "the device has gone", "behind": "outside of its buffers",
                  "far_before": "SIGSEGV", "hang": "did not answer"}
        for fault, words in faults.items():
            deadline = ["--set", "plugins.deadline=3"] if fault == "hang" else []
            folder, err = self.wild(f"execute:{fault}:{self.node}", *deadline)
            report = self.same(folder, fault)
            told = [w for w in report["warnings"] if words in w and self.node in w]
            self.assertEqual(len(told), 1, (fault, report["warnings"]))
            self.assertIn(words, err)

    def test_every_unit_crashes(self):
        folder, err = self.wild("execute:crash")
        self.assertIn("SIGSEGV", "".join(self.same(folder, "all")["warnings"]))

    def test_compile_crashes(self):
        folder, err = self.wild(f"compile:crash:{self.node}")
        self.assertIn("SIGSEGV", "".join(self.same(folder, "compile")["warnings"]))

    def test_a_number_that_is_none(self):
        last = common.read_json(os.path.join(self.good, "report.json"))["units"][-1]["nodes"][0]
        folder, err = self.wild(f"execute:nan:{last}")
        self.assertIn("NaN", "".join(self.same(folder, "nan")["warnings"]))

    def test_without_derived_integers_a_unit_stays_in_float(self):
        folder, err = self.wild(f"derive:crash:{self.node}")
        report = common.read_json(os.path.join(folder, "report.json"))
        self.assertIn("SIGSEGV", str(report))
        self.assertNotEqual(report["evaluation"], None)

    def test_nothing_is_proved_by_the_interpreter_alone(self):
        folder, err = self.wild("none:none")
        env = {"QUERN_TEST_INNER": CPU, "XDG_CACHE_HOME": self.at("cache")}
        self.ok("verify", folder, "--samples", "2", "--isolated", "--plugin", WILD, env=env)
        env["QUERN_TEST_FAULT"] = f"execute:crash:{self.node}"
        code, out, err = common.quern("verify", folder, "--samples", "2", "--isolated", "--plugin", WILD, env=env)
        self.assertEqual((code, out), (6, ""), err)
        self.assertIn("nothing is proved", err)

    def test_a_plugin_that_crashes_when_it_is_loaded(self):
        env = {"QUERN_TEST_INNER": CPU, "QUERN_TEST_FAULT": "entry:crash", "XDG_CACHE_HOME": self.at("cache")}
        os.mkdir(self.at("work"))
        self.failure(6, ["SIGSEGV", "quarantine"], "quantize", common.CONFIG, "-o", self.at("work", "out"), "--target", "wild", "--plugin", WILD, env=env,
                     inside=self.at("work"))
        listing = self.ok("plugins", "--plugin", WILD, env={"XDG_CACHE_HOME": self.at("cache")})
        self.assertIn("quarantine", listing)
        self.assertIn("SIGSEGV", listing)


if __name__ == "__main__":
    common.main()
