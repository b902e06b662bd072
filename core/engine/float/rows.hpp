// Sums over dense rows in a fixed pattern of eight partial sums: element i goes to sum i mod 8, and the eight are added as
// ((0+4)+(2+6)) + ((1+5)+(3+7)). Any vector width computes the same bits.
#pragma once
#include <cstdint>

namespace quern::own {

template <class T, class F>
[[gnu::always_inline]] inline double sum_row(const T* x, int64_t n, const F& f) {
  double s[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) s[j] += f(static_cast<double>(x[i + j]));
  for (int j = 0; i < n; ++i, ++j) s[j] += f(static_cast<double>(x[i]));
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

template <class T>
[[gnu::always_inline]] inline double sum_row(const T* x, int64_t n) { return sum_row(x, n, [](double v) { return v; }); }

}  // namespace quern::own
