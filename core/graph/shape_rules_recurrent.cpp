// LSTM, GRU and RNN: X [steps, batch, in], W [directions, gates*hidden, in] -> Y, Y_h (and Y_c).
#include <fmt/format.h>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

Outputs recurrent(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  for (size_t i = 0; i < 3; ++i) s.need_rank(i, 3, 3);
  const DType type = s.dtype(0);
  const Dims *x = s.dims(0), *w = s.dims(1), *r = s.dims(2);
  const bool batch_first = s.node.integer("layout", 0) != 0;
  const int64_t gates = s.node.op == "LSTM" ? 4 : s.node.op == "GRU" ? 3 : 1;
  const int64_t directions = s.node.text("direction", "forward") == "bidirectional" ? 2 : 1;
  int64_t hidden = s.node.integer("hidden_size", -1);
  if (hidden < 0 && r) hidden = (*r)[2];
  if (w && x && (*w)[2] >= 0 && (*x)[2] >= 0 && (*w)[2] != (*x)[2])
    s.fail(fmt::format("weights of shape {} do not fit an input of shape {}", to_string(*w), to_string(*x)));
  if (w && hidden >= 0 && (((*w)[1] >= 0 && (*w)[1] != gates * hidden) || ((*w)[0] >= 0 && (*w)[0] != directions)))
    s.fail(fmt::format("weights of shape {} do not fit {} direction(s) of {} hidden units", to_string(*w), directions, hidden));
  if (r && hidden >= 0 && (((*r)[1] >= 0 && (*r)[1] != gates * hidden) || ((*r)[2] >= 0 && (*r)[2] != hidden)))
    s.fail(fmt::format("recurrence weights of shape {} do not fit {} hidden units", to_string(*r), hidden));
  const int64_t steps = x ? (*x)[batch_first ? 1 : 0] : -1, batch = x ? (*x)[batch_first ? 0 : 1] : -1;
  const Dims all = batch_first ? Dims{batch, steps, directions, hidden} : Dims{steps, directions, batch, hidden};
  const Dims last = batch_first ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden};
  return {RuleScope::make(type, all), RuleScope::make(type, last), RuleScope::make(type, last)};
}

}  // namespace

void add_recurrent_rules(RuleTable& t) { t.add({"LSTM", "GRU", "RNN"}, recurrent); }

}  // namespace quern::shape_rules
