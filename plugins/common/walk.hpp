// Walking tensors of any strides together: their axes in the order of the output's memory, joined where every tensor allows it.
#pragma once
#include <array>

#include "plugins/common/unit.hpp"

namespace quern_common {

inline constexpr size_t most_operands = 2;

// Dims and strides put into the order of the output's memory, with axes joined where every tensor allows it.
struct Walk {
  Dims dims, out;               // outermost first; never empty
  std::array<Dims, most_operands> in;
  size_t operands = 0;
};
Walk make_walk(const Dims& dims, const Dims& out, const std::vector<Dims>& in);

// Strides of `t` as seen from dims it is broadcast to (0 along broadcast axes). Failure where it does not fit.
Dims broadcast_strides(const quern_tensor& t, const Dims& to);
Dims row_major_strides(const Dims& dims);
bool is_row_major(const quern_tensor& t);

}  // namespace quern_common
