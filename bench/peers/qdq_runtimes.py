"""How fast QDQ files run beside the float model in the same runtime: paired, interleaved, one thread.

    python bench/peers/qdq_runtimes.py FLOAT.onnx OUT_FOLDER [--batch 1 8] [--seconds 2]

OUT_FOLDER is what `quern quantize` wrote with export.qdq [plain, ort, openvino]. Prints, per runtime and batch, the median
milliseconds of float and of each file, and the median of the per-round ratios to float. Needs onnxruntime, and openvino for
its half."""
import argparse
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "e2e"))
import runtimes  # noqa: E402


def ort_runner(path, feeds):
    session = runtimes.ort_session(path)
    names = [i.name for i in session.get_inputs()]
    inputs = dict(zip(names, feeds))
    return lambda: session.run(None, inputs)


def openvino_runner(path, feeds):
    import openvino as ov
    core = ov.Core()
    model = core.read_model(path)
    model.reshape({i.any_name: list(f.shape) for i, f in zip(model.inputs, feeds)})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    for i, f in enumerate(feeds):
        request.set_input_tensor(i, ov.Tensor(f, shared_memory=True))
    return request.infer


def feeds_of(path, batch):
    import onnx
    model = onnx.load(path, load_external_data=False)
    constants = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(0)
    feeds = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else batch for d in value.type.tensor_type.shape.dim]
        if dims and dims[0] != batch:
            return None
        feeds.append(rng.standard_normal(dims).astype(np.float32))
    return feeds


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("folder")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    p.add_argument("--seconds", type=float, default=2)
    a = p.parse_args()
    makers = {"onnxruntime": ort_runner, "openvino": openvino_runner}
    for runtime, make in makers.items():
        try:
            __import__(runtime)
        except ImportError:
            print(f"{runtime}: not installed, left out")
            continue
        for batch in a.batch:
            feeds = feeds_of(a.model, batch)
            if feeds is None:
                print(f"{runtime} batch {batch}: the model's batch is fixed, left out")
                continue
            files = {"float": a.model}
            for name in ("model.onnx", "model.ort.onnx", "model.openvino.onnx"):
                if os.path.exists(os.path.join(a.folder, name)):
                    files[name] = os.path.join(a.folder, name)
            runners = {k: make(v, feeds) for k, v in files.items()}
            for run in runners.values():
                run()
            once = time.perf_counter()
            for run in runners.values():
                run()
            repeat = max(1, int(0.02 / max(1e-6, (time.perf_counter() - once) / len(runners))))
            times = {k: [] for k in runners}
            end = time.perf_counter() + a.seconds * len(runners)
            order = list(runners)
            while time.perf_counter() < end or len(times["float"]) < 7:
                order = order[1:] + order[:1]
                for k in order:
                    start = time.perf_counter()
                    for _ in range(repeat):
                        runners[k]()
                    times[k].append((time.perf_counter() - start) / repeat * 1e3)
            ratio = {k: np.median(np.array(t) / np.array(times["float"])) for k, t in times.items()}
            print(f"{runtime} batch {batch}: " + ", ".join(f"{k} {np.median(t):.3f} ms ({ratio[k]:.2f})" for k, t in times.items()), flush=True)


if __name__ == "__main__":
    main()
