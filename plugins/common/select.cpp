#include "plugins/common/select.hpp"

#include <algorithm>
#include <cmath>

#include "plugins/common/function.hpp"

namespace quern_common {
namespace {

OperandView operand_at(const OpView& op, size_t slot) {
  const NodeView node = op.node(0);
  if (slot >= node.inputs().size() || node.inputs()[slot] == QUERN_ABSENT_INPUT) return OperandView();
  const int32_t index = node.inputs()[slot];
  if (index < 0 || static_cast<size_t>(index) >= op.inputs())
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input " + std::to_string(slot) + " of " + std::string(op.op()) + " is not an operand of the unit");
  return op.input_at(static_cast<size_t>(index));
}

[[noreturn]] void unfit(const OpView& op, const char* what) { throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": " + what); }

size_t axis_in(const OpView& op, int64_t axis, size_t rank) {
  if (axis < 0) axis += static_cast<int64_t>(rank);
  if (axis < 0 || axis >= static_cast<int64_t>(rank)) unfit(op, "an axis is outside of the rank");
  return static_cast<size_t>(axis);
}

// Places one by one, -1 for a fill, as few runs.
std::vector<Run> runs_of(const std::vector<int64_t>& places) {
  std::vector<Run> runs;
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t at = places[i];
    if (!runs.empty()) {
      Run& last = runs.back();
      if (last.fill && at < 0) { ++last.count; continue; }
      if (!last.fill && at >= 0) {
        const int64_t step = at - (last.in + (last.count - 1) * last.step);
        if (last.count == 1) last.step = step;
        if (step == last.step) { ++last.count; continue; }
      }
    }
    runs.push_back({static_cast<int64_t>(i), 1, std::max<int64_t>(at, 0), 1, at < 0});
  }
  return runs;
}

std::vector<int64_t> places(int64_t n, int64_t from = 0, int64_t step = 1) {
  std::vector<int64_t> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = from + i * step;
  return v;
}

using Lists = std::vector<std::vector<int64_t>>;  // per axis of the output

void slice(const OpView& op, const Dims& in, const Dims& out, Lists& lists) {
  const auto starts = integers_at(op, 1), axes = integers_at(op, 3), steps = integers_at(op, 4);
  if (!starts) unfit(op, "Slice has no starts");
  for (size_t i = 0; i < starts->size(); ++i) {
    if ((axes && i >= axes->size()) || (steps && i >= steps->size())) unfit(op, "starts, axes and steps of Slice differ in length");
    const size_t a = axis_in(op, axes ? (*axes)[i] : static_cast<int64_t>(i), in.size());
    const int64_t step = steps ? (*steps)[i] : 1, n = in[a];
    if (step == 0) unfit(op, "a step of Slice is 0");
    int64_t from = (*starts)[i];
    if (from < 0) from += n;
    from = std::min(std::max<int64_t>(from, 0), step > 0 ? n : n - 1);
    lists[a] = places(out[a], from, step);
  }
}

void pad(const OpView& op, const Dims& in, const Dims& out, Lists& lists) {
  const auto amounts = integers_at(op, 1);
  if (!amounts) unfit(op, "Pad has no pads");
  auto axes = integers_at(op, 3);
  if (!axes) axes = places(static_cast<int64_t>(in.size()));
  if (amounts->size() != 2 * axes->size()) unfit(op, "Pad needs two numbers per axis");
  const std::string mode(op.node(0).text("mode", "constant"));
  for (size_t i = 0; i < axes->size(); ++i) {
    const size_t a = axis_in(op, (*axes)[i], in.size());
    const int64_t before = (*amounts)[i], n = in[a];
    for (int64_t o = 0; o < out[a]; ++o) {
      int64_t at = o - before;
      if (at < 0 || at >= n) {
        if (mode != "constant" && n < 1) unfit(op, "an axis without elements can't be padded from itself");
        if (mode == "constant") at = -1;
        else if (mode == "edge") at = at < 0 ? 0 : n - 1;
        else if (mode == "wrap") at = (at % n + n) % n;
        else {  // reflect: the ends are not repeated
          const int64_t period = n == 1 ? 1 : 2 * (n - 1);
          at = (at % period + period) % period;
          if (at >= n) at = period - at;
        }
      }
      lists[a][static_cast<size_t>(o)] = at;
    }
  }
}

}  // namespace

std::optional<std::vector<int64_t>> integers_at(const OpView& op, size_t slot) {
  const OperandView o = operand_at(op, slot);
  if (!o) return {};
  if (!o.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": input " + std::to_string(slot) + " of " + std::string(op.op()) + " is not a constant");
  std::vector<int64_t> out;
  if (o.dtype() == QUERN_DTYPE_S32) for (int32_t v : o.tensor().values<const int32_t>()) out.push_back(v);
  else for (int64_t v : o.tensor().values<const int64_t>()) out.push_back(v);
  return out;
}

