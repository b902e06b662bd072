// Weights whose sums could leave a saturating accumulator get a coarser scale, so that they can't: the worst case is every input
// at its largest code with the sign of its weight, and the bias beside it. (POT's OverflowCorrection does the same by what was observed.)
// Driven by the rules: of units whose contract is a dot with `overflow: saturate`.
#pragma once
#include <string>
#include <vector>

#include "core/placement/placement.hpp"
#include "core/rules/rules.hpp"

namespace quern {

struct FittedWeight {
  std::string node;   // the first unit that reads it
  size_t units = 1;   // all that do
  double worst = 0;   // of their sums before, in accumulator ranges: above 1 one could have saturated
  double factor = 1;  // by which the scale was raised (the largest, of several channels)
};

// Raises scales in `placement`; one entry for each weight that was changed. Units that share a weight get the same one.
std::vector<FittedWeight> fit_accumulators(const Graph& graph, Placement& placement, const Rules& rules);

}  // namespace quern
