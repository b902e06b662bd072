// The forms pool_sum (AveragePool, GlobalAveragePool), pool_max (MaxPool, GlobalMaxPool) and reduce (ReduceMean, ReduceSum,
// ReduceMax, ReduceMin): a set of input elements per output element, then the post-stages.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"
#include "core/graph/shapes.hpp"

namespace quern::interpreter {
namespace {

// Exact integer, or f32 in the order of visit.
struct Sum {
  StageValue v;
  bool any = false;
  void add(const StageValue& x) {
    if (!any) { v = x; any = true; return; }
    if (x.is_float) v.f += x.f; else v.i += x.i;
  }
  void largest(const StageValue& x) {
    if (!any) { v = x; any = true; return; }
    if (x.is_float) v.f = std::max(v.f, x.f); else v.i = std::max(v.i, x.i);
  }
};

Window window_of(const UnitView& view, const Dims& input) {
  const UnitMember& main = view.main();
  if (main.op == "GlobalAveragePool" || main.op == "GlobalMaxPool") {
    Window w;
    for (size_t i = 2; i < input.size(); ++i) {
      w.kernel.push_back(input[i]);
      w.stride.push_back(1);
      w.dilation.push_back(1);
      w.pad_begin.push_back(0);
      w.pad_end.push_back(0);
      w.output.push_back(1);
    }
    return w;
  }
  return pool_window(node_of(main), input);
}

class PoolKernel : public Kernel {
 public:
  explicit PoolKernel(const UnitView& view)
      : view_(view), input_(required(view)), channels_(input_.dims.at(1)), pre_(view.pre("input", channels_)),
        post_(view.post(channels_)), extras_(view_), window_(window_of(view, input_.dims)),
        max_(view.contract().form == KernelForm::pool_max) {
    if (window_.kernel.size() > 3) view.fail("pooling over more than three spatial axes");
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    const TensorView& in = inputs[input_.input];
    const TensorView& out = outputs[0];
    const size_t n = window_.kernel.size();
    std::vector<StageValue> extra(extras_.count());
    std::vector<int64_t> index(out.dims.size(), 0);
    const int64_t zero = view_.contract().acc.pad_with_zero_point && input_.operand->params ? input_.operand->params->zero_point.at(0) : 0;
    const int64_t total = element_count(out.dims);
    for (int64_t e = 0; e < total; ++e) {
      const int64_t c = index[1];
      Sum sum;
      int64_t count = 0;
      std::array<int64_t, 3> k{0, 0, 0}, size{1, 1, 1};
      for (size_t i = 0; i < n; ++i) size[3 - n + i] = window_.kernel[i];
      for (k[0] = 0; k[0] < size[0]; ++k[0])
        for (k[1] = 0; k[1] < size[1]; ++k[1])
          for (k[2] = 0; k[2] < size[2]; ++k[2]) {
            int64_t offset = index[0] * in.strides[0] + c * in.strides[1];
            bool inside = true, counted = true;
            for (size_t i = 0; i < n; ++i) {
              const int64_t p = index[2 + i] * window_.stride[i] - window_.pad_begin[i] + k[3 - n + i] * window_.dilation[i];
              inside = inside && p >= 0 && p < in.dims[2 + i];
              // Counted padding reaches as far as the declared padding, not into what ceil_mode adds beyond it.
              counted = counted && p < in.dims[2 + i] + window_.pad_end[i];
              offset += p * in.strides[2 + i];
            }
            if (max_) {
              if (inside) sum.largest(pre_.run(load(in, offset), c));
              continue;
            }
            if (inside) sum.add(pre_.run(load(in, offset), c));
            else if (window_.count_include_pad && counted)
              sum.add(pre_.run(in.type == DType::f32 ? StageValue{true, 0, 0} : StageValue{false, zero, 0}, c));
            count += inside || (window_.count_include_pad && counted);
          }
      if (!extras_.empty()) extras_.read(inputs, index, c, extra.data());
      int64_t at = 0;
      for (size_t i = 0; i < index.size(); ++i) at += index[i] * out.strides[i];
      store(out, at, post_.run(sum.v, c, extra, count), view_);
      for (size_t i = index.size(); i-- > 0;) {
        if (++index[i] < out.dims[i]) break;
        index[i] = 0;
      }
    }
  }

