// Sums of two tensors, average pools, functions by a table or by pieces, and moves.
#include <cstring>

#include "fault.hpp"
#include "kernels.hpp"

namespace mutant {
namespace {

// Every place of a tensor's shape, with the offsets that its strides give in one or several tensors.
template <class F>
void each(const quern_tensor& shape, F&& f) {
  std::vector<int64_t> index(shape.rank, 0);
  int64_t total = 1;
  for (uint32_t i = 0; i < shape.rank; ++i) total *= shape.dims[i];
  for (int64_t e = 0; e < total; ++e) {
    f(index, e);
    for (size_t i = shape.rank; i-- > 0;) {
      if (++index[i] < shape.dims[i]) break;
      index[i] = 0;
    }
  }
}
int64_t offset(const quern_tensor& t, const std::vector<int64_t>& index) {
  int64_t at = 0;
  for (uint32_t i = 0; i < t.rank; ++i) at += index[i] * t.strides[i];
  return at;
}

class Add : public Kernel {
 public:
  Add(const OpView& op, uint32_t threads) : Kernel(op, threads), a_(params_of(op.input("a").quant())), b_(params_of(op.input("b").quant())) {
    must_have(op, "a_factor", 1, QUERN_DTYPE_S32);
    must_have(op, "b_factor", 1, QUERN_DTYPE_S32);
  }
  void run(Context&, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    const int64_t a_factor = entry("a_factor", 0), b_factor = entry("b_factor", 0);
    each(out, [&](const std::vector<int64_t>& index, int64_t) {
      const int64_t a = get(in[0], offset(in[0], index)) - a_.zero, b = get(in[1], offset(in[1], index)) - (is("add-no-zero-b") ? 0 : b_.zero);
      put(out, offset(out, index), clamped(shifted(a * a_factor + b * b_factor, 16, Tie::up) + y_.zero, y_.low, y_.high));
    });
    if (is("changes-input")) static_cast<uint8_t*>(in[0].data)[0] ^= 1;
    if (is("writes-behind")) static_cast<uint8_t*>(out.data)[out.bytes] = 1;
    if (is("writes-before")) static_cast<uint8_t*>(out.data)[-1] = 1;
    if (is("leaves-last") && out.bytes > 1 && out.bytes < 4096) static_cast<uint8_t*>(out.data)[out.bytes - 1] = static_cast<const uint8_t*>(out.data)[out.bytes];
  }

 private:
  Params a_, b_;
};

class Average : public Kernel {
 public:
  Average(const OpView& op, uint32_t threads) : Kernel(op, threads), x_(params_of(op.input("input").quant())) {
    kernel_ = op.node(0).integers("kernel_shape");
    stride_ = op.node(0).integers("strides", {1, 1});
    if (kernel_.size() != 2) throw Failure(QUERN_UNIMPLEMENTED, "pools have two spatial axes");
    must_have(op, "multiplier", 1, QUERN_DTYPE_S32);
  }
  void run(Context& context, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    const quern_tensor& x = in[0];
    if (is("crash") && ++context.runs > 0) *reinterpret_cast<volatile int*>(16) = 1;
    if (is("hang")) for (volatile int i = 0;; i = i + 1) {}
    if (is("exit")) std::exit(3);
    each(out, [&](const std::vector<int64_t>& index, int64_t) {
      int64_t sum = 0;
      for (int64_t i = 0; i < kernel_[0]; ++i)
        for (int64_t j = 0; j < kernel_[1]; ++j)
          sum += get(x, offset(x, {index[0], index[1], index[2] * stride_[0] + i, index[3] * stride_[1] + j})) - x_.zero;
      if (is("sums-of-8-bits")) sum = static_cast<int8_t>(sum);
      put(out, offset(out, index), clamped(shifted(sum * entry("multiplier", 0), 20, Tie::away) + y_.zero, y_.low, y_.high));
    });
  }

 private:
  Params x_;
  std::vector<int64_t> kernel_, stride_;
};

class Table : public Kernel {
 public:
  Table(const OpView& op, uint32_t threads) : Kernel(op, threads) {
    const auto t = op.table<uint8_t>("table");
    if (t.size() != 256) throw Failure(QUERN_INVALID_ARGUMENT, "the table has 256 entries");
    table_.assign(t.begin(), t.end());
    first_ = op.table<int32_t>("table_first")[0];
  }
  void run(Context&, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    each(out, [&](const std::vector<int64_t>& index, int64_t) {
      int64_t at = get(in[0], offset(in[0], index)) - first_;
      if (is("one-entry") && at == 128) at = 120;
      put(out, offset(out, index), table_[static_cast<size_t>(at)]);
    });
  }

 private:
  std::vector<uint8_t> table_;
  int64_t first_ = 0;
};

class Pieces : public Kernel {
 public:
  Pieces(const OpView& op, uint32_t threads) : Kernel(op, threads) { must_have(op, "pieces", 15, QUERN_DTYPE_S32); }
  void run(Context&, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    each(out, [&](const std::vector<int64_t>& index, int64_t) {
      const int64_t x = get(in[0], offset(in[0], index));
      size_t piece = 0;
      for (size_t i = 1; i < 5; ++i) {
        const int64_t base = entry("pieces", 3 * i) & ~3;
        if (is("late-piece") ? x > base : x >= base) piece = i;
      }
      const int64_t base = entry("pieces", 3 * piece) & ~3, slope = entry("pieces", 3 * piece + 1), bits = 8 * ((entry("pieces", 3 * piece) & 3) + 1);
      const int64_t product = (x - base) * slope;
      const int64_t rise = is("pieces-rounded") ? (product + (int64_t{1} << (bits - 1))) >> bits : is("shift-of-8-always") ? product >> 8 : product >> bits;
      put(out, offset(out, index), clamped(entry("pieces", 3 * piece + 2) + rise, y_.low, y_.high));
    });
  }
};

class Move : public Kernel {
 public:
  using Kernel::Kernel;
  void run(Context&, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    std::memcpy(out.data, in[0].data, out.bytes);
    if (is("move-turned") && out.bytes > 2) std::swap(static_cast<uint8_t*>(out.data)[0], static_cast<uint8_t*>(out.data)[out.bytes - 1]);
  }
};

}  // namespace

std::unique_ptr<Kernel> make_simple(const OpView& op, uint32_t threads) {
  const std::string_view kind = op.op();
  if (kind == "Add") return std::make_unique<Add>(op, threads);
  if (kind == "AveragePool") return std::make_unique<Average>(op, threads);
  if (kind == "Sigmoid") return std::make_unique<Table>(op, threads);
  if (kind == "Tanh") return std::make_unique<Pieces>(op, threads);
  if (kind == "Flatten" || kind == "Reshape") return std::make_unique<Move>(op, threads);
  throw Failure(QUERN_UNIMPLEMENTED, "no kernel for " + std::string(kind));
}

}  // namespace mutant
