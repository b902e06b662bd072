// Elementary functions of fixed evaluation: the same bits on every x86-64, whatever libm, CPU or compiler flags.
// (libm's exp, tanh, erf choose code by CPU.) Polynomials in double without fma; error bounds stated and tested.
// Used for tables, and for reproducible float kernels (Softmax, Sigmoid, Gelu, ...), rounded once to f32.
#pragma once

namespace quern::portable {

double exp(double x);       // <= 1 ulp of double
double log(double x);      // <= 1.5 ulp
double tanh(double x);     // <= 5 ulp
double erf(double x);      // <= 2 ulp
double sigmoid(double x);  // <= 3 ulp
inline float exp(float x) { return static_cast<float>(exp(static_cast<double>(x))); }
inline float tanh(float x) { return static_cast<float>(tanh(static_cast<double>(x))); }
inline float erf(float x) { return static_cast<float>(erf(static_cast<double>(x))); }
inline float sigmoid(float x) { return static_cast<float>(sigmoid(static_cast<double>(x))); }
inline float log(float x) { return static_cast<float>(log(static_cast<double>(x))); }
// The speed version for arrays: f32 exp by a polynomial in f32 with fixed order (<= 2 ulp), the same bits in its scalar and
// vector forms (AVX2 where the CPU has it). `in` and `out` may be the same.
void exp_array(const float* in, float* out, long count);

// 1 / (1 + e^-x) and tanh on arrays, on the same exponential: f32, <= 4 ulp, the same bits in both forms; `in` and `out` may be
// the same.
void sigmoid_array(const float* in, float* out, long count);
void tanh_array(const float* in, float* out, long count);

// The scalar forms alone, for tests and for single values.
void exp_array_scalar(const float* in, float* out, long count);
void sigmoid_array_scalar(const float* in, float* out, long count);
void tanh_array_scalar(const float* in, float* out, long count);

// Activations of arrays in f32, on the same terms: a fixed order of + - * /, so the same bits in every vector width. Relative error
// <= 1e-6 near 0, 8e-6 where an exponent is large; below 1e-35 the result is only small. `in` and `out` may be the same.
void swish_array(const float* in, float* out, long count, float alpha);  // x / (1 + e^(-alpha x))
void gelu_array(const float* in, float* out, long count);                // x * (1 + erf(x / sqrt 2)) / 2
void gelu_tanh_array(const float* in, float* out, long count);           // its approximation by tanh
void mish_array(const float* in, float* out, long count);                // x * tanh(log(1 + e^x))

}  // namespace quern::portable