bool is_selection(std::string_view op) { return op == "Slice" || op == "Gather" || op == "Pad" || op == "Tile" || op == "Expand"; }

bool can_select(const OpView& op, std::string& reason) {
  for (size_t i = 0; i < op.inputs(); ++i) {
    if (op.input_at(i).role().empty() && !op.input_at(i).is_constant()) {
      reason = "an input that says what is taken is not a constant";
      return false;
    }
  }
  if (op.op() == "Gather" && operand_at(op, 1) && operand_at(op, 1).tensor().rank() > 1) {
    reason = "the indices of Gather have more than one axis";
    return false;
  }
  if (op.op() == "Pad") {
    const std::string_view mode = op.node(0).text("mode", "constant");
    if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap") {
      reason = "Pad has an unknown mode";
      return false;
    }
    const OperandView value = operand_at(op, 2);
    if (value && (value.dtype() != QUERN_DTYPE_F32 || value.tensor().count() != 1)) {
      reason = "Pad's value is not one f32";
      return false;
    }
    if (value && mode == "constant") {
      // What lies below everything may be the lowest code: it stands for "never the largest".
      const QuantView q = activation_quant(op, op.input("input"));
      const double v = value.tensor().values<const float>()[0], s = q.scale(), z = static_cast<double>(q.zero_point());
      if (!(v < -1e30) && !(v / s + z >= static_cast<double>(q.qmin()) - 0.5 && v / s + z <= static_cast<double>(q.qmax()) + 0.5)) {
        reason = "the value that Pad adds is outside of the range of its input";
        return false;
      }
    }
  }
  return true;
}

Selection selection_of(const OpView& op, const Dims& in, const Dims& out) {
  const std::string_view kind = op.op();
  Selection s;
  s.dropped.assign(in.size(), -1);
  Lists lists;
  for (int64_t n : out) lists.push_back(places(n));
  const size_t skip = out.size() >= in.size() ? out.size() - in.size() : 0;
  for (size_t a = 0; a < out.size(); ++a) s.input_axis.push_back(static_cast<int>(a) - static_cast<int>(skip));
  if (kind == "Gather") {
    const size_t axis = axis_in(op, op.node(0).integer("axis", 0), in.size());
    auto index = integers_at(op, 1);
    if (!index) unfit(op, "Gather has no indices");
    for (auto& i : *index) i += i < 0 ? in[axis] : 0;
    if (operand_at(op, 1).tensor().rank() == 0) {
      if (index->size() != 1 || out.size() + 1 != in.size()) unfit(op, "Gather's output has an unexpected rank");
      s.dropped[axis] = (*index)[0];
      for (size_t a = 0; a < out.size(); ++a) s.input_axis[a] = static_cast<int>(a < axis ? a : a + 1);
      if (s.dropped[axis] < 0 || s.dropped[axis] >= in[axis]) unfit(op, "an index of Gather is outside of the input");
    } else {
      if (out.size() != in.size()) unfit(op, "Gather's output has an unexpected rank");
      lists[axis] = *index;
    }
  } else {
    if (out.size() < in.size() || (kind != "Expand" && out.size() != in.size())) unfit(op, "the output has an unexpected rank");
    if (kind == "Slice") slice(op, in, out, lists);
    if (kind == "Pad") pad(op, in, out, lists);
    if (kind == "Tile" || kind == "Expand") {
      for (size_t a = skip; a < out.size(); ++a) {
        const int64_t n = in[a - skip];
        if (n < 1 ? out[a] != 0 : kind == "Expand" ? n != 1 && n != out[a] : out[a] % n != 0) unfit(op, "the input does not fit the output");
        for (auto& i : lists[a]) i %= n;
      }
    }
  }
  for (size_t a = 0; a < out.size(); ++a) {
    if (static_cast<int64_t>(lists[a].size()) != out[a]) unfit(op, "the output's size does not follow from the attributes");
    const int from = s.input_axis[a];
    for (int64_t i : lists[a])
      if (from >= 0 && (i < (kind == "Pad" ? -1 : 0) || i >= in[static_cast<size_t>(from)])) unfit(op, "a place is outside of the input");
    s.axes.push_back(runs_of(lists[a]));
  }
  return s;
}

uint8_t pad_code(const OpView& op) {
  const QuantView q = activation_quant(op, op.input("input"));
  const OperandView value = operand_at(op, 2);
  float v = 0;
  if (value) {
    if (!value.is_constant() || value.tensor().count() != 1) unfit(op, "the value of Pad is not a constant of one element");
    v = value.tensor().values<const float>()[0];
  }
  // As the host's border: saturate(rne(v / scale) + zero_point), the quotient in f32.
  const Coder coder{1, static_cast<double>(q.zero_point()), static_cast<double>(q.qmin()), static_cast<double>(q.qmax())};
  return static_cast<uint8_t>(static_cast<int64_t>(coder(v / q.scale())));
}

}  // namespace quern_common
