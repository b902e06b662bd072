"""The networks of the speed runs: the shared ones beside the project, where they are, and two of random weights (make_networks.py)."""
import json
import os
import subprocess
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def shared_models():
    """The folder of shared networks beside the project (or further up, for a worktree); a path that is not there without them."""
    at = ROOT
    while at != os.path.dirname(at):
        at = os.path.dirname(at)
        if os.path.isdir(os.path.join(at, "shared", "models")):
            break
    return os.path.join(at, "shared", "models")


class Network:
    """`rows`: input name -> calibration samples, each with its batch axis of 1; `batches`: what the model's shape allows."""

    def __init__(self, name, model, rows, batches):
        self.name, self.model, self.rows, self.batches = name, model, rows, batches

    def samples(self, limit):
        count = min(limit, *(len(r) for r in self.rows.values()))
        return [{k: r[i] for k, r in self.rows.items()} for i in range(count)]

    def feed(self, batch):
        return {k: np.ascontiguousarray(np.concatenate([r[i % len(r)] for i in range(batch)])) for k, r in self.rows.items()}


def load(work):
    networks = []
    shared = shared_models()
    plain = [("kws_dscnn", True), ("vww_mobilenetv1", True), ("mnv2_signs", True), ("fastestdet_coco", False), ("unet_nuclei", True),
             ("tinyvit_mnist", False), ("gru_spoken_digits", False), ("ae_mnist100", True)]
    for name, free in plain:
        folder = os.path.join(shared, name)
        if not os.path.isdir(folder):
            print(f"skipped: {name} (no shared models beside the project)", file=sys.stderr)
            continue
        meta = json.load(open(os.path.join(folder, "meta.json")))
        x = (np.load(os.path.join(folder, "calib_x.npy")).astype(np.float32) - np.float32(meta.get("mean", 0))) * np.float32(meta.get("scale", 1))
        networks.append(Network(name, os.path.join(folder, "model.onnx"), {meta["input"]: x[:, None]}, (1, 8) if free else (1,)))
    folder = os.path.join(shared, "dtln_denoise")
    if os.path.isdir(folder):
        for part, inputs in ((1, ("input_2", "input_3")), (2, ("input_4", "input_5"))):
            rows = {i: np.load(os.path.join(folder, f"calib_m{part}_{i}.npy")).astype(np.float32) for i in inputs}
            networks.append(Network(f"dtln_{part}", os.path.join(folder, f"model_{part}.onnx"), rows, (1,)))
    made = os.path.join(work, "networks")
    subprocess.run([sys.executable, os.path.join(HERE, "make_networks.py"), made], check=True)
    images = np.load(os.path.join(made, "images.npz"))["x"][:, None]
    for name in ("mobilenetv2", "resnet50"):
        networks.append(Network(name, os.path.join(made, name + ".onnx"), {"x": images}, (1, 8)))
    return networks
