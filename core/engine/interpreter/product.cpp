// The dot form where both operands flow: MatMul of two tensors, batch axes broadcast as numpy does. Element by element, in
// exact integers; a saturating or ordered accumulator goes along the inner dimension.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"
#include "core/engine/saturations.hpp"

namespace quern::interpreter {
namespace {

class ProductKernel : public Kernel {
 public:
  explicit ProductKernel(const UnitView& view)
      : view_(view), a_(required(view, "input")), b_(required(view, "weight")), pre_a_(view.pre("input", a_.dims.back())),
        pre_b_(view.pre("weight", b_.dims.back())), post_(view.post(view.output_dims.back())), extras_(view_) {
    if (view.main().op != "MatMul") view.fail("the dot form takes a weight that is no constant in MatMul alone, not in " + view.main().op);
    if (a_.dims.size() < 2 || b_.dims.size() < 2 || a_.dims.back() != b_.dims[b_.dims.size() - 2])
      view.fail("the two tensors do not agree in their inner dimension");
    if (!view.contract().acc.init.empty()) view.fail("an accumulator with a beginning, in a product of two tensors");
  }

  std::unique_ptr<KernelState> make_state() const override { return std::make_unique<SaturatingState>(); }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState* state) const override {
    uint64_t saturated = 0;
    const TensorView &a = inputs[a_.input], &b = inputs[b_.input], &out = outputs[0];
    const size_t rank = out.dims.size();
    const int64_t depth = a_.dims.back(), columns = out.dims.back();
    std::vector<int64_t> row(static_cast<size_t>(depth)), index(rank, 0);
    // The second tensor's numbers after their stages, once for every matrix of the batch.
    std::vector<int64_t> matrix(static_cast<size_t>(depth * columns));
    std::vector<StageValue> extra(extras_.count());
    const int64_t rows = element_count(out.dims) / std::max<int64_t>(1, columns);
    int64_t ready = -1;
    for (int64_t r = 0; r < rows; ++r) {
      int64_t rest = r;
      for (size_t i = rank - 1; i-- > 0;) { index[i] = rest % out.dims[i]; rest /= out.dims[i]; }
      const int64_t a0 = base(a, index) + index[rank - 2] * a.strides[a.dims.size() - 2];
      const int64_t b0 = base(b, index);
      for (int64_t k = 0; k < depth; ++k) row[static_cast<size_t>(k)] = integer(pre_a_.run(load(a, a0 + k * a.strides.back()), k));
      if (b0 != ready) {
        for (int64_t k = 0; k < depth; ++k)
          for (int64_t n = 0; n < columns; ++n)
            matrix[static_cast<size_t>(n * depth + k)] = integer(pre_b_.run(load(b, b0 + k * b.strides[b.dims.size() - 2] + n * b.strides.back()), n));
        ready = b0;
      }
      for (int64_t n = 0; n < columns; ++n) {
        index[rank - 1] = n;
        int64_t at = 0;
        for (size_t i = 0; i < rank; ++i) at += index[i] * out.strides[i];
        if (!extras_.empty()) extras_.read(inputs, index, n, extra.data());
        store(out, at, post_.run({false, sum(row.data(), matrix.data() + n * depth, depth, saturated), 0}, n, extra), view_);
      }
    }
    if (auto* s = dynamic_cast<SaturatingState*>(state)) s->saturations = saturated;
  }

 private:
  static const Flowing& required(const UnitView& view, const std::string& role) {
    const Flowing* f = view.find(role);
    if (!f) view.fail("the dot form needs an operand '" + role + "'");
    return *f;
  }

  int64_t integer(const StageValue& v) const {
    if (v.is_float) view_.fail("the interpreter accumulates integers; an operand's pre-stages end with a float");
    return v.i;
  }

  // Where the matrix at the output's batch place begins; axes of size 1 broadcast.
  static int64_t base(const TensorView& t, std::span<const int64_t> index) {
    int64_t offset = 0;
    const size_t skip = index.size() - t.dims.size();
    for (size_t i = 0; i + 2 < t.dims.size(); ++i) offset += (t.dims[i] == 1 ? 0 : index[skip + i]) * t.strides[i];
    return offset;
  }

  int64_t sum(const int64_t* a, const int64_t* b, int64_t depth, uint64_t& saturated) const {
    const Accumulator& acc = view_.contract().acc;
    const int bits = std::min(acc.bits, 63);
    const int64_t high = acc.is_signed ? (int64_t{1} << (bits - 1)) - 1 : (int64_t{1} << bits) - 1;
    const int64_t low = acc.is_signed ? -high - 1 : 0;
    int64_t sum = 0;
    for (int64_t k = 0; k < depth; ++k) {
      sum += a[k] * b[k];
      if (acc.saturate_every > 0 && (k + 1) % acc.saturate_every == 0 && (sum < low || sum > high)) {
        sum = std::clamp(sum, low, high);
        ++saturated;
      }
    }
    if (sum >= low && sum <= high) return sum;
    switch (acc.overflow) {
      case Overflow::saturate: ++saturated; return std::clamp(sum, low, high);
      case Overflow::wrap: {
        const auto u = static_cast<uint64_t>(sum) & ((uint64_t{1} << bits) - 1);
        return acc.is_signed && (u >> (bits - 1)) != 0 ? static_cast<int64_t>(u | ~((uint64_t{1} << bits) - 1)) : static_cast<int64_t>(u);
      }
      default: view_.fail(fmt::format("the accumulator of {} bits overflows, which the contract says must not happen", acc.bits));
    }
  }

  UnitView view_;
  Flowing a_, b_;
  StageProgram pre_a_, pre_b_, post_;
  Extras extras_;
};

}  // namespace

std::unique_ptr<Kernel> make_product(const UnitView& view) { return std::make_unique<ProductKernel>(view); }

}  // namespace quern::interpreter
