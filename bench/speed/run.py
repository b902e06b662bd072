"""How fast Quern runs networks, beside ONNX Runtime and OpenVINO.

  bench/speed/run.sh [--networks NAME ...] [--batches 1 8] [--threads 1] [--rounds 11] [--kinds float int8] [--clock wall|cpu] [--out FILE.md] [--json FILE.json]

Method: every contestant keeps its model warm (Quern in a process of its own, the peers in this one). They take turns, in another order
each round; a turn is as many inferences as take about --turn ms, and its result is their median (clock wall) or mean CPU time of the process
(clock cpu: for a machine on which others work; 1 thread only). A ratio is taken per round, so that what slows the machine down for a while slows both;
the table shows the median of the ratios and their quartiles. All are pinned to the same cores.

int8 contestants: ONNX Runtime with its QDQ file of u8 activations and s8 per-channel weights; OpenVINO with the faster of that file and NNCF's own IR.
Every quantized file is made once, from the same samples, and kept in build/speed."""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys

import numpy as np

import contestants
import networks
import scaling

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = networks.ROOT


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def quantized(tool, network, folder, options):
    """The file of a peer, or Quern's folder; made when it is not there. Raises RuntimeError with the tool's last words."""
    calib = os.path.join(folder, "calib.npz")
    if not os.path.exists(calib):
        samples = network.samples(options.samples)
        np.savez(calib, **{k: np.stack([s[k] for s in samples]) for k in samples[0]})
    if tool == "quern":
        out = os.path.join(folder, "quern-" + options.target.replace(":", "-"))
        if os.path.exists(os.path.join(out, "package", "index.json")) and not options.requantize:
            return out
        config = os.path.join(folder, "quern.yaml")
        inputs = ", ".join(f"{json.dumps(k)}: {json.dumps(k)}" for k in network.rows)
        with open(config, "w") as f:
            f.write(f"quern: 1\nmodel: {json.dumps(network.model)}\ntarget: {{device: cpu}}\ndata:\n"
                    f"  calibration: {{reader: npz, path: calib.npz, inputs: {{{inputs}}}}}\noutput: quern/\n")
        command = [options.quern, "quantize", config, "-o", out, "--skip-evaluation", "--target", options.target]
    else:
        out = os.path.join(folder, "ort.onnx" if tool == "ort" else "nncf.xml")
        failed = out + ".failed"
        if os.path.exists(failed):
            raise RuntimeError(open(failed).read())
        if os.path.exists(out):
            return out
        command = [sys.executable, os.path.join(HERE, "quantize_peer.py"), tool, network.model, calib, out]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        words = [l for l in done.stdout.strip().splitlines() if l.strip()] or ["failed"]
        text = next((l for l in words if l.startswith("quern:")), words[-1])
        if tool != "quern":
            with open(failed, "w") as f:
                f.write(text)
        raise RuntimeError(text)
    return out


def contenders(kind, network, batch, threads, folder, options):
    """name -> contestant, and name -> why it is missing."""
    feed, found, missing = network.feed(batch), {}, {}

    def attempt(name, make):
        try:
            found[name] = make()
        except Exception as e:  # a peer may fail in any way; the table says how
            missing[name] = str(e).strip().splitlines()[0][:160] if str(e).strip() else type(e).__name__

    if kind == "float":
        attempt("quern", lambda: contestants.Quern(options.quern, network.model, "float", feed, threads, folder))
        attempt("ort", lambda: contestants.Ort(network.model, feed, threads))
        attempt("openvino", lambda: contestants.OpenVino(network.model, feed, threads))
    else:
        attempt("quern", lambda: contestants.Quern(options.quern, quantized("quern", network, folder, options), "integer", feed, threads, folder))
        attempt("ort", lambda: contestants.Ort(quantized("ort", network, folder, options), feed, threads))
        attempt("openvino_qdq", lambda: contestants.OpenVino(quantized("ort", network, folder, options), feed, threads))
        attempt("openvino_nncf", lambda: contestants.OpenVino(quantized("nncf", network, folder, options), feed, threads))
    return found, missing


def measure(found, options):
    """name -> ms per round."""
    clock = 1 if options.clock == "cpu" else 0
    counts = {}
    for name, c in found.items():  # warm up
        c.runs(3)
        once = max(1e-3, min(c.runs(3)[0], c.runs(3)[0]))
        counts[name] = max(3, min(2000, int(options.turn / once)))
        c.runs(counts[name])
    rounds = {name: [] for name in found}
    names = list(found)
    for r in range(options.rounds):
        shift = r % len(names)
        for name in names[shift:] + names[:shift]:
            rounds[name].append(found[name].runs(counts[name])[clock])
    return rounds


def ratios(a, b):
    each = sorted(x / y for x, y in zip(a, b))
    at = lambda q: each[min(len(each) - 1, int(q * len(each)))]
    return statistics.median(each), at(0.25), at(0.75)


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


