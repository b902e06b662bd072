"""What `quern quantize` takes in memory, stage by stage: anonymous and file-backed (RssAnon, RssFile), and the peak.

    python bench/memory.py CONFIG [--quern build/release/bin/quern] [more arguments of quantize]

Polls /proc while the command runs. Anonymous memory is what the machine has to have; file-backed pages (mapped weights and data)
go when they are needed for something else."""
import os
import subprocess
import sys
import threading
import time


def watch(command):
    """[(seconds, anon kB, file kB)], [(seconds, line of stderr)], peak RSS in kB, exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    rows, lines, done = [], [], threading.Event()

    def poll():
        while not done.is_set():
            try:
                with open(f"/proc/{process.pid}/status") as f:
                    d = {k: int(v.split()[0]) for k, v in (l.split(":", 1) for l in f) if k in ("RssAnon", "RssFile", "VmHWM")}
                rows.append((time.time(), d.get("RssAnon", 0), d.get("RssFile", 0), d.get("VmHWM", 0)))
            except (OSError, ValueError):
                pass
            time.sleep(0.002)

    thread = threading.Thread(target=poll)
    thread.start()
    for line in process.stderr:
        lines.append((time.time(), line.strip()))
    process.wait()
    done.set()
    thread.join()
    return [r[:3] for r in rows], lines, max((r[3] for r in rows), default=0), process.returncode


def main():
    arguments = sys.argv[1:]
    quern = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "release", "bin", "quern")
    if "--quern" in arguments:
        at = arguments.index("--quern")
        quern = arguments[at + 1]
        del arguments[at:at + 2]
    rows, lines, peak, code = watch([quern, "quantize", *arguments])
    last = 0
    for at, line in lines + [(float("inf"), "(writing)")]:
        part = [r for r in rows if last <= r[0] <= at] or rows[-1:]
        print(f"{line[:46]:<46} anonymous {max(r[1] for r in part) / 1024:7.1f} MB   of files {max(r[2] for r in part) / 1024:7.1f} MB")
        last = at
    print(f"peak: {peak / 1024:.1f} MB in all, {max(r[1] for r in rows) / 1024:.1f} MB anonymous; exit code {code}")
    sys.exit(code)


if __name__ == "__main__":
    main()
