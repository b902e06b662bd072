#include "plugins/cpu/rows.hpp"

namespace quern_cpu {

const Rows& rows() {
  static const Rows& best = []() -> const Rows& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
      return avx512_rows();
    if (__builtin_cpu_supports("avx2")) return avx2_rows();
    return scalar_rows();
  }();
  return best;
}

}  // namespace quern_cpu
