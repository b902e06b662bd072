"""Quern beside ONNX Runtime's and NNCF's quantizers: the same networks, data and threads, one table.

  bench/peers/run.sh [--networks NAME ...] [--samples N] [--out FILE]

Metric and SQNR are of the integer result: ONNX Runtime's and NNCF's ONNX files in ONNX Runtime, NNCF's IR in OpenVINO, Quern's package by
its own kernels. Seconds are CPU seconds of the whole quantizing process (user + system, imports included), memory is its peak
resident size as the kernel counts it for the process itself (VmHWM; what getrusage says is inherited from the parent). Inference is
the median of interleaved single-thread, batch-1 calls on this machine. SE: standard error of the paired difference to float, in points."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODELS = os.path.join(os.path.dirname(ROOT), "shared", "models")
QUERN = os.path.join(ROOT, "build", "release", "bin", "quern")
TOOLS = ["ort_minmax", "ort_percentile", "nncf_onnx_performance", "nncf_onnx_mixed", "nncf_ov_performance", "nncf_ov_mixed", "quern"]


def networks(samples):
    """name -> (model, calibration, evaluation, labels or None)"""
    out = {}
    example = np.load(os.path.join(ROOT, "examples", "digits", "data.npz"))
    out["digits"] = (os.path.join(ROOT, "examples", "digits", "digits.onnx"), example["x_calib"][:samples], example["x_eval"], example["y_eval"])
    for name, file in [("kws_dscnn", "model"), ("vww_mobilenetv1", "model"), ("mnv2_signs", "model"), ("mnv2_signs", "model_stretched")]:
        folder = os.path.join(MODELS, name)
        if not os.path.isdir(folder):
            print(f"skipped: {name} (no shared models beside the project)")
            continue
        meta = json.load(open(os.path.join(folder, "meta.json")))
        real = lambda f: ((np.load(os.path.join(folder, f)).astype(np.float32) - np.float32(meta["mean"])) * np.float32(meta["scale"]))
        labels = os.path.join(folder, "eval_y.npy")
        out[name + ("_stretched" if "stretched" in file else "")] = (
            os.path.join(folder, file + ".onnx"), real("calib_x.npy")[:samples], real("eval_x.npy"), np.load(labels) if os.path.exists(labels) else None)
    return out


def measured(command):
    """Runs a command; (seconds of CPU, wall seconds, peak MiB) or None with its last words."""
    begin = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        return None, text.strip().splitlines()[-1] if text.strip() else "failed"
    peak = [line.split()[1] for line in text.splitlines() if line.startswith("peak_kib")]
    return (usage.ru_utime + usage.ru_stime, time.time() - begin, int(peak[-1]) / 1024 if peak else 0), ""


class Ort:
    def __init__(self, file):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(file, options)
        self.name = self.session.get_inputs()[0].name

    def __call__(self, row):
        return self.session.run(None, {self.name: row})[0]


class OpenVino:
    def __init__(self, file):
        import openvino as ov
        self.net = ov.Core().compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"})

    def __call__(self, row):
        return self.net([row])[0]


def milliseconds(call, row, runs=200):
    for _ in range(20):
        call(row)
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call(row)
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def quern_outputs(model, kind, x, name, folder):
    np.savez(os.path.join(folder, "in.npz"), **{name: x})
    subprocess.run([QUERN, "run", model, "--inputs", os.path.join(folder, "in.npz"), "--as", kind, "--outputs", os.path.join(folder, "out.npz"), "--each"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with np.load(os.path.join(folder, "out.npz")) as out:
        result = out[out.files[0]]
    return result.reshape(len(x), -1)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--networks", nargs="*")
    arguments.add_argument("--samples", type=int, default=300)
    arguments.add_argument("--tools", nargs="*", default=TOOLS)
    arguments.add_argument("--work", default=os.path.join(ROOT, "build", "peers"))
    arguments.add_argument("--out")
    arguments.add_argument("--quern-pipeline", default="", help="YAML text of a pipeline instead of the default one")
    options = arguments.parse_args()
    lines = ["| network (metric) | tool | metric | diff, SE (points) | SQNR dB | CPU s | wall s | peak MiB | ms / sample |", "|---|---|---|---|---|---|---|---|---|"]
    print(*lines, sep="\n", flush=True)
    for network, (model, calib, x, y) in networks(options.samples).items():
        if options.networks and network not in options.networks:
            continue
        folder = os.path.join(options.work, network)
        os.makedirs(folder, exist_ok=True)
        np.save(os.path.join(folder, "calib.npy"), calib)
        reference = Ort(model)
        ref = np.concatenate([reference(r[None]) for r in x]).reshape(len(x), -1)
        target = y if y is not None else ref.argmax(1)
        right = ref.argmax(1) == target
        rows = [("float (ONNX Runtime)", ref, None, milliseconds(reference, x[:1]))]
        for tool in options.tools:
            out = os.path.join(folder, tool + (".xml" if "_ov_" in tool else ".onnx"))
            if tool == "quern":
                out = os.path.join(folder, "quern")
                np.savez(os.path.join(folder, "data.npz"), x=calib, e=x, **({} if y is None else {"y": y}))
                config = os.path.join(folder, "quern.yaml")
                labels = ", labels: y" if y is not None else ""
                with open(config, "w") as f:
                    f.write(f"quern: 1\nmodel: {model}\ntarget: {{device: cpu}}\ndata:\n"
                            f"  calibration: {{reader: npz, path: data.npz, inputs: {{{json.dumps(reference.name)}: x}}}}\n"
                            f"  evaluation: {{reader: npz, path: data.npz, inputs: {{{json.dumps(reference.name)}: e}}{labels}}}\n"
                            f"metric: {'top1' if y is not None else 'agreement'}\n{options.quern_pipeline}\noutput: quern/\n")
                cost, why = measured([QUERN, "quantize", config, "-o", out, "--threads", "1"])
                if cost:
                    cost = (*cost[:2], json.load(open(os.path.join(out, "report.json")))["timing"]["peak_memory_bytes"] / 2**20)
            else:
                cost, why = measured([sys.executable, os.path.join(HERE, "quantize_peer.py"), tool, model, os.path.join(folder, "calib.npy"), out])
            if cost is None:
                rows.append((tool, None, why, None))
                continue
            if tool == "quern":
                bench = subprocess.run([QUERN, "bench", out, "--as", "integer", "--batch", "1", "--threads", "1", "--json"], check=True, stdout=subprocess.PIPE, text=True)
                rows.append((tool, quern_outputs(out, "integer", x, reference.name, folder), cost, json.loads(bench.stdout)["median_ms"]))
                bench = subprocess.run([QUERN, "bench", model, "--as", "float", "--batch", "1", "--threads", "1", "--json"], check=True, stdout=subprocess.PIPE, text=True)
                rows.append(("quern float", quern_outputs(model, "float", x, reference.name, folder), None, json.loads(bench.stdout)["median_ms"]))
            else:
                run = OpenVino(out) if "_ov_" in tool else Ort(out)
                rows.append((tool, np.concatenate([run(r[None]) for r in x]).reshape(len(x), -1), cost, milliseconds(run, x[:1])))
        for tool, result, cost, ms in rows:
            if result is None:
                line = f"| {network} | {tool} | fails: {cost} | | | | | | |"
            else:
                hit = result.argmax(1) == target
                difference = hit.astype(float) - right.astype(float)
                error = 100 * difference.std(ddof=1) / np.sqrt(len(x))
                noise = float(((result.astype(np.float64) - ref) ** 2).sum())
                sqnr = "inf" if noise == 0 else f"{10 * np.log10(float((ref.astype(np.float64) ** 2).sum()) / noise):.1f}"
                costs = f"{cost[0]:.2f} | {cost[1]:.2f} | {cost[2]:.0f}" if cost else "| |"
                line = (f"| {network} ({'top1' if y is not None else 'agreement'}) | {tool} | {hit.mean():.4f} | {100 * difference.mean():+.2f}, {error:.2f} | "
                        f"{sqnr} | {costs} | {ms:.3f} |")
            print(line, flush=True)
            lines.append(line)
    if options.out:
        with open(options.out, "w") as f:
            f.write("\n".join(lines) + "\n")


main()
