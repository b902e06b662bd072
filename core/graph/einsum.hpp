// The equation of an Einsum, read once for all: shape rule, rewrite and kernel.
//
//   Einsum e = parse_einsum("...ij,jk->...ik", {3, 2});
//   e.terms = {{E0, i, j}, {j, k}};  e.output = {E0, i, k}      // labels are small numbers; E0: an axis of the ellipsis
//
// Axes of an ellipsis are labels like others, numbered from the right, so that operands of different rank broadcast.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace quern {

struct Einsum {
  std::vector<std::vector<int>> terms;  // per operand, per axis
  std::vector<int> output;
  int labels = 0;
  std::vector<std::string> names;       // of labels, for messages: "i", "...0"
};

// Error(model) with the equation when it is not well formed or does not fit the ranks.
Einsum parse_einsum(const std::string& equation, std::span<const int64_t> ranks);

}  // namespace quern
