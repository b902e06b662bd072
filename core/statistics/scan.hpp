// Passes over dense f32 data: extremes, counts, order statistics. Vector forms by run-time dispatch; the results are exact,
// so all forms agree.
#pragma once
#include <cstdint>

namespace quern {

// Vectors of at most so many bits (512: what the machine has; 256; 128: plain loops). For tests: no result depends on it.
void limit_scan_vectors(int bits);

struct Extremes {
  float low = 0, high = 0;  // never -0
  bool finite = true;       // false: there is a NaN or an infinity, low and high mean nothing
};
Extremes extremes_of(const float* x, int64_t count);  // count >= 1

// The same per column of a [rows][channels] array of finite values, merged into low and high.
void merge_row_extremes(const float* x, int64_t rows, int64_t channels, float* low, float* high);

// Histogram of finite data with all |x| < 2^exponent: bin floor(|x| * 2048 / 2^exponent) of its side; zeros apart.
inline constexpr int histogram_bins = 2048;
inline constexpr int histogram_lowest_exponent = -100;
int histogram_exponent(float largest);  // smallest e >= -100 with largest < 2^e
void count_bins(const float* x, int64_t count, int exponent, int64_t* negative, int64_t* positive, int64_t& zeros);

// Quantile q (0..1) of finite data, or of |x|: linear between the neighbouring order statistics, h = (count - 1) q.
float quantile_of(const float* x, int64_t count, double q, bool absolute);

}  // namespace quern
