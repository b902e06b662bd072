"""Places that can't be written, disks that fill up, and a machine with decimal commas."""
import contextlib
import os
import resource
import shutil
import subprocess
import unittest

import numpy as np

import common

COMMAS = ["de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "nl_NL.UTF-8", "nl_NL.utf8", "es_ES.UTF-8", "es_ES.utf8", "de_AT.utf8", "de_CH.utf8"]


class Places(common.Case):
    @contextlib.contextmanager
    def small_disk(self, size):
        place = self.at("disk" + size)
        os.mkdir(place)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", place], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            self.skipTest("a small disk can't be mounted here (needs root): " + done.stderr.strip())
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)

    def test_a_full_disk(self):
        # Full at once, in the model, in the package, at the last file.
        for size in ("4k", "16k", "40k", "96k"):
            with self.small_disk(size) as disk:
                err = self.failure(7, [disk, "No space left"], "quantize", common.CONFIG, "-o", os.path.join(disk, "out"), inside=disk)
                self.assertNotIn("internal", err)
        with self.small_disk("400k") as disk:  # an earlier result survives the failure of the next
            out = self.quantize(common.CONFIG, os.path.join(disk, "out"))
            with open(os.path.join(disk, "ballast"), "wb", buffering=0) as ballast:
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"x" * 4096)
            before = common.tree(out)
            self.failure(7, ["No space left"], "quantize", common.CONFIG, "-o", out, inside=disk)
            self.assertEqual(common.tree(out), before)
            np.savez(self.at("in.npz"), image=np.zeros((500, 1, 8, 8), np.float32))
            self.failure(7, ["No space left"], "run", os.path.join(common.EXAMPLE, "digits.onnx"), "--inputs", self.at("in.npz"),
                         "--outputs", os.path.join(disk, "o.npz"), inside=disk)

    def test_a_limit_on_the_size_of_files(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))
        self.failure(7, ["too large"], "quantize", common.CONFIG, "-o", self.at("out"), preexec_fn=limit)
        self.assertFalse(os.path.exists(self.at("out")))

    def test_standard_output_on_a_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("this machine has no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run([common.QUERN, "inspect", os.path.join(common.EXAMPLE, "digits.onnx"), "--json"], stdout=full, stderr=subprocess.PIPE,
                                  env=common.environment(), text=True)
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn("standard output", done.stderr)

    def test_a_folder_without_permission(self):
        # Root may write everywhere: it becomes somebody else, where this somebody can reach the command.
        other = dict(user=65534, group=65534, extra_groups=[]) if os.geteuid() == 0 else {}
        os.chmod(self.folder, 0o755)
        place = self.at("closed")
        os.mkdir(place)
        os.chmod(place, 0o555)
        try:
            reached = common.quern("inspect", os.path.join(common.EXAMPLE, "digits.onnx"), **other)[0]
        except (PermissionError, subprocess.SubprocessError):
            reached = -1
        if reached != 0:
            self.skipTest("another user than root can't reach the build folder")
        self.failure(7, ["closed"], "quantize", common.CONFIG, "-o", os.path.join(place, "out"), **other)
        self.failure(7, ["closed"], "quantize", common.CONFIG, "-o", os.path.join(place, "deeper", "out"), **other)

    def test_no_folder_at_all(self):
        common.write(self.at("file"), "text")
        for place in (self.at("file"), self.at("file", "out"), "/proc/out", "/dev/null/out"):
            self.failure(7, [place.split("/out")[0]], "quantize", common.CONFIG, "-o", place)
        self.assertEqual(common.read(self.at("file")), b"text")

    def test_decimal_commas(self):
        installed = subprocess.run(["locale", "-a"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.split()
        commas = next((name for name in COMMAS if name in installed), None)
        more = {}
        if commas is None and shutil.which("localedef"):
            made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", self.at("de_DE.UTF-8")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if os.path.exists(self.at("de_DE.UTF-8", "LC_NUMERIC")) and made.returncode in (0, 1):
                commas, more = "de_DE.UTF-8", {"LOCPATH": self.folder}
        if commas is None:
            self.skipTest("no locale with decimal commas is installed, and none can be made (package locales)")
        env = dict(LC_ALL=commas, LANG=commas, **more)
        printed = subprocess.run(["printf", "%.1f", "0"], env=common.environment(**env), stdout=subprocess.PIPE, text=True).stdout
        if printed != "0,0":
            self.skipTest(f"the locale {commas} has no effect here ({printed})")
        plain, comma = self.quantize(common.CONFIG, self.at("a")), self.quantize(common.CONFIG, self.at("b"), env=env)
        one, two = common.tree(plain), common.tree(comma)
        one.pop("report.json"), two.pop("report.json")  # its timing
        self.assertEqual(one, two)
        left, right = (common.read_json(os.path.join(out, "report.json")) for out in (plain, comma))
        left.pop("timing"), right.pop("timing")
        self.assertEqual(left, right)
        self.assertEqual(self.json("verify", comma, env=env), self.json("verify", plain))


if __name__ == "__main__":
    common.main()
