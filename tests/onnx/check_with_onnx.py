"""What the official packages say of a file that Quern wrote. Ends with 0 when all is well.

  check FILE              the checker, with full shape inference
  same FILE FILE          the second passes the checker; both run in ONNX Runtime on equal random inputs; outputs must agree
                          to 1e-4 of their size
  shapes FILE TABLE       lines "name<TAB>type<TAB>dims" must agree with onnx's own shape inference where it knows better than nothing
"""
import sys

import numpy as np
import onnx
import onnx.shape_inference


def known_shapes(path):
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    for info in list(model.graph.value_info) + list(model.graph.output) + list(model.graph.input):
        tensor = info.type.tensor_type
        if tensor.HasField("shape"):
            yield info.name, tensor.elem_type, [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]


def shapes(path, table):
    ours = {}
    for line in open(table, encoding="utf-8"):
        name, kind, dims = line.rstrip("\n").split("\t")
        ours[name] = (int(kind), [int(d) for d in dims.split(",") if d])
    compared = 0
    for name, kind, dims in known_shapes(path):
        if name not in ours:
            continue
        our_kind, our_dims = ours[name]
        fits = kind == our_kind and len(dims) == len(our_dims)
        # We may know more than onnx does, never less and nothing else.
        fits = fits and all(a == b or a < 0 for a, b in zip(dims, our_dims))
        if not fits:
            sys.exit(f"{name}: onnx says {kind} {dims}, Quern {our_kind} {our_dims}")
        compared += 1
    if compared == 0:
        sys.exit("nothing was compared")
    print(compared)


def same(a, b):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    first, second = (ort.InferenceSession(f, options, providers=["CPUExecutionProvider"]) for f in (a, b))
    random = np.random.default_rng(1)
    feed = {i.name: random.standard_normal([d if isinstance(d, int) else 2 for d in i.shape]).astype(np.float32)
            for i in first.get_inputs()}
    names = [o.name for o in first.get_outputs()]
    if names != [o.name for o in second.get_outputs()]:
        sys.exit("the outputs have other names")
    for name, x, y in zip(names, first.run(None, feed), second.run(None, feed)):
        if x.shape != y.shape or not np.abs(x - y).max() <= 1e-4 * np.abs(x).max():
            sys.exit(f"{name}: differs by {np.abs(x - y).max()} of {np.abs(x).max()}")


if sys.argv[1] == "check":
    onnx.checker.check_model(sys.argv[2], full_check=True)
elif sys.argv[1] == "same":
    onnx.checker.check_model(sys.argv[3], full_check=True)
    same(sys.argv[2], sys.argv[3])
else:
    shapes(sys.argv[2], sys.argv[3])
