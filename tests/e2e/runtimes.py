"""How much of a QDQ file a runtime computes in integers: what it made of the graph, by its own account."""
import os
import tempfile

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Integer kernels of ONNX Runtime that take the place of heavy operators.
ORT_HEAVY = ("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat")


def exact_options():
    """Session options with which ONNX Runtime computes 8-bit layers exactly on any x86: without VNNI its kernels for unsigned activations and
    signed weights add pairs of products in 16 saturating bits, unless it is asked for precision."""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def ort_session(path, threads=1, optimized=None, optimize=True):
    import onnxruntime as ort
    options = exact_options()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL if optimize else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized:
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ort_nodes(path):
    """[(name, operator, first output)] of the graph that ONNX Runtime runs."""
    import onnx
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "optimized.onnx")
        ort_session(path, optimized=file)
        return [(n.name, n.op_type, n.output[0]) for n in onnx.load(file).graph.node]


def ort_counts(path):
    """(heavy operators in integers, heavy operators in float, [(operator, name) that run in float])."""
    nodes = ort_nodes(path)
    integer = sum(op in ORT_HEAVY for _, op, _ in nodes)
    floats = [(op, name) for name, op, _ in nodes if op.replace("Fused", "") in HEAVY]
    others = [(op, name) for name, op, _ in nodes if op not in ORT_HEAVY and op.replace("Fused", "") not in HEAVY]
    return integer, floats, others


def openvino_nodes(path, threads=1):
    """[(name, layer type, precision it runs in)] of the graph that OpenVINO runs."""
    import openvino as ov
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    out = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        text = lambda key: str(info[key].astype(str)) if key in info else ""
        out.append((op.get_friendly_name(), text("layerType"), text("runtimePrecision"), text("originalLayersNames")))
    return out


def openvino_counts(path):
    nodes = openvino_nodes(path)
    heavy = [n for n in nodes if n[1] in ("Convolution", "Deconvolution", "FullyConnected", "MatMul")]
    integer = [n for n in heavy if n[2].lower() in ("u8", "i8")]
    return len(integer), [n for n in heavy if n not in integer], [n for n in nodes if n not in heavy]