 private:
  static const Flowing& required(const UnitView& view) {
    const Flowing* f = view.find("input");
    if (!f || f->dims.size() < 3) view.fail("pooling needs an operand 'input' of rank 3 or more");
    return *f;
  }
  UnitView view_;
  Flowing input_;
  int64_t channels_;
  StageProgram pre_, post_;
  Extras extras_;
  Window window_;
  bool max_;
};

class ReduceKernel : public Kernel {
 public:
  explicit ReduceKernel(const UnitView& view)
      : view_(view), input_(required(view)), pre_(view.pre("input", channels())), post_(view.post(channels())) {
    const Node node = node_of(view.main());
    std::vector<int64_t> axes = node.integers("axes");
    for (const auto& o : view.unit->operands)  // since opset 13 or 18 the axes are an input
      if (&o != input_.operand && o.role.empty() && o.constant) axes = o.constant->to_ints();
    const int64_t rank = static_cast<int64_t>(input_.dims.size());
    reduced_.assign(static_cast<size_t>(rank), axes.empty());
    for (int64_t a : axes) reduced_.at(static_cast<size_t>(a < 0 ? a + rank : a)) = true;
    keep_ = node.integer("keepdims", 1) != 0;
    max_ = view.main().op == "ReduceMax";
    if (!max_ && view.main().op != "ReduceMean" && view.main().op != "ReduceSum")
      view.fail("the reduce form knows ReduceMean, ReduceSum and ReduceMax, not " + view.main().op);
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    const TensorView& in = inputs[input_.input];
    const TensorView& out = outputs[0];
    const size_t rank = in.dims.size();
    std::vector<int64_t> outer(rank, 0);
    int64_t count = 1;
    for (size_t i = 0; i < rank; ++i)
      if (reduced_[i]) count *= in.dims[i];
    for (;;) {
      Sum sum;
      std::vector<int64_t> inner = outer;
      const int64_t c = rank >= 2 && !reduced_[1] ? outer[1] : 0;
      for (;;) {
        int64_t offset = 0;
        for (size_t i = 0; i < rank; ++i) offset += inner[i] * in.strides[i];
        const StageValue v = pre_.run(load(in, offset), rank >= 2 ? inner[1] : 0);
        if (max_) sum.largest(v); else sum.add(v);
        if (!step(inner, in.dims, true)) break;
      }
      int64_t at = 0;
      for (size_t i = 0, o = 0; i < rank; ++i) {
        if (reduced_[i] && !keep_) continue;
        at += (reduced_[i] ? 0 : outer[i]) * out.strides[o++];
      }
      store(out, at, post_.run(sum.v, c, {}, count), view_);
      if (!step(outer, in.dims, false)) break;
    }
  }

 private:
  // Advances over the reduced (or the kept) axes; false at the end, with those axes back at 0.
  bool step(std::vector<int64_t>& index, std::span<const int64_t> dims, bool reduced) const {
    for (size_t i = index.size(); i-- > 0;) {
      if (reduced_[i] != reduced) continue;
      if (++index[i] < dims[i]) return true;
      index[i] = 0;
    }
    return false;
  }
  static const Flowing& required(const UnitView& view) {
    const Flowing* f = view.find("input");
    if (!f) view.fail("the reduce form needs an operand 'input'");
    return *f;
  }
  int64_t channels() const { return input_.dims.size() >= 2 ? input_.dims[1] : 1; }
  UnitView view_;
  Flowing input_;
  StageProgram pre_, post_;
  std::vector<bool> reduced_;
  bool keep_ = true, max_ = false;
};

}  // namespace

std::unique_ptr<Kernel> make_pool(const UnitView& view) { return std::make_unique<PoolKernel>(view); }
std::unique_ptr<Kernel> make_reduce(const UnitView& view) { return std::make_unique<ReduceKernel>(view); }

}  // namespace quern::interpreter
