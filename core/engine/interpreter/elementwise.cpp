// The form elementwise2: combine(pre(a), pre(b)) with numpy's broadcasting, then the post-stages. Channels of tables are
// counted along axis 1 of the output.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"

namespace quern::interpreter {
namespace {

class Elementwise2Kernel : public Kernel {
 public:
  explicit Elementwise2Kernel(const UnitView& view)
      : view_(view), a_(side(view, "a")), b_(side(view, "b")), post_(view.post(channels(view))), extras_(view_) {}

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    const TensorView& out = outputs[0];
    const size_t rank = out.dims.size();
    std::vector<int64_t> index(rank, 0);
    std::vector<StageValue> extra(extras_.count());
    const Strided a = strided(a_, inputs, rank), b = strided(b_, inputs, rank);
    const int64_t total = element_count(out.dims);
    for (int64_t e = 0; e < total; ++e) {
      int64_t oa = 0, ob = 0, oo = 0;
      for (size_t i = 0; i < rank; ++i) {
        oa += index[i] * a.strides[i];
        ob += index[i] * b.strides[i];
        oo += index[i] * out.strides[i];
      }
      const int64_t c = rank >= 2 ? index[1] : 0;
      const StageValue v = combine(a_.pre.run(load(a.view, oa), c), b_.pre.run(load(b.view, ob), c));
      if (!extras_.empty()) extras_.read(inputs, index, c, extra.data());
      store(out, oo, post_.run(v, c, extra), view_);
      for (size_t i = rank; i-- > 0;) {
        if (++index[i] < out.dims[i]) break;
        index[i] = 0;
      }
    }
  }

 private:
  struct Side { size_t input = 0; Dims dims; std::shared_ptr<const Tensor> constant; StageProgram pre; };
  struct Strided { TensorView view; std::vector<int64_t> strides; };

  static int64_t channels(const UnitView& view) { return view.output_dims.size() >= 2 ? view.output_dims[1] : 1; }

  static Side side(const UnitView& view, const std::string& role) {
    const Flowing* f = view.find(role);
    if (f) return {f->input, f->dims, nullptr, view.pre(role, channels(view))};
    const UnitOperand* o = view.unit->operand(role);
    if (!o || !o->constant) view.fail("the elementwise2 form needs an operand '" + role + "'");
    return {0, o->constant->dims(), o->constant, view.pre(role, channels(view))};
  }

  static Strided strided(const Side& side, std::span<const TensorView> inputs, size_t rank) {
    Strided s;
    Dims own;
    if (side.constant) {
      own = row_major_strides(side.dims);
      s.view = {const_cast<void*>(side.constant->data()), side.constant->type(), side.dims, {}};
    } else {
      s.view = inputs[side.input];
      own.assign(s.view.strides.begin(), s.view.strides.end());
    }
    s.strides.assign(rank, 0);
    for (size_t i = 0; i < side.dims.size(); ++i)
      s.strides[rank - side.dims.size() + i] = side.dims[i] == 1 ? 0 : own[i];
    return s;
  }

  StageValue combine(const StageValue& a, const StageValue& b) const {
    if (a.is_float != b.is_float) view_.fail("combine needs two integers or two floats");
    StageValue v{a.is_float, 0, 0};
    switch (view_.contract().combine) {
      case Combine::add: v.i = a.i + b.i; v.f = a.f + b.f; break;
      case Combine::sub: v.i = a.i - b.i; v.f = a.f - b.f; break;
      case Combine::mul: v.i = a.i * b.i; v.f = a.f * b.f; break;
      case Combine::max: v.i = std::max(a.i, b.i); v.f = std::max(a.f, b.f); break;
      case Combine::min: v.i = std::min(a.i, b.i); v.f = std::min(a.f, b.f); break;
      case Combine::first: v = a; break;
      case Combine::div:
        if (!a.is_float) view_.fail("combine div divides floats");
        v.f = a.f / b.f;
        break;
    }
    return v;
  }

  UnitView view_;
  Side a_, b_;
  StageProgram post_;
  Extras extras_;
};

}  // namespace

std::unique_ptr<Kernel> make_elementwise2(const UnitView& view) { return std::make_unique<Elementwise2Kernel>(view); }

}  // namespace quern::interpreter
