"""Recomputes an integer package from its two files alone: index.json and data.bin (docs/package.md).

  package_reader.py PACKAGE inputs.npz outputs.npz [--all]

--all writes every value inside as well.

About 150 lines of numpy that share nothing with Quern: what they compute must be, byte for byte, what
`quern run --as integer` writes. Convolution, dense, pooling, element-wise and data movement, with any stage list."""
import json
import sys

import numpy as np

DTYPES = {"f32": np.float32, "u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "s32": np.int32, "s64": np.int64,
          "bool": np.bool_}


class Package:
    def __init__(self, folder):
        self.index = json.load(open(folder + "/index.json"))
        self.data = open(folder + "/data.bin", "rb").read()

    def tensor(self, ref):
        dtype = np.dtype(DTYPES[ref["dtype"]])
        count = int(np.prod(ref["dims"], dtype=np.int64))
        return np.frombuffer(self.data, dtype, count, ref["offset"]).reshape(ref["dims"])


def fma32(a, b, c):
    """One rounding: the product is exact in double, the sum is rounded to odd, so the last step to f32 is the only one."""
    p, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    s = p + c
    error = (p - (s - (s - p))) + (c - (s - p))
    toward = np.nextafter(s, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & (s.view(np.int64) % 2 == 0), toward, s).astype(np.float32)


def round_to(value, rule):  # float64 in, int64 out
    floor = np.floor(value)
    up = {"floor": False, "to_zero": value < 0, "half_up": value - floor >= 0.5, "half_down": value - floor > 0.5,
          "half_away": np.where(value < 0, value - floor > 0.5, value - floor >= 0.5)}
    return (np.rint(value) if rule == "half_even" else floor + np.where(up[rule], value != floor, 0)).astype(np.int64)


def stages(steps, v, names, axis, tensors=None, window=None, role=None):
    """Runs a stage list on an int64 or float32 array; per-channel tables lie along `axis`."""
    def operand(o):
        if not isinstance(o, str): return np.asarray(o)
        if o.startswith("@"): return tensors[o[1:]]
        if o == "#window": return window
        sign, o = (-1, o[1:]) if o.startswith("-") else (1, o)
        t = names[o.replace("in*", role or "in*")]
        return sign * (t.reshape(-1, *[1] * (v.ndim - 1 - axis)) if t.size > 1 else t.reshape(()))

    for step in steps:
        if "when" in step and step["when"].replace("in*", role or "in*") not in names:
            continue
        (kind, arg), = [(k, a) for k, a in step.items() if k not in ("when", "width")]
        args = [operand(a) for a in arg] if isinstance(arg, list) else [operand(arg)] if not isinstance(arg, dict) else []
        if kind == "add": v = v + args[0].astype(np.int64)
        elif kind == "mul": v = v * args[0].astype(np.int64)
        elif kind == "i2f32": v = v.astype(np.float32)
        elif kind == "fadd32": v = v + args[0].astype(np.float32)
        elif kind == "fmul32": v = v * args[0].astype(np.float32)
        elif kind == "fdiv32": v = v / args[0].astype(np.float32)
        elif kind == "ffma32": v = fma32(*np.broadcast_arrays(args[0].astype(np.float32), args[1].astype(np.float32), v))
        elif kind == "clamp": v = np.minimum(np.maximum(v, args[0].astype(v.dtype)), args[1].astype(v.dtype))
        elif kind == "f2i":
            low, high = (operand(arg[k]) if k in arg else np.asarray(d) for k, d in (("low", -2**31), ("high", 2**31 - 1)))
            v = np.clip(round_to(v.astype(np.float64), arg["round"]), low.astype(np.int64), high.astype(np.int64))
        else: raise SystemExit(f"stage {kind} is not part of this reader")
    return v


