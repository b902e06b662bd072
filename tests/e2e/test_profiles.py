"""The same bytes from every profile of the cpu target and under every mask: what one machine quantizes, any other computes."""
import os
import unittest

import numpy as np

import common

MASKS = {"vnni": "AVX512_CORE_VNNI", "avx512": "AVX512_CORE", "avx2": "AVX2", "sse41": "SSE41"}


class Profiles(common.Case):
    def profile_under(self, mask):
        """What the default profile is under a mask."""
        out = self.at("probe_" + mask)
        self.quantize(common.CONFIG, out, "--skip-evaluation", env={"ONEDNN_MAX_CPU_ISA": mask})
        return common.read_json(os.path.join(out, "report.json"))["target"]["profile"]

    def profiles_here(self):
        return [profile for profile, mask in MASKS.items() if self.profile_under(mask) == profile]

    def values(self, folder):
        """Every tensor of the integer network."""
        index = common.read_json(os.path.join(folder, "package", "index.json"))
        return sorted({name for node in index["nodes"] for name in node["outputs"]})

    def taps(self, folder, x, name, mask, kind="integer"):
        source, target = self.at("in.npz"), self.at(f"{kind}_{mask}.npz")
        np.savez(source, **{name: x})
        wanted = [word for value in self.values(folder) for word in ("--tap", value)]
        code, _, err = common.quern("run", folder, "--inputs", source, "--as", kind, "--outputs", target, "--each", *wanted,
                                    env={"ONEDNN_MAX_CPU_ISA": mask})
        self.assertEqual(code, 0, err)
        with np.load(target) as arrays:
            return {k: (arrays[k].dtype, arrays[k].shape, arrays[k].tobytes()) for k in arrays.files}

    def prove(self, config, x, name):
        here = self.profiles_here()
        self.assertIn("sse41", here)  # the best one that a mask leaves is the default
        out = self.quantize(config, self.at("out"), "--skip-evaluation")
        expected = self.taps(out, x, name, MASKS[here[0]], "simulated")
        self.assertGreaterEqual(len(expected), 10)
        for profile in here:
            got = self.taps(out, x, name, MASKS[profile])
            self.assertEqual(sorted(got), sorted(expected))
            different = [k for k in got if got[k] != expected[k]]
            self.assertEqual(different, [], f"tensors differ under {MASKS[profile]}")
        # By profile: the package is made for it, its own kernels prove it, the bytes are those of the others.
        for profile in here:
            own = self.quantize(config, self.at("out_" + profile), "--skip-evaluation", "--target", "cpu:" + profile)
            report = common.read_json(os.path.join(own, "report.json"))
            self.assertEqual(report["target"]["profile"], profile)
            proof = self.json("verify", own, "--samples", "4")
            self.assertEqual((profile, proof["mismatches"]), (profile, 0))
            got = self.taps(own, x, name, MASKS[here[0]])
            self.assertEqual([k for k in got if got[k] != expected[k]], [], f"tensors differ by profile {profile}")
        print(f"{len(expected)} tensors equal on {', '.join(here)}")

    def test_example(self):
        with np.load(os.path.join(common.EXAMPLE, "data.npz")) as data:
            x = data["x_eval"][:8]
        self.prove(common.CONFIG, x, "image")

    def test_kws(self):
        config, x, _, name, _ = self.network_config("kws_dscnn", calibration=16)
        self.prove(config, x[:4], name)

    def test_unknown_profile_lists_the_profiles(self):
        self.failure(3, ["amx", "avx512", "avx2", "sse41", "vnni"], "quantize", common.CONFIG, "-o", self.at("x"), "--target", "cpu:amx")


common.main()
