"""Programs that run one network, each with its model warm, its input in place and its output allocated beforehand.

  c = Ort(file, feed, threads);  wall, cpu = c.runs(20)    # ms of one inference: the median of 20 by the wall clock; CPU time of the process / 20"""
import json
import os
import statistics
import subprocess
import time

import numpy as np


class InProcess:
    def runs(self, count):
        call, times = self.call, []
        cpu = time.process_time()
        for _ in range(count):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return 1e3 * statistics.median(times), 1e3 * (time.process_time() - cpu) / count

    def close(self):
        pass


class Ort(InProcess):
    def __init__(self, file, feed, threads):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        self.keep = [session, binding]
        for name, value in feed.items():
            self.keep.append(ort.OrtValue.ortvalue_from_numpy(value))
            binding.bind_ortvalue_input(name, self.keep[-1])
        for node, value in zip(session.get_outputs(), session.run(None, feed)):
            self.keep.append(ort.OrtValue.ortvalue_from_numpy(value))
            binding.bind_ortvalue_output(node.name, self.keep[-1])
        run, binding = session._sess.run_with_iobinding, binding._iobinding
        self.call = lambda: run(binding, None)


class OpenVino(InProcess):
    def __init__(self, file, feed, threads):
        import openvino as ov
        from openvino._pyopenvino import InferRequest
        core = ov.Core()
        model = core.read_model(file)
        model.reshape({name: value.shape for name, value in feed.items()})
        net = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                                                "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False})
        request = net.create_infer_request()
        for name, value in feed.items():
            request.set_tensor(name, ov.Tensor(value, shared_memory=True))
        # The binding's own call: what the Python wrapper adds (a dictionary of copied results) is left out.
        self.keep = [net, request, feed]
        infer = InferRequest.infer
        self.call = lambda: infer(request, {}, True, False)


class Quern:
    """A long-lived `quern bench --paced`."""

    def __init__(self, quern, model, how, feed, threads, work):
        inputs = os.path.join(work, f"feed-{os.getpid()}.npz")
        np.savez(inputs, **feed)
        self.process = subprocess.Popen([quern, "bench", model, "--as", how, "--inputs", inputs, "--threads", str(threads), "--paced"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "active" if threads > 1 else "passive")))
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip().splitlines()[0])
        os.remove(inputs)

    def runs(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return statistics.median(answer["ms"]), answer["cpu_ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
