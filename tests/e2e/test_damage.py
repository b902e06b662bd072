"""Packages that somebody changed: one clear error with the code for models, or the same result; never a crash."""
import copy
import json
import os
import random
import unittest

import numpy as np

import common


def first(nodes, op):
    return next(n for n in nodes if n["op"] == op)


class Damage(common.Case):
    def setUp(self):
        super().setUp()
        self.out = self.quantize()
        self.index_file = os.path.join(self.out, "package", "index.json")
        self.data_file = os.path.join(self.out, "package", "data.bin")
        self.index = common.read_json(self.index_file)
        self.data = common.read(self.data_file)
        np.savez(self.at("in.npz"), image=np.zeros((1, 1, 8, 8), np.float32))

    def refused(self, word="package", code=4):
        """By everything that reads packages."""
        for arguments in (["verify", self.out, "--samples", "1"], ["inspect", self.out],
                          ["run", self.out, "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"), "--as", "simulated"]):
            self.failure(code, [word], *arguments)

    def test_data(self):
        at = self.index["nodes"][1]["unit"]["operands"][1]["constant"]["offset"]
        changed = bytearray(self.data)
        changed[at] ^= 1
        for content in (bytes(changed), self.data[:-1], self.data + b"\0", b""):
            common.write(self.data_file, content)
            self.refused("data.bin")
        os.remove(self.data_file)
        self.refused("data.bin", 7)
        os.mkdir(self.data_file)
        self.refused("data.bin", 7)

    def test_index_text(self):
        text = json.dumps(self.index)
        for content in ("", "{", text[:len(text) // 2], "[]", "null", text + "x", "\0" * 100, '{"quern_package": 2}', "[" * 100000):
            common.write(self.index_file, content)
            self.refused("index.json")

    def test_index_content(self):
        def edit(change):
            index = copy.deepcopy(self.index)
            change(index, index["nodes"], first(index["nodes"], "Unit")["unit"])
            common.write(self.index_file, json.dumps(index))

        def put(container, key, value):
            container[key] = value
        contract = lambda i: i["contracts"]["dot"]
        cases = {
            "shape beyond the file": lambda i, n, u: put(u["operands"][1]["constant"], "dims", [1 << 20]),
            "shape that overflows": lambda i, n, u: put(u["operands"][1]["constant"], "dims", [1 << 32, 1 << 32]),
            "negative shape": lambda i, n, u: put(u["operands"][1]["constant"], "dims", [-1, 1, 3, 3]),
            "weight of another shape": lambda i, n, u: put(u["operands"][1]["constant"], "dims", [8, 1, 3, 3]),
            "weight of another type": lambda i, n, u: put(u["operands"][1]["constant"], "dtype", "f32"),
            "offset beyond the file": lambda i, n, u: put(u["operands"][1]["constant"], "offset", 1 << 40),
            "negative offset": lambda i, n, u: put(u["operands"][1]["constant"], "offset", -64),
            "offset not aligned": lambda i, n, u: put(u["operands"][1]["constant"], "offset", 1),
            "unknown type": lambda i, n, u: put(u["operands"][1]["constant"], "dtype", "s9"),
            "no values": lambda i, n, u: i.pop("values"),
            "no unit": lambda i, n, u: first(n, "Unit").pop("unit"),
            "no contract": lambda i, n, u: u.pop("contract"),
            "no inputs": lambda i, n, u: i.pop("inputs"),
            "no tables": lambda i, n, u: u.pop("tables"),
            "a table less": lambda i, n, u: u["tables"].pop("multiplier"),
            "a short table": lambda i, n, u: put(u["tables"]["multiplier"], "dims", [3]),
            "no weight": lambda i, n, u: u["operands"].pop(1),
            "no parameters of the input": lambda i, n, u: u["operands"][0].pop("params"),
            "no parameters of the output": lambda i, n, u: u["output"].pop("params"),
            "scale of zero": lambda i, n, u: put(u["output"]["params"], "scale", [0]),
            "scale of nan": lambda i, n, u: put(u["output"]["params"], "scale", ["nan"]),
            "negative scale": lambda i, n, u: put(n[0]["params"], "scale", [-0.5]),
            "no scale": lambda i, n, u: put(u["output"]["params"], "scale", []),
            "zero point outside": lambda i, n, u: put(u["output"]["params"], "zero_point", [300]),
            "400 bits": lambda i, n, u: put(u["output"]["params"], "bits", 400),
            "unknown stage": lambda i, n, u: contract(i)["post"].append({"teleport": {}}),
            "unknown rounding": lambda i, n, u: put(contract(i)["post"][-1]["f2i"], "round", "up"),
            "unknown form": lambda i, n, u: put(contract(i), "form", "magic"),
            "unknown table": lambda i, n, u: contract(i)["post"].insert(0, {"fmul32": "nothing"}),
            "contract not there": lambda i, n, u: put(u, "contract", "dit"),
            "a loop": lambda i, n, u: put(first(n, "Unit"), "inputs", first(n, "Unit")["outputs"]),
            "an input nobody makes": lambda i, n, u: put(first(n, "Unit"), "inputs", ["nothing"]),
            "two values of a name": lambda i, n, u: i["values"].append(i["values"][0]),
            "two nodes of an output": lambda i, n, u: n.append(n[1]),
            "unknown operator": lambda i, n, u: put(first(n, "Unit"), "op", "Onit"),
            "unknown member": lambda i, n, u: put(u["members"][0], "op", "Convolve"),
            "member of a later member": lambda i, n, u: put(u["members"][0], "inputs", [-3, 1, 2]),
            "member of no operand": lambda i, n, u: put(u["members"][0], "inputs", [0, 1, 77]),
            "no members": lambda i, n, u: put(u, "members", []),
            "stride of zero": lambda i, n, u: put(u["members"][0]["attributes"], "strides", {"ints": [0, 0]}),
            "negative stride": lambda i, n, u: put(u["members"][0]["attributes"], "strides", {"ints": [-1, 1]}),
            "stride of a text": lambda i, n, u: put(u["members"][0]["attributes"], "strides", {"string": "2"}),
            "three strides": lambda i, n, u: put(u["members"][0]["attributes"], "strides", {"ints": [1, 1, 1]}),
            "group of zero": lambda i, n, u: put(u["members"][0]["attributes"], "group", {"int": 0}),
            "huge pads": lambda i, n, u: put(u["members"][0]["attributes"], "pads", {"ints": [1 << 40] * 4}),
            "output of another type": lambda i, n, u: put(u["output"], "dtype", "f32"),
            "input of another type": lambda i, n, u: put(u["operands"][0], "dtype", "f32"),
            "last output of another type": lambda i, n, u: put(n[-1]["unit"]["output"], "dtype", "u8"),
            "value of another type": lambda i, n, u: put(i["values"][2], "dtype", "f32"),
            "border of another type": lambda i, n, u: put(i["values"][1], "dtype", "s8"),
        }
        for name, change in cases.items():
            with self.subTest(name):
                edit(change)
                # What only shows when a unit is prepared is found by those who run; `inspect` may still list it.
                for arguments in (["verify", self.out, "--samples", "1"],
                                  ["run", self.out, "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"), "--as", "simulated"],
                                  ["run", self.out, "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"), "--as", "integer"]):
                    # 6: the tables do not fit the contract, as if the target had derived them so.
                    self.failure((4, 6) if "table" in name or "parameters" in name else 4, [], *arguments)
        with self.subTest("target not there"):
            edit(lambda i, n, u: put(i["target"], "name", "cpv"))
            self.failure(6, ["cpv"], "verify", self.out)

    def test_another_arithmetic_is_noticed(self):
        """Simulated follows the contract in the file, integer the kernels: where these differ, verify says where."""
        def change(i):
            i["contracts"]["dot"]["post"][-1]["f2i"]["round"] = "floor"
        change(self.index)
        common.write(self.index_file, json.dumps(self.index))
        code, out, err = common.quern("verify", self.out, "--samples", "4", "--json")
        if code == 6:
            self.skipTest("this machine can't run the target: " + err)
        self.assertEqual(code, 8, err)
        self.assertIn("differ between simulated and integer", err)
        proof = json.loads(out)
        self.assertGreater(proof["mismatches"], 100)
        self.assertLess(proof["mismatches"], proof["elements"])
        where = proof["first"]
        self.assertEqual(list(where), ["tensor", "node", "sample", "index", "simulated", "integer"])
        self.assertEqual((where["tensor"], where["sample"]), (self.index["nodes"][1]["outputs"][0], 0))
        self.assertEqual(where["simulated"] + 1, where["integer"])
        self.assertIn(f"node '{where['node']}'", common.quern("verify", self.out, "--samples", "4")[1])

    def test_random_changes_never_crash(self):
        """Seeded: one random place of the index gets another value, or goes. QUERN_E2E_CHANGES: how many (default 30)."""
        chance = random.Random(int(os.environ.get("QUERN_E2E_SEED", "1")))
        outcomes = {}
        for number in range(int(os.environ.get("QUERN_E2E_CHANGES", "30"))):
            index = copy.deepcopy(self.index)
            place = index[chance.choice(["contracts", "values", "nodes", "nodes", "nodes", "coverage", "inputs", "outputs"])]
            path = []
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                key = chance.choice(keys)
                path.append(key)
                inner = place[key]
                if not isinstance(inner, (dict, list)) or not inner or chance.random() < 0.15:
                    break
                place = inner
            if chance.random() < 0.25:
                del place[key]
                path.append("gone")
            else:
                place[key] = chance.choice([0, -1, 1, 3, 7, 255, 65536, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), 1 << 64, 0.5, 1e-40, 1e38, "nan", "inf", "",
                                            "x", "f32", "s64", None, True, [], {}, [0], [1, 2], [1 << 62, 4]])
                path.append(place[key])
            common.write(self.index_file, json.dumps(index))
            for arguments in (["run", self.out, "--inputs", self.at("in.npz"), "--outputs", self.at("o.npz"), "--as", chance.choice(["simulated", "integer"])],
                              ["inspect", self.out]):
                code, _, err = common.quern(*arguments, timeout=60)
                outcomes[code] = outcomes.get(code, 0) + 1
                self.assertIn(code, (0, 2, 4, 5, 6), f"{number}: {path}, {arguments[0]} {arguments[-1]}: {err}")
        print("exit codes:", dict(sorted(outcomes.items())))


if __name__ == "__main__":
    common.main()
