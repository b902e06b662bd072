"""Quantizes one network with one peer; a process of its own, so that its time and memory can be measured.

  quantize_peer.py TOOL MODEL CALIB.npy OUT

TOOL: ort_minmax, ort_percentile, nncf_onnx_performance, nncf_onnx_mixed, nncf_ov_performance, nncf_ov_mixed."""
import os
import sys

import numpy as np


def onnx_runtime(method, model, calib, out):
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = ort.InferenceSession(model).get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(calib)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {name: row[None]}

    prepared = out + ".prepared.onnx"
    quant_pre_process(model, prepared)
    quantize_static(prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.Percentile if method == "percentile" else CalibrationMethod.MinMax)
    os.remove(prepared)


def nncf_tool(backend, preset, model, calib, out):
    import nncf

    preset = nncf.QuantizationPreset.MIXED if preset == "mixed" else nncf.QuantizationPreset.PERFORMANCE
    if backend == "onnx":
        import onnx
        net = onnx.load(model)
        name = net.graph.input[0].name
        result = nncf.quantize(net, nncf.Dataset(list(calib), lambda r: {name: r[None]}), preset=preset, subset_size=len(calib))
        onnx.save(result, out)
    else:
        import openvino as ov
        from openvino._offline_transformations import apply_moc_transformations
        net = ov.Core().read_model(model)
        apply_moc_transformations(net, cf=True)  # without folded constants NNCF leaves depthwise convolutions in float
        result = nncf.quantize(net, nncf.Dataset(list(calib), lambda r: r[None]), preset=preset, subset_size=len(calib))
        ov.save_model(result, out, compress_to_fp16=False)


tool, model, calib_file, out = sys.argv[1:5]
calib = np.load(calib_file)
kind, *rest = tool.split("_")
if kind == "ort":
    onnx_runtime(rest[0], model, calib, out)
else:
    nncf_tool(rest[0], rest[1], model, calib, out)

print("peak_kib", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
