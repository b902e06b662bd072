// Slice, Gather along one axis, Pad, Tile and Expand as one thing: along every axis of the output, a list of runs, each taken
// from places of the input that lie a fixed step apart, or filled with one code.
//
//   Pad [1, 2] of 3 elements, mode edge:  runs {out 0, n 1, in 0, step 0}, {1, 3, 0, 1}, {4, 2, 2, 0}
#pragma once
#include <optional>

#include "plugins/common/unit.hpp"

namespace quern_common {

struct Run {
  int64_t out = 0, count = 0, in = 0, step = 1;
  bool fill = false;
};

struct Selection {
  std::vector<std::vector<Run>> axes;  // per axis of the output
  std::vector<int> input_axis;         // which axis of the input it goes along; -1: none (a new axis of Expand)
  std::vector<int64_t> dropped;        // per axis of the input without one of the output: the index taken there; else -1
};

bool is_selection(std::string_view op);
// What the unit selects, at complete shapes. Failure where its attributes and shapes do not fit each other.
Selection selection_of(const OpView& op, const Dims& in, const Dims& out);
// The code that a Pad of mode constant adds: its value in the numbers of the input.
uint8_t pad_code(const OpView& op);
// What can't be selected, whatever the shapes; false with the reason.
bool can_select(const OpView& op, std::string& reason);

// Input `slot` of the first member as integers; none: absent. Failure unless it is a constant.
std::optional<std::vector<int64_t>> integers_at(const OpView& op, size_t slot);

}  // namespace quern_common
