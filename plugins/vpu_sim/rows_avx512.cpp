#include <cstring>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace avx512 {
namespace {

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"avx512", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace avx512
}  // namespace quern_vpu
