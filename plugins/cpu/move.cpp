// Operators that take every output element from one input element: Reshape, Flatten, Squeeze, Unsqueeze, Identity,
// Transpose, Concat; and Relu and Clip by themselves. Contracts "move" and "concat": codes are copied where input and output
// have the same numbers, else mapped by float(x - zp) * ratio, clamp, output.
#include <algorithm>
#include <cstring>

#include "plugins/common/derive.hpp"
#include "plugins/cpu/strided.hpp"
#include "plugins/cpu/turn.hpp"
#include "plugins/cpu/writer.hpp"

namespace quern_cpu {
namespace {

class MoveKernel : public Kernel {
 public:
  MoveKernel(const OpView& op, uint32_t threads) : Kernel("cpu.move"), threads_(threads), kind_(op.op()), writer_(op) {
    if (writer_.mapped) name_ = std::string("cpu.map:") + rows().name;
    layouts_.assign(op.variable_inputs().size(), QUERN_LAYOUT_ANY);
    const OperandView input = op.input("input");
    if (input.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    const size_t rank = input.tensor().rank();
    const Dims in = dims_of(input), out = dims_of(op.output());
    if (count_of(in) != count_of(out)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output differ in size");
    if (kind_ == "Transpose") {
      Dims order(rank);
      for (size_t i = 0; i < rank; ++i) order[i] = static_cast<int64_t>(rank - 1 - i);
      order_ = op.node(0).integers("perm", order);
      std::vector<bool> seen(rank, false);
      if (order_.size() != rank || out.size() != rank) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": perm does not fit the rank");
      for (size_t i = 0; i < rank; ++i) {
        const int64_t a = order_[i];
        if (a < 0 || a >= static_cast<int64_t>(rank) || seen[static_cast<size_t>(a)] || in[static_cast<size_t>(a)] != out[i])
          throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": perm is not a permutation that gives the output's shape");
        seen[static_cast<size_t>(a)] = true;
      }
    }
    // Axes of one place may go anywhere.
    int64_t before = -1;
    for (int64_t a : order_)
      if (in[static_cast<size_t>(a)] != 1) {
        keeps_order_ = keeps_order_ && a > before;
        before = a;
      }
    in_place_ = kind_ == "Relu" || kind_ == "Clip" || kind_ == "Identity";
    // Between two shapes whose memory is in another order than their elements there is no common walk.
    twice_ = !in_place_ && order_.empty() && in != out && in.size() >= 3 && out.size() >= 3;
    bytes_ = static_cast<uint64_t>(count_of(in));
    // What comes next is most likely a convolution where channels come to the front, or a flat tensor gets the shape of an image. Any other
    // order of axes, and what is squeezed to four of them, goes to matrix products (attention), which want rows.
    const bool images = out.size() == 4 && (order_.empty() ? kind_ != "Squeeze" : order_ == Dims{0, 3, 1, 2});
    out_layout_ = images ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR;
  }

  uint64_t workspace_bytes() const override { return twice_ ? bytes_ + 64 : 0; }
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return in_place_ ? QUERN_LAYOUT_ANY : out_layout_; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const quern_tensor& in = inputs[0];
    if (!writer_.mapped && keeps_order_ && bytes_ < static_cast<uint64_t>(few_elements) && is_row_major(in) && is_row_major(output)) {
      std::memcpy(output.data, in.data, bytes_);
      return;
    }
    const Dims out_dims(output.dims, output.dims + output.rank), out_strides(output.strides, output.strides + output.rank);
    const Dims in_dims(in.dims, in.dims + in.rank), in_strides(in.strides, in.strides + in.rank);
    const auto* from = static_cast<const uint8_t*>(in.data);
    if (!order_.empty()) {
      Dims turned(order_.size());
      for (size_t i = 0; i < order_.size(); ++i) turned[i] = in_strides[static_cast<size_t>(order_[i])];
      return copy(from, turned, output.data, out_dims, out_strides);
    }
    if (in_dims == out_dims) return copy(from, in_strides, output.data, out_dims, out_strides);
    // Elements keep their row-major order.
    if (is_row_major(in)) return copy(from, row_major_strides(out_dims), output.data, out_dims, out_strides);
    if (is_row_major(output)) return copy(from, in_strides, output.data, in_dims, row_major_strides(in_dims));
    auto* ordered = static_cast<uint8_t*>(workspace);
    Writer plain;
    for_rows(in_dims, row_major_strides(in_dims), {in_strides}, threads_,
             [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) { plain.row(from + i[0], steps[0], ordered, o, step, n); });
    copy(ordered, row_major_strides(out_dims), output.data, out_dims, out_strides);
  }

 private:
  void copy(const uint8_t* from, const Dims& from_strides, void* to, const Dims& dims, const Dims& to_strides) const {
    if (!writer_.mapped && turned(from, from_strides, static_cast<uint8_t*>(to), dims, to_strides)) return;
    for_rows(dims, to_strides, {from_strides}, threads_,
             [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) { writer_.row(from + i[0], steps[0], to, o, step, n); });
  }

