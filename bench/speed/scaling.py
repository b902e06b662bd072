"""What a second thread brings, also on a machine on which others work: Quern alone, threads 1 and N.

  bench/speed/run.sh --scaling [--networks resnet50 ...] [--threads 2] [--kinds float int8]

The wall clock of two threads says little when there are not two cores free. So the CPU time of every thread is read (threads wait asleep here): the
time of one thread by that of the busiest of N is the speed-up that the division of the work allows; what threads wait for each other within a step is
not in it. The best wall times stand beside it."""
import glob
import json
import os
import subprocess

import numpy as np


def measure(quern, model, how, feed, threads, folder, runs):
    inputs = os.path.join(folder, f"feed-{os.getpid()}.npz")
    np.savez(inputs, **feed)
    process = subprocess.Popen([quern, "bench", model, "--as", how, "--inputs", inputs, "--threads", str(threads), "--paced"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0"))
    process.stdout.readline()
    os.remove(inputs)

    def go(count):
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())["ms"]

    def spent():
        return {t: int(open(t + "/schedstat").read().split()[0]) / 1e6 for t in glob.glob(f"/proc/{process.pid}/task/*")}

    go(3)
    before = spent()
    wall = go(runs)
    after = spent()
    process.stdin.close()
    process.wait()
    return max(after[t] - before.get(t, 0) for t in after) / runs, min(wall)


def table(found, quantized, options, say):
    threads = max(2, options.threads)
    say(f"| network | kind | ms, 1 thread | ms, busiest of {threads} | speed-up it allows | best wall ms, 1 and {threads} threads |\n|---|---|---|---|---|---|")
    for network in found:
        folder = os.path.join(options.work, network.name)
        os.makedirs(folder, exist_ok=True)
        for kind in options.kinds:
            try:
                model, how = (network.model, "float") if kind == "float" else (quantized("quern", network, folder, options), "integer")
                tries = [[measure(options.quern, model, how, network.feed(1), t, folder, 12) for t in (1, threads)] for _ in range(max(1, options.rounds // 3))]
            except Exception as e:
                say(f"| {network.name} | {kind} | fails: {str(e).splitlines()[0][:100]} | | | |")
                continue
            one, many = sorted(t[0][0] for t in tries)[len(tries) // 2], sorted(t[1][0] for t in tries)[len(tries) // 2]
            say(f"| {network.name} | {kind} | {one:.3g} | {many:.3g} | {one / many:.2f} | {min(t[0][1] for t in tries):.3g}, {min(t[1][1] for t in tries):.3g} |")
