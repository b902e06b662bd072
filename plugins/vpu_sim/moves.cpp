// Operators that take every output element from one input element: layout operators, selections, Concat, Relu and Clip by themselves; and
// functions by a table of one entry per code.
#include "plugins/common/moves.hpp"

#include <cstring>

#include "plugins/common/walk.hpp"
#include "plugins/vpu_sim/finish.hpp"

namespace quern_vpu {
namespace {

template <class F>
void walk(const Piece& p, uint32_t threads, F&& row) {
  for_rows(p.dims, p.out, {p.in}, threads, [](int64_t n, uint32_t t, const auto& body) { for_pieces(n, t, body); },
           [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) { row(p.out_offset + o, p.in_offset + i[0], n, step, steps[0]); });
}

void copy_codes(const uint8_t* in, int64_t in_step, uint8_t* out, int64_t out_step, int64_t n) {
  if (in_step == 1 && out_step == 1) std::memcpy(out, in, static_cast<size_t>(n));
  else for (int64_t i = 0; i < n; ++i) out[i * out_step] = in[i * in_step];
}

class MoveKernel : public Kernel {
 public:
  MoveKernel(const OpView& op, uint32_t threads) : Kernel("move"), threads_(threads), finish_(op), kind_(op.op()) {
    if (op.input("input").is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    const QuantView q = activation_quant(op, op.input("input"));
    is_signed_ = q.is_signed();
    zero_ = static_cast<int32_t>(q.zero_point());
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    if (is_selection(kind_)) {
      selection_ = selection_of(op, in, out);
      if (kind_ == "Pad") std::fill(std::begin(fill_), std::end(fill_), pad_code(op));
    } else if (is_blocks(kind_)) {
      blocks_ = blocks_of(op);
    } else {
      if (count_of(in) != count_of(out)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output differ in size");
      if (kind_ == "Transpose") order_ = order_of(op);
      keeps_dims_ = in == out && order_.empty();
    }
    layout_ = is_selection(kind_) || is_blocks(kind_) || keeps_dims_ ? QUERN_LAYOUT_ANY : QUERN_LAYOUT_ROW_MAJOR;
  }

  std::vector<uint32_t> input_layouts() const override { return {order_.empty() ? layout_ : QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return layout_; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const quern_tensor& in = inputs[0];
    if (is_selection(kind_)) {
      for (const Piece& p : pieces_of(selection_, in, output)) piece(p, in, output);
    } else if (is_blocks(kind_)) {
      piece(piece_of(blocks_, in, output), in, output);
    } else {
      Piece p{Dims(output.dims, output.dims + output.rank), Dims(output.strides, output.strides + output.rank), {}};
      if (keeps_dims_) p.in.assign(in.strides, in.strides + in.rank);
      else p.in = row_major_strides(p.dims);  // elements keep their order
      for (size_t i = 0; i < order_.size(); ++i) p.in[i] = in.strides[order_[i]];
      piece(p, in, output);
    }
  }

 private:
  void piece(const Piece& p, const quern_tensor& in, const quern_tensor& output) const {
    const auto* base = p.fill ? fill_ : static_cast<const uint8_t*>(in.data);
    walk(p, threads_, [&](int64_t o, int64_t i, int64_t n, int64_t step, int64_t in_step) {
      const uint8_t* from = base + i;
      if (finish_.copies()) return copy_codes(from, in_step, static_cast<uint8_t*>(output.data) + o, step, n);
      constexpr int64_t chunk = 512;
      int32_t sums[chunk];
      for (int64_t k = 0; k < n; k += chunk) {
        const int64_t m = std::min(chunk, n - k);
        for (int64_t e = 0; e < m; ++e) {
          const uint8_t code = from[(k + e) * in_step];
          sums[e] = (is_signed_ ? static_cast<int32_t>(static_cast<int8_t>(code)) : code) - zero_;
        }
        finish_.strided(sums, m, output.data, o + k * step, step);
      }
    });
  }

  uint32_t threads_, layout_ = QUERN_LAYOUT_ANY;
  Finish finish_;
  std::string kind_;
  bool is_signed_ = false, keeps_dims_ = false;
  int32_t zero_ = 0;
  Selection selection_;
  Blocks blocks_;
  Dims order_;
  uint8_t fill_[64] = {};
};

class JoinKernel : public Kernel {
 public:
  JoinKernel(const OpView& op, uint32_t threads) : Kernel("concat"), threads_(threads), join_(join_of(op)), layouts_(op.variable_inputs().size(), QUERN_LAYOUT_ANY) {}
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    for (const Part& part : join_.parts) {
      Piece p{part.dims, Dims(output.strides, output.strides + output.rank), row_major_strides(part.dims), part.begin * output.strides[join_.axis], 0, false};
      const uint8_t* from = part.constant.data();
      if (part.input >= 0) {
        const quern_tensor& t = inputs[static_cast<size_t>(part.input)];
        from = static_cast<const uint8_t*>(t.data);
        p.in.assign(t.strides, t.strides + t.rank);
      }
      walk(p, threads_, [&](int64_t o, int64_t i, int64_t n, int64_t step, int64_t in_step) { copy_codes(from + i, in_step, static_cast<uint8_t*>(output.data) + o, step, n); });
    }
  }

 private:
  uint32_t threads_;
  Join join_;
  std::vector<uint32_t> layouts_;
};

class TableKernel : public Kernel {
 public:
  TableKernel(const OpView& op, uint32_t threads) : Kernel("table"), threads_(threads) {
    const OperandView input = op.input("input");
    if (input.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    if (dims_of(input) != dims_of(op.output())) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output differ in shape");
    // By the byte as it lies in memory: a signed code -128..-1 is a byte 128..255.
    const size_t turn = activation_quant(op, input).is_signed() ? 128 : 0;
    const auto put = [&](const auto& from) {
      if (from.size() != 256) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the table has not 256 entries");
      for (size_t i = 0; i < 256; ++i) codes_[(i + turn) % 256] = static_cast<uint8_t>(from[i]);
    };
    if (op.output().dtype() == QUERN_DTYPE_S8) put(op.table<int8_t>("table"));
    else put(op.table<uint8_t>("table"));
  }
  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const Piece p{Dims(output.dims, output.dims + output.rank), Dims(output.strides, output.strides + output.rank), Dims(inputs[0].strides, inputs[0].strides + inputs[0].rank)};
    const auto* x = static_cast<const uint8_t*>(inputs[0].data);
    walk(p, threads_, [&](int64_t o, int64_t i, int64_t n, int64_t step, int64_t in_step) {
      for (int64_t k = 0; k < n; ++k) static_cast<uint8_t*>(output.data)[o + k * step] = codes_[x[i + k * in_step]];
    });
  }

 private:
  uint32_t threads_;
  uint8_t codes_[256] = {};
};

}  // namespace

std::unique_ptr<Kernel> compile_move(const OpView& op, uint32_t threads) {
  if (op.op() == "Concat") return std::make_unique<JoinKernel>(op, threads);
  return std::make_unique<MoveKernel>(op, threads);
}
std::unique_ptr<Kernel> compile_table(const OpView& op, uint32_t threads) { return std::make_unique<TableKernel>(op, threads); }

}  // namespace quern_vpu
