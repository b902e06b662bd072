// Weights whose sums could leave a saturating accumulator get a coarser scale, so that they can't: the worst case is every input
// at its largest code with the sign of its weight, and the bias beside it. (POT's OverflowCorrection does the same by what was observed.)
// Driven by the rules: of units whose contract is a dot with `overflow: saturate`.
//
// fit_pairs does the same for fast kernels that add two neighbouring products in few bits (x86's vpmaddubsw: 16): where `limits.pair_sum` of the rules
// says what such a sum may be, weights whose two largest (or two least) of a channel could pass it get a coarser scale, at most one bit's worth.
// It is never needed for right results, since kernels are exact; it lets the fast ones run. Weights that fit already are left alone.
#pragma once
#include <string>
#include <vector>

#include "core/placement/placement.hpp"
#include "core/rules/rules.hpp"

namespace quern {

struct FittedWeight {
  std::string node;   // the first unit that reads it
  size_t units = 1;   // all that do
  double worst = 0;   // of their sums before, in ranges of what has to hold them: above 1 one could have saturated
  double factor = 1;  // by which the scale was raised (the largest, of several channels)
  std::string so_that{};  // "no sum can leave the accumulator"
};

// Raises scales in `placement`; one entry for each weight that was changed. Units that share a weight get the same one.
std::vector<FittedWeight> fit_accumulators(const Graph& graph, Placement& placement, const Rules& rules);

enum class SaturationFix { no, first_layer, all };  // first_layer: of units that read an input of the model
// Empty where the rules have no limit `pair_sum`. Depthwise convolutions have no neighbours to add and are left alone.
std::vector<FittedWeight> fit_pairs(const Graph& graph, Placement& placement, const Rules& rules, SaturationFix which);

}  // namespace quern
