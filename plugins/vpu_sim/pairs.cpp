// Add, Sub, Mul, Max, Min of two tensors of one scale and zero point, and ReduceMean.
#include <cstring>

#include "plugins/common/moves.hpp"
#include "plugins/common/walk.hpp"
#include "plugins/vpu_sim/finish.hpp"

namespace quern_vpu {
namespace {

constexpr int64_t chunk = 512;

// n codes, `step` apart, less the zero point.
void read(const uint8_t* in, int64_t step, bool is_signed, int32_t zero, int64_t n, int16_t* out) {
  if (step == 1) return rows().widen(in, is_signed, zero, n, out);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int16_t>((is_signed ? static_cast<int32_t>(static_cast<int8_t>(in[i * step])) : in[i * step]) - zero);
}

class PairKernel : public Kernel {
 public:
  PairKernel(const OpView& op, uint32_t threads) : Kernel(std::string("pair:") + rows().name), threads_(threads), finish_(op) {
    const std::string_view kind = op.op();
    how_ = kind == "Add" ? How::add : kind == "Sub" ? How::sub : kind == "Mul" ? How::mul : kind == "Max" ? How::max : How::min;
    const QuantView q = activation_quant(op, op.input("a"));
    is_signed_ = q.is_signed();
    zero_ = static_cast<int32_t>(q.zero_point());
    Side* side = sides_;
    for (const char* role : {"a", "b"}) {
      const OperandView o = op.input(role);
      if (o.is_constant()) side->constant = codes_of(o);
      else side->input = static_cast<int>(flowing_index(op, role));
      side->dims = dims_of(o);
      ++side;
    }
    layouts_.assign(op.variable_inputs().size(), QUERN_LAYOUT_ANY);
    if (layouts_.empty()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": both operands are constants");
  }

  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const Dims dims(output.dims, output.dims + output.rank), to(output.strides, output.strides + output.rank);
    const uint8_t* from[2];
    std::vector<Dims> strides;
    for (int k = 0; k < 2; ++k) {
      const Side& s = sides_[k];
      auto t = quern_sdk::make<quern_tensor>();
      const Dims own = row_major_strides(s.dims);
      if (s.input >= 0) {
        t = inputs[static_cast<size_t>(s.input)];
      } else {
        t.rank = static_cast<uint32_t>(s.dims.size());
        t.dims = s.dims.data();
        t.strides = own.data();
      }
      from[k] = s.input >= 0 ? static_cast<const uint8_t*>(t.data) : s.constant.data();
      strides.push_back(broadcast_strides(t, dims));
    }
    for_rows(dims, to, strides, threads_, [](int64_t n, uint32_t t, const auto& body) { for_pieces(n, t, body); },
             [&](int64_t o, const int64_t* at, int64_t n, int64_t step, const int64_t* steps) {
               int16_t a[chunk], b[chunk];
               int32_t sums[chunk];
               for (int64_t i = 0; i < n; i += chunk) {
                 const int64_t m = std::min(chunk, n - i);
                 read(from[0] + at[0] + i * steps[0], steps[0], is_signed_, zero_, m, a);
                 read(from[1] + at[1] + i * steps[1], steps[1], is_signed_, zero_, m, b);
                 combine(a, b, m, sums);
                 finish_.strided(sums, m, output.data, o + i * step, step);
               }
             });
  }

 private:
  enum class How { add, sub, mul, max, min };
  struct Side {
    int input = -1;
    Dims dims;
    std::vector<uint8_t> constant;
  };

  void combine(const int16_t* a, const int16_t* b, int64_t n, int32_t* out) const {
    const auto each = [&](auto f) { for (int64_t i = 0; i < n; ++i) out[i] = f(static_cast<int32_t>(a[i]), static_cast<int32_t>(b[i])); };
    switch (how_) {
      case How::add: return each([](int32_t x, int32_t y) { return x + y; });
      case How::sub: return each([](int32_t x, int32_t y) { return x - y; });
      case How::mul: return each([](int32_t x, int32_t y) { return x * y; });
      case How::max: return each([](int32_t x, int32_t y) { return x > y ? x : y; });
      case How::min: return each([](int32_t x, int32_t y) { return x < y ? x : y; });
    }
  }

  uint32_t threads_;
  Finish finish_;
  How how_ = How::add;
  bool is_signed_ = false;
  int32_t zero_ = 0;
  Side sides_[2];
  std::vector<uint32_t> layouts_;
};

class MeanKernel : public Kernel {
 public:
  explicit MeanKernel(const OpView& op) : Kernel("mean"), finish_(op), in_(dims_of(op.input("input"))) {
    const QuantView q = activation_quant(op, op.input("input"));
    is_signed_ = q.is_signed();
    zero_ = static_cast<int32_t>(q.zero_point());
    Dims axes = op.node(0).integers("axes");
    if (const auto given = integers_at(op, 1)) axes = *given;
    reduced_.assign(in_.size(), axes.empty());
    for (int64_t a : axes) reduced_.at(static_cast<size_t>(a < 0 ? a + static_cast<int64_t>(in_.size()) : a)) = true;
    for (size_t a = 0; a < in_.size(); ++a)
      if (!reduced_[a]) count_ *= in_[a];
    if (count_ != count_of(dims_of(op.output()))) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the output's size does not follow from the axes");
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ROW_MAJOR; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    std::vector<int32_t> sums(static_cast<size_t>(count_), 0);
    Dims to(in_.size(), 0);  // of the sums: reduced axes stay where they are
    int64_t step = 1;
    for (size_t a = in_.size(); a-- > 0;) {
      if (reduced_[a]) continue;
      to[a] = step;
      step *= in_[a];
    }
    const Dims from(inputs[0].strides, inputs[0].strides + inputs[0].rank);
    const auto* x = static_cast<const uint8_t*>(inputs[0].data);
    // Walked as the input lies; sums in the place of an operand.
    for_rows(in_, from, {to}, 1, [](int64_t n, uint32_t t, const auto& body) { for_pieces(n, t, body); },
             [&](int64_t o, const int64_t* at, int64_t n, int64_t in_step, const int64_t* steps) {
               int16_t codes[chunk];
               int32_t* sum = sums.data() + at[0];
               for (int64_t i = 0; i < n; i += chunk) {
                 const int64_t m = std::min(chunk, n - i);
                 read(x + o + i * in_step, in_step, is_signed_, zero_, m, codes);
                 for (int64_t k = 0; k < m; ++k) sum[(i + k) * steps[0]] += codes[k];
               }
             });
    finish_.row(sums.data(), 0, count_, output.data, 0);
  }

 private:
  Finish finish_;
  Dims in_;
  std::vector<bool> reduced_;
  bool is_signed_ = false;
  int32_t zero_ = 0;
  int64_t count_ = 1;
};

}  // namespace

std::unique_ptr<Kernel> compile_pair(const OpView& op, uint32_t threads) { return std::make_unique<PairKernel>(op, threads); }
std::unique_ptr<Kernel> compile_mean(const OpView& op, uint32_t) { return std::make_unique<MeanKernel>(op); }

}  // namespace quern_vpu
