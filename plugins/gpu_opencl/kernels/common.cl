// What all kernels share. No a*b+c may become one rounding: the contracts say where an fma is. Divisions do not occur, as OpenCL 1.2 leaves
// their last bits open; add, mul and fma are rounded to nearest even by every device.
#pragma OPENCL FP_CONTRACT OFF

// Codes of signed tensors are flipped to unsigned ones by one xor; zero points are given for those.
inline float16 values16(uchar16 codes, uchar flip, int zero) { return convert_float16(convert_int16(codes ^ flip) - zero); }
inline float value(uchar code, uchar flip, int zero) { return (float)((int)(uchar)(code ^ flip) - zero); }

// What follows the arithmetic of an operator: a clamp, then codes (zero point, round half to even, saturate) or floats.
#define SINK_PARAMETERS float low, float high, float zero_point, float qmin, float qmax, int floats
#define SINK low, high, zero_point, qmin, qmax, floats

inline float16 clamp16(float16 v, float low, float high) {
  v = select(v, (float16)(low), v < (float16)(low));
  return select(v, (float16)(high), v > (float16)(high));
}
inline uchar16 codes16(float16 v, float zero_point, float qmin, float qmax) {
  return convert_uchar16(convert_int16(rint(clamp16(v + zero_point, qmin, qmax))));
}

// `n` of 16 values to element `at` and those `step` behind it.
inline void put16(float16 v, global uchar* out, int at, int step, int n, SINK_PARAMETERS) {
  v = clamp16(v, low, high);
  if (floats) {
    global float* to = (global float*)out + at;
    if (n == 16 && step == 1) {
      vstore16(v, 0, to);
    } else {
      float lanes[16];
      vstore16(v, 0, lanes);
      for (int i = 0; i < n; ++i) to[i * step] = lanes[i];
    }
    return;
  }
  const uchar16 codes = codes16(v, zero_point, qmin, qmax);
  global uchar* to = out + at;
  if (n == 16 && step == 1) {
    vstore16(codes, 0, to);
  } else {
    uchar lanes[16];
    vstore16(codes, 0, lanes);
    for (int i = 0; i < n; ++i) to[i * step] = lanes[i];
  }
}

// `n` of 16 codes from `in` and those `step` behind it; the others are 0.
inline uchar16 take16(global const uchar* in, int step, int n) {
  if (n == 16 && step == 1) return vload16(0, in);
  uchar lanes[16];
  vstore16((uchar16)(0), 0, lanes);
  for (int i = 0; i < n; ++i) lanes[i] = in[i * step];
  return vload16(0, lanes);
}

// a / b, rounded to nearest even, of whole numbers a (below 2^31) and b (below 2^24): with the reciprocal to half a bit, two corrections by
// fma are exact (Markstein 1990, Theorem 8.1: the last step rounds as a division does). `reciprocal` comes from the host.
inline float16 divided16(float16 a, float b, float reciprocal) {
  const float16 y = (float16)(reciprocal), d = (float16)(-b);
  float16 q = a * y;
  q = fma(fma(d, q, a), y, q);
  return fma(fma(d, q, a), y, q);
}
