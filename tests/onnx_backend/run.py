#!/usr/bin/env python3
"""ONNX's backend node tests, from the installed onnx package (1.16.2), through Quern's float path.

    run.py DRIVER [--own] [--all] [--op NAME] [--verbose]

Every case of the operators listed in operators.txt that uses only tensors of float32, float64, integer and bool types
must pass, but for the exceptions named in exceptions.txt (case, tab, reason), which must still not pass: an entry that has
become wrong is an error too. --all also shows cases of operators that are not listed.
"""
import argparse
import collections
import os
import subprocess
import sys
import tempfile

import onnx
from onnx import TensorProto

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {getattr(TensorProto, n) for n in "FLOAT DOUBLE INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()}


def lines_of(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f if line.strip() and not line.startswith("#")]


def describe(model):
    """Operators of a model, and the first thing that is no tensor of our types ('' when there is none)."""
    ops = {("" if n.domain in ("", "ai.onnx") else n.domain + ".") + n.op_type for n in model.graph.node}
    for value in list(model.graph.input) + list(model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return ops, kind
        if value.type.tensor_type.elem_type not in TYPES:
            return ops, TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return ops, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("--own", action="store_true", help="own kernels only, without oneDNN")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--op")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    root = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "node")
    claimed = set(lines_of("operators.txt"))
    exceptions = dict(line.split("\t", 1) for line in lines_of("exceptions.txt"))
    required, other = {}, {}
    other_types = collections.Counter()
    for case in sorted(os.listdir(root)):
        model = onnx.load(os.path.join(root, case, "model.onnx"))
        ops, strange = describe(model)
        if args.op and args.op not in ops:
            continue
        if ops <= claimed and not strange:
            required[case] = ops
        elif ops <= claimed:
            other_types[strange] += 1
        else:
            other[case] = ops

    cases = list(required) + (list(other) if args.all else [])
    with tempfile.TemporaryDirectory() as folder:
        listing = os.path.join(folder, "cases.txt")
        with open(listing, "w", encoding="utf-8") as f:
            f.writelines(os.path.join(root, c) + "\n" for c in cases)
        done = subprocess.run([args.driver] + (["--own"] if args.own else []) + [listing], capture_output=True, text=True)
    results = {}
    for line in done.stdout.splitlines():
        state, path, reason = line.split("\t", 2)
        results[os.path.basename(path)] = (state, reason)

    failed = 0
    if done.returncode != 0:
        after = cases[len(results)] if len(results) < len(cases) else "the last case"
        print(f"the driver ended with {done.returncode} at {after}\n{done.stderr}")
        failed += 1
    counts = collections.Counter()
    for case in required:
        state, reason = results.get(case, ("FAIL", "not run"))
        if case in exceptions:
            counts["named exceptions"] += 1
            if state == "PASS":
                failed += 1
                print(f"{case}: passes now; take it out of exceptions.txt")
            elif state == "FAIL" and not exceptions[case].startswith("differs:"):
                failed += 1
                print(f"{case}: a wrong result: {reason}")
            continue
        counts[state] += 1
        if state != "PASS":
            failed += 1
        if state != "PASS" or args.verbose:
            print(f"{state} {case} ({', '.join(sorted(required[case]))}): {reason}")
    for case in exceptions:
        if case not in required and not args.op:
            failed += 1
            print(f"{case}: named in exceptions.txt but not among the cases of the listed operators")
    if args.all:
        for case in other:
            state, reason = results.get(case, ("FAIL", "not run"))
            counts["other " + state] += 1
            print(f"  other: {state} {case} ({', '.join(sorted(other[case]))}): {reason}")
    print(f"{len(required)} cases of {len(claimed)} operators: " + ", ".join(f"{v} {k}" for k, v in sorted(counts.items())))
    print("cases of these operators with other types: " + ", ".join(f"{v} {k}" for k, v in sorted(other_types.items())))
    return 1 if failed or not required else 0


if __name__ == "__main__":
    sys.exit(main())
