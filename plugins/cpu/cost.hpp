// A rough model of time on one core of a CPU with VNNI, for searches that compare placements: not a promise.
#pragma once
#include "plugins/cpu/kernel.hpp"

namespace quern_cpu {

// False where shapes are not known.
bool cost(const OpView& op, double& cycles, double& bytes);

}  // namespace quern_cpu
