// LSTM, GRU and RNN: X [steps, batch, in], W [directions, gates*hidden, in] -> Y, Y_h (and Y_c);
// with layout 1 the batch comes first everywhere but in the weights.
#include <fmt/format.h>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

// An optional input against what it has to be; dims that are not known fit.
void check_input(const RuleScope& s, size_t slot, const char* what, const Dims& wanted) {
  const Dims* have = s.dims(slot);
  if (!have) return;
  bool fits = have->size() == wanted.size();
  for (size_t i = 0; fits && i < wanted.size(); ++i) fits = (*have)[i] < 0 || wanted[i] < 0 || (*have)[i] == wanted[i];
  if (!fits) s.fail(fmt::format("{} has the shape {}, but {} is needed", what, to_string(*have), to_string(wanted)));
}

Outputs recurrent(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  for (size_t i = 0; i < 3; ++i) s.need_rank(i, 3, 3);
  const DType type = s.dtype(0);
  const Dims *x = s.dims(0), *r = s.dims(2);
  const bool batch_first = s.node.integer("layout", 0) != 0;
  const int64_t gates = s.node.op == "LSTM" ? 4 : s.node.op == "GRU" ? 3 : 1;
  const std::string direction = s.node.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    s.fail(fmt::format("direction '{}' is none of forward, reverse, bidirectional", direction));
  const int64_t directions = direction == "bidirectional" ? 2 : 1;
  int64_t hidden = s.node.integer("hidden_size", -1);
  if (hidden < 0 && r) hidden = (*r)[2];
  const int64_t columns = hidden < 0 ? -1 : gates * hidden;
  const int64_t steps = x ? (*x)[batch_first ? 1 : 0] : -1, batch = x ? (*x)[batch_first ? 0 : 1] : -1;
  check_input(s, 1, "W", {directions, columns, x ? (*x)[2] : -1});
  check_input(s, 2, "R", {directions, columns, hidden});
  check_input(s, 3, "B", {directions, columns < 0 ? -1 : 2 * columns});
  check_input(s, 4, "sequence_lens", {batch});
  if (s.given(4) && s.dtype(4) != DType::undefined && s.dtype(4) != DType::s32) s.fail(fmt::format("sequence_lens is of type {}, not s32", name_of(s.dtype(4))));
  const Dims last = batch_first ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden};
  check_input(s, 5, "initial_h", last);
  if (s.node.op == "LSTM") {
    check_input(s, 6, "initial_c", last);
    check_input(s, 7, "P", {directions, hidden < 0 ? -1 : 3 * hidden});
  }
  const Dims all = batch_first ? Dims{batch, steps, directions, hidden} : Dims{steps, directions, batch, hidden};
  return {RuleScope::make(type, all), RuleScope::make(type, last), RuleScope::make(type, last)};
}

}  // namespace

void add_recurrent_rules(RuleTable& t) { t.add({"LSTM", "GRU", "RNN"}, recurrent); }

}  // namespace quern::shape_rules
