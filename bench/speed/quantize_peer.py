"""Quantizes one network with one peer, in a process of its own.

  quantize_peer.py ort|nncf MODEL CALIB.npz OUT

ort: ONNX Runtime's quantize_static, QDQ, min-max, u8 activations, s8 weights per channel (the form that its kernels are fastest on).
nncf: NNCF's IR for OpenVINO with constants folded first (otherwise depthwise convolutions stay in float).
CALIB.npz: an array per input, axis 0 the sample, each sample with its batch axis."""
import os
import sys

import numpy as np

tool, model, calib, out = sys.argv[1:5]
data = np.load(calib)
names = data.files
samples = [{n: data[n][i] for n in names} for i in range(len(data[names[0]]))]
if tool == "ort":
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(samples)

        def get_next(self):
            return next(self.rows, None)

    prepared = out + ".prepared.onnx"
    try:
        quant_pre_process(model, prepared)
    except Exception:
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax)
    os.remove(prepared)
else:
    import nncf
    import openvino as ov
    from openvino._offline_transformations import apply_moc_transformations

    net = ov.Core().read_model(model)
    apply_moc_transformations(net, cf=True)
    result = nncf.quantize(net, nncf.Dataset(samples), preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=len(samples))
    ov.save_model(result, out, compress_to_fp16=False)
