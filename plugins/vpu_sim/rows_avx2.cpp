#include <cstring>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace avx2 {
namespace {

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"avx2", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace avx2
}  // namespace quern_vpu