def windows(x, kernel, stride, dilation, begin, end, pad):
    """[N, C, taps, out...] of a padded [N, C, spatial...] array."""
    x = np.pad(x, [(0, 0), (0, 0)] + list(zip(begin, end)), constant_values=pad)
    out = [(s - d * (k - 1) - 1) // t + 1 for s, k, d, t in zip(x.shape[2:], kernel, dilation, stride)]
    taps = [x[(slice(None), slice(None)) + tuple(slice(i * d, i * d + (o - 1) * t + 1, t) for i, d, o, t in zip(place, dilation, out, stride))]
            for place in np.ndindex(*kernel)]
    return np.stack(taps, 2)


def run_unit(pkg, unit, inputs):
    contract, main, operands, flow = pkg.index["contracts"][unit["contract"]], unit["members"][0], {}, iter(inputs)
    names = {k: pkg.tensor(t) for k, t in unit["tables"].items()}
    for o in unit["operands"] + [unit["output"]]:
        if o is not unit["output"]:
            operands[o["role"] or o["value"]] = value = pkg.tensor(o["constant"]) if "constant" in o else next(flow)
            if o["role"]: names.setdefault(o["role"], value)
        if "params" in o:
            names[o["role"] + ".scale"] = np.asarray(o["params"]["scale"], np.float32)
            names[o["role"] + ".zero_point"] = np.asarray(o["params"]["zero_point"], np.int64)
    if "params" in unit["output"]:
        names["qmin"], names["qmax"] = (np.asarray(unit["output"]["params"][k]) for k in ("qmin", "qmax"))
    rules = contract.get("operands", {})
    wide = lambda a: a if a.dtype == np.float32 else a.astype(np.int64)
    pre = lambda role, axis: stages(rules.get(role, rules.get("in*" if role[:2] == "in" and role[2:].isdigit() else role, [])),
                                    wide(operands[role]), names, axis, role=role)
    attrs = {k: next(iter(a.values())) for k, a in main.get("attributes", {}).items()}
    form, axis, window = contract["form"], 1, None
    spatial = operands["input"].ndim - 2 if "input" in operands else 0
    geometry = lambda k: (attrs.get("strides", [1] * len(k)), attrs.get("dilations", [1] * len(k)),
                          attrs.get("pads", [0] * 2 * len(k))[:len(k)], attrs.get("pads", [0] * 2 * len(k))[len(k):])
    if form == "dot" and main["op"] == "Conv":
        x, w, group = pre("input", 1), pre("weight", 0), attrs.get("group", 1)
        t = windows(x, w.shape[2:], *geometry(w.shape[2:]), 0)
        n, c, taps = t.shape[:3]
        t, w = t.reshape(n, group, c // group * taps, -1), w.reshape(group, w.shape[0] // group, -1)
        shape = windows(x[:, :1], operands["weight"].shape[2:], *geometry(operands["weight"].shape[2:]), 0).shape[3:]
        v = np.einsum("ngkp,gok->ngop", t, w).reshape(n, -1, *shape)
    elif form == "dot":
        w = pre("weight", 0)
        v, axis = pre("input", 1) @ (w.T if attrs.get("transB", 0) else w), -1 + operands["input"].ndim
    elif form in ("pool_sum", "pool_max"):
        kernel = operands["input"].shape[2:] if main["op"].startswith("Global") else attrs["kernel_shape"]
        low = np.iinfo(np.int64).min if form == "pool_max" else 0
        t = windows(pre("input", 1), kernel, *geometry(kernel), low)
        v = t.max(2) if form == "pool_max" else t.sum(2)
        ones = np.ones((1, 1) + operands["input"].shape[2:], np.int64)
        window = np.asarray(int(np.prod(kernel))) if attrs.get("count_include_pad", 0) else windows(ones, kernel, *geometry(kernel), 0).sum(2)
    elif form == "elementwise2":
        v = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[contract["combine"]](pre("a", 1), pre("b", 1))
    elif main["op"] == "Concat":
        v = np.concatenate([pre(o["role"], 1) for o in unit["operands"]], attrs["axis"])
    else:  # data that keeps its order
        first = next(o["role"] for o in unit["operands"] if o["role"])
        v = pre(first, 1)
        dims = [v.shape[0] if d < 0 and i == 0 else d for i, d in enumerate(unit["output"]["dims"])]
        v = v.transpose(attrs["perm"]) if main["op"] == "Transpose" else v.reshape(dims)
    extra = {r: pre(r, 1) for r in operands if r == "residual"}
    return stages(contract["post"], v, names, axis, extra, window).astype(DTYPES[unit["output"]["dtype"]])


def main(folder, source, target, extent=""):
    pkg = Package(folder)
    values = {v["name"]: pkg.tensor(v["constant"]) for v in pkg.index["values"] if "constant" in v}
    types = {v["name"]: DTYPES[v["dtype"]] for v in pkg.index["values"] if "dtype" in v}
    values.update(np.load(source))
    for node in pkg.index["nodes"]:
        inputs, out, p = [values[n] for n in node["inputs"]], node["outputs"][0], node.get("params")
        if node["op"] == "Unit":
            values[out] = run_unit(pkg, node["unit"], inputs)
        elif node["op"] == "Quantize":
            q = np.rint((inputs[0] / np.float32(p["scale"][0])).astype(np.float64)) + p["zero_point"][0]
            values[out] = np.clip(q, p["qmin"], p["qmax"]).astype(types[out])
        elif node["op"] == "Dequantize":
            values[out] = (inputs[0].astype(np.int64) - p["zero_point"][0]).astype(np.float32) * np.float32(p["scale"][0])
        else:
            raise SystemExit(f"float node {node['name']} ({node['op']}) is not part of this reader")
    np.savez(target, **{n: values[n] for n in (values if extent == "--all" else pkg.index["outputs"])})


if __name__ == "__main__":
    main(*sys.argv[1:5])
