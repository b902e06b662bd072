// Resize, nearest and linear, as integers: every output element is a weighted sum of the input's at a few places along each
// resized axis. Contract "resample":
//
//   acc = sum over taps of (x - x_zp) * w_height * w_width      exact; weights are integers of weight_one = 2^11 in sum per axis
//   y   = output of float(acc) * ratio                          ratio = s_x / s_y / weight_one^axes
//
// The tables taps_A and weights_A (A: an axis of the input) say, per place of the output, which places and how much of each. nearest
// has one tap of weight 1.
#pragma once
#include "plugins/common/unit.hpp"

namespace quern_common {

inline constexpr int weight_bits = 11;

struct Taps {
  size_t axis = 0;
  int taps = 1;                       // per place of the output
  std::vector<int32_t> index, weight; // [out][taps]
};

// Of each resized axis. Failure where attributes and shapes do not fit each other.
std::vector<Taps> resample_taps(const OpView& op, const Dims& in, const Dims& out);
void emit_taps(const Taps& taps, quern_sdk::TableSink& tables);  // as taps_A and weights_A
bool can_resample(const OpView& op, std::string& reason);

}  // namespace quern_common
