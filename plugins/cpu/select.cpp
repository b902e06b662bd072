#include "plugins/cpu/select.hpp"

#include <algorithm>
#include <cmath>

#include "plugins/cpu/function.hpp"
#include "plugins/cpu/strided.hpp"
#include "plugins/cpu/writer.hpp"

namespace quern_cpu {
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

namespace {

class SelectKernel : public Kernel {
 public:
  SelectKernel(const OpView& op, uint32_t threads) : Kernel("cpu.select"), threads_(threads), writer_(op) {
    if (writer_.mapped) name_ = std::string("cpu.select:") + rows().name;
    std::string reason;
    if (op.input("input").is_constant()) reason = "the input is a constant";
    if (!reason.empty() || !can_select(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    selection_ = selection_of(op, dims_of(op.input("input")), dims_of(op.output()));
    if (op.op() == "Pad") std::fill(std::begin(fill_), std::end(fill_), pad_code(op));
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const quern_tensor& in = inputs[0];
    const size_t rank = output.rank;
    const auto* base = static_cast<const uint8_t*>(in.data);
    for (size_t a = 0; a < in.rank; ++a)
      if (selection_.dropped[a] >= 0) base += selection_.dropped[a] * in.strides[a];
    const Dims to(output.strides, output.strides + rank);
    const Dims none(rank, 0);
    std::vector<size_t> at(rank, 0);  // which run of each axis
    for (const auto& runs : selection_.axes)
      if (runs.empty()) return;
    for (;;) {
      Dims dims(rank), from(rank, 0);
      int64_t offset_in = 0, offset_out = 0;
      bool fill = false;
      for (size_t a = 0; a < rank; ++a) {
        const Run& r = selection_.axes[a][at[a]];
        dims[a] = r.count;
        offset_out += r.out * to[a];
        fill = fill || r.fill;
        if (selection_.input_axis[a] < 0) continue;
        const int64_t stride = in.strides[selection_.input_axis[a]];
        from[a] = stride * r.step;
        offset_in += stride * r.in;
      }
      const uint8_t* source = fill ? fill_ : base + offset_in;
      for_rows(dims, to, {fill ? none : from}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
        writer_.row(source + i[0], steps[0], output.data, offset_out + o, step, n);
      });
      size_t a = rank;
      while (a-- > 0) {
        if (++at[a] < selection_.axes[a].size()) break;
        at[a] = 0;
      }
      if (a == static_cast<size_t>(-1)) return;
    }
  }

 private:
  uint32_t threads_;
  Writer writer_;
  Selection selection_;
  uint8_t fill_[64] = {};
};

// DepthToSpace and SpaceToDepth: the channel axis and the two of the image in parts, walked together.
class BlockKernel : public Kernel {
 public:
  BlockKernel(const OpView& op, uint32_t threads) : Kernel("cpu.blocks"), threads_(threads), writer_(op), to_space_(op.op() == "DepthToSpace") {
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    size_ = op.node(0).integer("blocksize", 0);
    by_columns_ = op.node(0).text("mode", "DCR") == "CRD";
    const Dims &deep = to_space_ ? in : out, &wide = to_space_ ? out : in;
    if (in.size() != 4 || out.size() != 4 || size_ < 1 || deep[0] != wide[0] || deep[1] != wide[1] * size_ * size_ || deep[2] * size_ != wide[2] || deep[3] * size_ != wide[3])
      unfit(op, "input, output and blocksize do not fit each other");
    dims_ = {deep[0], wide[1], deep[2], size_, deep[3], size_};
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const quern_tensor &deep = to_space_ ? inputs[0] : output, &wide = to_space_ ? output : inputs[0];
    // Axes: sample, channel of the wide one, row, row in the block, column, column in the block.
    const int64_t c = deep.strides[1];
    const int64_t row = by_columns_ ? size_ * c : size_ * dims_[1] * c, column = by_columns_ ? c : dims_[1] * c, channel = by_columns_ ? size_ * size_ * c : c;
    const Dims d{deep.strides[0], channel, deep.strides[2], row, deep.strides[3], column};
    const Dims w{wide.strides[0], wide.strides[1], size_ * wide.strides[2], wide.strides[2], size_ * wide.strides[3], wide.strides[3]};
    const auto* from = static_cast<const uint8_t*>(inputs[0].data);
    for_rows(dims_, to_space_ ? w : d, {to_space_ ? d : w}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
      writer_.row(from + i[0], steps[0], output.data, o, step, n);
    });
  }

 private:
  uint32_t threads_;
  Writer writer_;
  bool to_space_, by_columns_ = false;
  int64_t size_ = 1;
  Dims dims_;
};

}  // namespace

std::unique_ptr<Kernel> compile_select(const OpView& op, uint32_t threads) {
  if (op.op() == "DepthToSpace" || op.op() == "SpaceToDepth") return std::make_unique<BlockKernel>(op, threads);
  return std::make_unique<SelectKernel>(op, threads);
}

}  // namespace quern_cpu
