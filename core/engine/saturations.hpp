// State of kernels whose accumulators can saturate.
#pragma once
#include "core/engine/provider.hpp"

namespace quern {

struct SaturatingState : KernelState {
  uint64_t saturations = 0;  // of the last run: sums that an accumulator cut off, where the contract says `saturate`
};

}  // namespace quern
