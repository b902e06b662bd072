#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {

namespace base { extern const Rows table; }
namespace avx2 { extern const Rows table; }
namespace avx512 { extern const Rows table; }

const Rows& rows_base() { return base::table; }
const Rows* rows_avx2() { return __builtin_cpu_supports("avx2") ? &avx2::table : nullptr; }
const Rows* rows_avx512() {
  const bool all = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return all ? &avx512::table : nullptr;
}

const Rows& rows() {
  static const Rows& best = rows_avx512() ? *rows_avx512() : rows_avx2() ? *rows_avx2() : rows_base();
  return best;
}

}  // namespace quern_vpu
