// What this machine can compute at most, measured: multiply-adds from registers alone, nothing loaded or stored. The yardstick
// of `quern bench --profile`.
//
//   MachinePeak peak = measure_peak(1);   // some milliseconds
//   peak.f32;                             // 1e9 operations a second, a multiply-add counts as two
#pragma once
#include <string>

namespace quern {

struct MachinePeak {
  double f32 = 0, int8 = 0;        // Gop/s of all threads together
  std::string f32_by, int8_by;     // "fma avx512", "vpdpbusd avx512"
};
MachinePeak measure_peak(int threads);

}  // namespace quern