FLOORS = {("float", "ort"): (1.1, 1.0), ("int8", "ort"): (1.0, 0.85), ("int8", "openvino"): (None, 1.0)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="*")
    parser.add_argument("--kinds", nargs="*", default=["float", "int8"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="cores to run on, 1 or 0,1 (default: the last ones)")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--turn", type=float, default=30, help="ms of a turn")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--target", default="cpu", help="Quern's target, cpu or cpu:PROFILE")
    parser.add_argument("--requantize", action="store_true", help="make Quern's packages again")
    parser.add_argument("--quern", default=os.path.join(ROOT, "build", "release", "bin", "quern"))
    parser.add_argument("--work", default=os.path.join(ROOT, "build", "speed"))
    parser.add_argument("--scaling", action="store_true", help="what --threads threads bring, of Quern alone (scaling.py)")
    parser.add_argument("--out")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu tells nothing about more than one thread")
    os.makedirs(options.work, exist_ok=True)
    cores = [int(c) for c in options.cores.split(",")] if options.cores else sorted(os.sched_getaffinity(0))[-options.threads:]
    every_core = os.sched_getaffinity(0)
    lines, results = [], []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    if options.scaling:
        scaling.table([n for n in networks.load(options.work) if not options.networks or n.name in options.networks], quantized, options, say)
        return
    import onnxruntime
    import openvino
    say(f"{cpu_name()}, core {','.join(map(str, cores))}; {options.threads} thread{'s' if options.threads > 1 else ''}; {options.clock} clock; {options.rounds} rounds of about "
        f"{options.turn:g} ms; ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}; median of the ratios per round (quartiles)\n")
    say("| network | kind | batch | Quern ms | ORT ms | OpenVINO ms | Quern / ORT | Quern / OpenVINO |\n|---|---|---|---|---|---|---|---|")
    for network in networks.load(options.work):
        if options.networks and network.name not in options.networks:
            continue
        folder = os.path.join(options.work, network.name)
        os.makedirs(folder, exist_ok=True)
        for kind in options.kinds:
            for batch in options.batches:
                if batch not in network.batches:
                    say(f"| {network.name} | {kind} | {batch} | the model's batch is fixed to 1 | | | | |")
                    continue
                os.sched_setaffinity(0, cores)
                found, missing = contenders(kind, network, batch, options.threads, folder, options)
                rounds = measure(found, options)
                for c in found.values():
                    c.close()
                os.sched_setaffinity(0, every_core)
                names = [n for n in rounds if n.startswith("openvino")]
                if names:  # the faster file
                    best = min(names, key=lambda n: statistics.median(rounds[n]))
                    rounds["openvino"] = rounds[best]
                    label = " (" + best.split("_")[1] + ")" if "_" in best else ""
                ms = {n: statistics.median(r) for n, r in rounds.items()}
                row = {"network": network.name, "kind": kind, "batch": batch, "threads": options.threads, "ms": ms, "missing": missing, "ratios": {}}
                for peer in ("ort", "openvino"):
                    if peer in rounds and "quern" in rounds:
                        row["ratios"][peer] = ratios(rounds["quern"], rounds[peer])
                results.append(row)
                shown = lambda n, extra="": f"{ms[n]:.4g}{extra}" if n in ms else "fails"
                ratio = lambda n: "{:.2f} ({:.2f}-{:.2f})".format(*row["ratios"][n]) if n in row["ratios"] else ""
                say(f"| {network.name} | {kind} | {batch} | {shown('quern')} | {shown('ort')} | {shown('openvino', label if names else '')} | {ratio('ort')} | {ratio('openvino')} |")
                for name, why in missing.items():
                    say(f"<!-- {network.name} {kind} {batch}: {name}: {why} -->")
    say("\n| against | kind | batch | networks | geometric mean | floor | worst | floor of each |\n|---|---|---|---|---|---|---|---|")
    for kind in options.kinds:
        for peer in ("ort", "openvino"):
            for batch in options.batches:
                rows = [(r["ratios"][peer][0], r["network"]) for r in results if r["kind"] == kind and r["batch"] == batch and peer in r["ratios"]]
                if not rows:
                    continue
                mean, worst = geometric_mean([v for v, _ in rows]), max(rows)
                each, floor = FLOORS.get((kind, peer), (None, None))
                held = lambda v, limit: "" if limit is None else f"{limit} {'holds' if v <= limit else 'MISSED'}"
                over = ", ".join(f"{n} {v:.2f}" for v, n in sorted(rows, reverse=True) if each and v > each)
                say(f"| {peer} | {kind} | {batch} | {len(rows)} | {mean:.3f} | {held(mean, floor)} | {worst[1]} {worst[0]:.2f} | {held(worst[0], each)}{': ' + over if over else ''} |")
    if options.out:
        with open(options.out, "w") as f:
            f.write("\n".join(lines) + "\n")
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=1)


main()