  // The innermost axes of the two sides differ, and each is dense on its own side: done in blocks.
  bool turned(const uint8_t* from, const Dims& from_strides, uint8_t* to, const Dims& dims, const Dims& to_strides) const {
    const Walk w = make_walk(dims, to_strides, {from_strides});
    if (w.dims.size() < 2) return false;
    const size_t c = w.dims.size() - 1, r = c - 1;  // axes: rows of the output, and along them
    if (w.out[c] != 1 || w.in[0][r] != 1 || w.in[0][c] < w.dims[r] || w.dims[r] < 2 || w.dims[c] < 2) return false;
    int64_t blocks = 1;
    for (size_t a = 0; a < r; ++a) blocks *= w.dims[a];
    // Strips of 64 rows: as many pieces as that makes, whatever the threads.
    const int64_t strips = (w.dims[r] + 63) / 64;
    for_pieces(blocks * strips, blocks * w.dims[r] * w.dims[c] < 65536 ? 1 : threads_, [&](int64_t first, int64_t end) {
      for (int64_t i = first; i < end; ++i) {
        int64_t rest = i / strips, o = 0, at = 0;
        for (size_t a = r; a-- > 0;) {
          o += rest % w.dims[a] * w.out[a];
          at += rest % w.dims[a] * w.in[0][a];
          rest /= w.dims[a];
        }
        const int64_t row = i % strips * 64, rows = std::min<int64_t>(64, w.dims[r] - row);
        turn_codes(from + at + row, w.in[0][c], to + o + row * w.out[r], w.out[r], rows, w.dims[c]);
      }
    });
    return true;
  }

  uint32_t threads_;
  std::string kind_;
  Writer writer_;
  std::vector<uint32_t> layouts_;
  Dims order_;
  bool in_place_ = false, twice_ = false, keeps_order_ = true;
  uint64_t bytes_ = 0;
  uint32_t out_layout_ = QUERN_LAYOUT_ROW_MAJOR;
};

class ConcatKernel : public Kernel {
 public:
  ConcatKernel(const OpView& op, uint32_t threads) : Kernel("cpu.concat"), threads_(threads) {
    std::string reason;
    if (!supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const Dims out = dims_of(op.output());
    const auto rank = static_cast<int64_t>(out.size());
    axis_ = op.node(0).integer("axis", 0);
    if (axis_ < 0) axis_ += rank;
    if (axis_ < 0 || axis_ >= rank) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": axis is outside of the rank");
    int64_t begin = 0;
    // Pieces in the order of the operator's inputs: one operand may come twice.
    for (int32_t index : op.node(0).inputs()) {
      if (index < 0 || static_cast<size_t>(index) >= op.inputs()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an input is missing");
      const OperandView o = op.input_at(static_cast<size_t>(index));
      Piece p;
      p.dims = dims_of(o);
      p.begin = begin;
      for (size_t i = 0; i < p.dims.size(); ++i)
        if (p.dims.size() != out.size() || (static_cast<int64_t>(i) != axis_ && p.dims[i] != out[i]))
          throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an input does not fit the output");
      begin += p.dims[static_cast<size_t>(axis_)];
      if (o.is_constant()) {
        p.constant = codes_of(o);
      } else {
        p.input = 0;
        for (int32_t k = 0; k < index; ++k) p.input += op.input_at(static_cast<size_t>(k)).is_constant() ? 0 : 1;
      }
      pieces_.push_back(std::move(p));
    }
    if (begin != out[static_cast<size_t>(axis_)]) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the inputs do not fill the output");
    layouts_.assign(op.variable_inputs().size(), QUERN_LAYOUT_ANY);
  }

  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const Dims strides(output.strides, output.strides + output.rank);
    auto* to = static_cast<uint8_t*>(output.data);
    for (const Piece& p : pieces_) {
      const uint8_t* from = p.constant.data();
      Dims own = row_major_strides(p.dims);
      if (p.input >= 0) {
        const quern_tensor& t = inputs[static_cast<size_t>(p.input)];
        from = static_cast<const uint8_t*>(t.data);
        own.assign(t.strides, t.strides + t.rank);
      }
      uint8_t* base = to + p.begin * strides[static_cast<size_t>(axis_)];
      const Writer plain;
      for_rows(p.dims, strides, {own}, threads_,
               [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) { plain.row(from + i[0], steps[0], base, o, step, n); });
    }
  }

 private:
  struct Piece {
    int input = -1;
    int64_t begin = 0;
    Dims dims;
    std::vector<uint8_t> constant;
  };
  uint32_t threads_;
  int64_t axis_ = 0;
  std::vector<Piece> pieces_;
  std::vector<uint32_t> layouts_;
};

}  // namespace

std::unique_ptr<Kernel> compile_move(const OpView& op, uint32_t threads) {
  if (op.op() == "Concat") return std::make_unique<ConcatKernel>(op, threads);
  return std::make_unique<MoveKernel>(op, threads);
}

}  // namespace quern_cpu
