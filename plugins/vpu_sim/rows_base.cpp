#include <cstring>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace base {
namespace {

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"base", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace base
}  // namespace quern_vpu
