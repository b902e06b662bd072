"""What the end-to-end tests share: starting the command, checking what it leaves behind, and small data.

A test module imports this, holds unittest cases and ends with `common.main()`. It exits 77 (skipped) when every test in it was
skipped. Where things are: QUERN_BUILD_DIR (the build folder), QUERN_SOURCE_DIR (the sources)."""
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SOURCE = os.path.abspath(os.environ.get("QUERN_SOURCE_DIR") or os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("QUERN_BUILD_DIR") or os.path.join(SOURCE, "build", "release"))
QUERN = os.path.join(BUILD, "bin", "quern")
MODELS = os.path.join(os.path.dirname(SOURCE), "shared", "models")
EXAMPLE = os.path.join(SOURCE, "examples", "digits")
CONFIG = os.path.join(EXAMPLE, "digits.yaml")
RESULT = ["effective.yaml", "model.onnx", "package", "package/data.bin", "package/index.json", "report.json"]


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("QUERN_PLUGIN") and not k.startswith("LC_")}
    return {**env, **more}


def quern(*arguments, env=None, timeout=240, **more):
    """Runs the command to its end: code, stdout, stderr. A death by a signal has a negative code."""
    done = subprocess.run([QUERN, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(**(env or {})), timeout=timeout, **more)
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


def tree(folder):
    """Every path below, files with their digest, links with where they lead."""
    out = {}
    for path, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            file = os.path.join(path, name)
            mode = os.lstat(file).st_mode
            out[os.path.relpath(file, folder)] = (
                os.readlink(file) if stat.S_ISLNK(mode) else None if stat.S_ISDIR(mode) else
                hashlib.sha256(read(file)).hexdigest() if stat.S_ISREG(mode) else f"mode {mode:o}")
    return out


def read(path):
    with open(path, "rb") as f:
        return f.read()


def read_json(path):
    with open(path) as f:
        return json.load(f)


def write(path, content):
    with open(path, "wb" if isinstance(content, bytes) else "w") as f:
        f.write(content)


def shared(network):
    """(calibration, evaluation, labels or None, name of the input) of one of the shared networks; None when it is not here."""
    folder = os.path.join(MODELS, network)
    if not os.path.isdir(folder):
        return None
    meta = read_json(os.path.join(folder, "meta.json"))
    real = lambda name: (np.load(os.path.join(folder, name)).astype(np.float32) - np.float32(meta.get("mean", 0))) * np.float32(meta.get("scale", 1))
    labels = os.path.join(folder, "eval_y.npy")
    return real("calib_x.npy"), real("eval_x.npy"), np.load(labels) if os.path.exists(labels) else None, meta["input"]


class Case(unittest.TestCase):
    """A folder of its own, and the checks that every test of the command makes."""

    def setUp(self):
        if not os.path.exists(QUERN):
            self.skipTest(f"there is no {QUERN}; build first")
        self.folder = tempfile.mkdtemp(prefix="quern-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def ok(self, *arguments, **more):
        """Runs the command, which must succeed. A machine that can't run the target's kernels skips the test."""
        code, out, err = quern(*arguments, **more)
        if code == 6 and "can't run its profile" in err:
            self.skipTest("this machine can't run the target: " + err.strip().splitlines()[-1])
        self.assertEqual(code, 0, f"quern {' '.join(map(str, arguments))}\n{err}")
        return out

    def json(self, *arguments, **more):
        return json.loads(self.ok(*arguments, "--json", **more))

    def quantize(self, config=CONFIG, output=None, *more, **env):
        output = output or self.at("out")
        self.ok("quantize", config, "-o", output, *more, **env)
        return output

    def network_config(self, network, model="model.onnx", calibration=64, target="{device: cpu}"):
        """Writes data and a configuration for a shared network; returns (configuration, x, labels, input, path of the model)."""
        found = shared(network)
        if found is None:
            self.skipTest(f"the shared network {network} is not beside the project")
        calib, x, y, name = found
        path = os.path.join(MODELS, network, model)
        np.savez(self.at("data.npz"), c=calib[:calibration], e=x, **({} if y is None else {"y": y}))
        config = self.at("config.yaml")
        write(config, f"quern: 1\nmodel: {path}\ntarget: {target}\ndata:\n"
                      f"  calibration: {{reader: npz, path: data.npz, inputs: {{{json.dumps(name)}: c}}}}\n"
                      f"  evaluation: {{reader: npz, path: data.npz, inputs: {{{json.dumps(name)}: e}}{'' if y is None else ', labels: y'}}}\n"
                      f"metric: {'agreement' if y is None else 'top1'}\noutput: out\n")
        return config, x, y, name, path

    def outputs(self, model, x, kind, name, *more):
        """Outputs of `quern run --each` by name."""
        source, target = self.at("run_in.npz"), self.at("run_out.npz")
        np.savez(source, **{name: x})
        self.ok("run", model, "--inputs", source, "--as", kind, "--outputs", target, "--each", *more)
        with np.load(target) as out:
            return {k: out[k] for k in out.files}

    def failure(self, code, words, *arguments, inside=None, **more):
        """The command must fail with this code, say one error with all the words, and leave `inside` as it was."""
        inside = inside or self.folder
        before = tree(inside)
        got, out, err = quern(*arguments, **more)
        what = f"quern {' '.join(map(str, arguments))}\n{out}{err}"
        self.assertIn(got, code if isinstance(code, (list, tuple)) else [code], what)
        self.assertEqual(sum(line.startswith("quern: ") for line in err.splitlines()), 1, what)
        for bad in ("Traceback", "terminate called", "unexpected failure", "AddressSanitizer", "runtime error"):
            self.assertNotIn(bad, err)
        for word in words:
            self.assertIn(word, err)
        self.assertEqual(tree(inside), before, what)
        return err

    def nothing_half_written(self, folder):
        left = [p for p in tree(folder) if any(p.endswith(e) or f"{e}{os.sep}" in p for e in (".partial", ".old", ".tmp"))]
        self.assertEqual(left, [])


def main():
    result = unittest.main(exit=False, verbosity=2).result
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun and len(result.skipped) == result.testsRun else 0)
