// The form resample: Resize as weighted sums. The unit's tables say everything about places: for an axis A of the input,
// taps_A [places of the output, taps] are the places of the input that count, weights_A how much each of them does. The
// weight of an element is the product over the axes; an axis without tables is taken as it is.
#include <fmt/format.h>

#include <limits>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"

namespace quern::interpreter {
namespace {

class ResampleKernel : public Kernel {
 public:
  explicit ResampleKernel(const UnitView& view)
      : view_(view), input_(required(view)), channels_(input_.dims.size() >= 2 ? input_.dims[1] : 1), pre_(view.pre("input", channels_)),
        post_(view.post(channels_)) {
    if (view_.output_dims.size() != input_.dims.size()) view_.fail("the resample form keeps the rank");
    for (size_t a = 0; a < input_.dims.size(); ++a) axes_.push_back(axis(a));
    if (!view_.extra_roles().empty()) view_.fail("the resample form knows no further tensor operands");
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    const TensorView &in = inputs[input_.input], &out = outputs[0];
    const size_t rank = out.dims.size();
    std::vector<int64_t> index(rank, 0);
    for (int64_t e = element_count(out.dims); e > 0; --e) {
      int64_t offset = 0;
      for (size_t a = 0; a < rank; ++a) offset += index[a] * out.strides[a];
      const int64_t c = rank >= 2 ? index[1] : 0;
      store(out, offset, post_.run({false, sum(in, index, c), 0}, c), view_);
      for (size_t a = rank; a-- > 0;) {
        if (++index[a] < out.dims[a]) break;
        index[a] = 0;
      }
    }
  }

 private:
  struct Axis {
    int64_t taps = 1;
    std::vector<int64_t> place, weight;  // empty: taken as it is
  };

  static const Flowing& required(const UnitView& view) {
    const Flowing* f = view.find("input");
    if (!f) view.fail("the resample form needs an operand 'input'");
    return *f;
  }

  Axis axis(size_t a) const {
    const UnitOperands names(*view_.unit);
    const std::string places = fmt::format("taps_{}", a), weights = fmt::format("weights_{}", a);
    const Tensor *p = names.table(places), *w = names.table(weights);
    const int64_t in = input_.dims[a], out = view_.output_dims[a];
    Axis axis;
    if (!p && !w) {
      if (in != out) view_.fail(fmt::format("axis {} goes from {} to {} places without a table '{}'", a, in, out, places));
      return axis;
    }
    if (!p || !w || p->rank() != 2 || p->dims() != w->dims() || p->dims()[0] != out || p->dims()[1] < 1 || is_float(p->type()) || is_float(w->type()))
      view_.fail(fmt::format("'{}' and '{}' have to be integers [{}, taps] both", places, weights, out));
    axis.taps = p->dims()[1];
    axis.place = p->to_ints();
    axis.weight = w->to_ints();
    for (int64_t i : axis.place)
      if (i < 0 || i >= in) view_.fail(fmt::format("'{}' names place {} of {}", places, i, in));
    return axis;
  }

  int64_t sum(const TensorView& in, const std::vector<int64_t>& index, int64_t channel) const {
    std::vector<int64_t> tap(axes_.size(), 0);
    const Accumulator& acc = view_.contract().acc;
    i128 total = 0;
    for (;;) {
      i128 weight = 1;
      int64_t offset = 0;
      for (size_t a = 0; a < axes_.size(); ++a) {
        const Axis& axis = axes_[a];
        int64_t place = index[a];
        if (!axis.place.empty()) {
          const auto at = static_cast<size_t>(index[a] * axis.taps + tap[a]);
          place = axis.place[at];
          weight *= axis.weight[at];
        }
        offset += place * in.strides[a];
      }
      const StageValue v = pre_.run(load(in, offset), channel);
      if (v.is_float) view_.fail("the resample form sums integers; the input's pre-stages end with a float");
      total += weight * v.i;
      size_t a = axes_.size();
      while (a-- > 0) {
        if (++tap[a] < axes_[a].taps) break;
        tap[a] = 0;
      }
      if (a == static_cast<size_t>(-1)) break;
    }
    const i128 high = (i128{1} << (acc.bits - 1)) - 1;
    if (total > high || total < -high - 1) view_.fail(fmt::format("the accumulator of {} bits overflows", acc.bits));
    return static_cast<int64_t>(total);
  }

  UnitView view_;
  Flowing input_;
  int64_t channels_;
  StageProgram pre_, post_;
  std::vector<Axis> axes_;
};

}  // namespace

std::unique_ptr<Kernel> make_resample(const UnitView& view) { return std::make_unique<ResampleKernel>(view); }

}  // namespace quern::interpreter
