// The forms move and table: every output element is one input element (after its operand's pre-stages), taken from where
// the operator takes it; then the post-stages. For move the places come from the host's own data-movement kernels, run on
// the pre-stages' results; unary operators (Relu, Clip, Identity and the like) and the table form keep every element in place.
#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"

namespace quern::interpreter {
namespace {

bool moves_data(const std::string& op) {
  static const char* const ops[] = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice", "Gather", "Pad",
                                    "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "Split"};
  for (const char* o : ops)
    if (op == o) return true;
  return false;
}

class MoveKernel : public Kernel {
 public:
  MoveKernel(const UnitView& view, const KernelRequest& request)
      : view_(view), post_(view.post(view.output_dims.size() >= 2 ? view.output_dims[1] : 1)), extras_(view_) {
    for (const auto& f : view_.flowing) {
      if (f.operand->role.empty()) continue;
      pre_.push_back(view_.pre(f.operand->role, f.dims.size() >= 2 ? f.dims[1] : 1));
      sources_.push_back(f);
    }
    if (sources_.empty()) view_.fail("the move form needs an operand that flows");
    // Typed as the pre-stages leave the values: floats as f32, integers as s64 so that nothing is lost.
    const StageValue probe = pre_[0].run({sources_[0].operand->dtype == DType::f32, 0, 0}, 0);
    carried_ = probe.is_float ? DType::f32 : DType::s64;
    if (moves_data(view_.main().op)) prepare_movement(request);
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    std::vector<Tensor> values;
    for (size_t k = 0; k < sources_.size(); ++k) values.push_back(typed(inputs[sources_[k].input], pre_[k]));
    Tensor moved;
    if (movement_) {
      moved = Tensor(carried_, view_.output_dims);
      std::vector<TensorView> in;
      std::vector<Dims> strides;
      strides.reserve(slots_.size());
      for (const Slot& s : slots_) {
        const Tensor& t = s.source >= 0 ? values[static_cast<size_t>(s.source)] : s.constant;
        strides.push_back(row_major_strides(t.dims()));
        in.push_back({const_cast<void*>(t.data()), t.type(), t.dims(), strides.back()});
      }
      const Dims out_strides = row_major_strides(view_.output_dims);
      const TensorView out{moved.mutable_bytes(), carried_, view_.output_dims, out_strides};
      std::vector<std::byte> workspace(movement_->kernel->workspace_bytes() + 64);
      if (movement_->view && !movement_->kernel) {  // the bytes are the same
        moved = values[0].reshaped(view_.output_dims);
      } else {
        movement_->kernel->run(in, std::span(&out, 1), workspace.data(), nullptr);
      }
    } else {
      moved = values[0];
    }
    finish(moved, inputs, outputs[0]);
  }

 private:
  struct Slot { int source = -1; Tensor constant; };

  Tensor typed(const TensorView& in, const StageProgram& pre) const {
    Tensor t(carried_, Dims(in.dims.begin(), in.dims.end()));
    std::vector<int64_t> index(in.dims.size(), 0);
    float* f = carried_ == DType::f32 ? t.mutable_values<float>().data() : nullptr;
    int64_t* i = carried_ == DType::s64 ? t.mutable_values<int64_t>().data() : nullptr;
    for (int64_t e = 0; e < t.count(); ++e) {
      int64_t offset = 0;
      for (size_t a = 0; a < index.size(); ++a) offset += index[a] * in.strides[a];
      const StageValue v = pre.run(load(in, offset), index.size() >= 2 ? index[1] : 0);
      if (f) f[e] = v.f; else i[e] = v.i;
      advance(index, in.dims);
    }
    return t;
  }

  void finish(const Tensor& moved, std::span<const TensorView> inputs, const TensorView& out) const {
    std::vector<int64_t> index(out.dims.size(), 0);
    std::vector<StageValue> extra(extras_.count());
    const float* f = carried_ == DType::f32 ? moved.values<float>().data() : nullptr;
    const int64_t* i = carried_ == DType::s64 ? moved.values<int64_t>().data() : nullptr;
    for (int64_t e = 0; e < moved.count(); ++e) {
      int64_t offset = 0;
      for (size_t a = 0; a < index.size(); ++a) offset += index[a] * out.strides[a];
      const int64_t c = index.size() >= 2 ? index[1] : 0;
      if (!extras_.empty()) extras_.read(inputs, index, c, extra.data());
      store(out, offset, post_.run(f ? StageValue{true, 0, f[e]} : StageValue{false, i[e], 0}, c, extra), view_);
      advance(index, out.dims);
    }
  }

  static void advance(std::vector<int64_t>& index, std::span<const int64_t> dims) {
    for (size_t a = index.size(); a-- > 0;) {
      if (++index[a] < dims[a]) return;
      index[a] = 0;
    }
  }

  // The member as a node of a graph of its own, prepared by the host's own kernels at the shapes at hand.
  void prepare_movement(const KernelRequest& request) {
    (void)request;
    const UnitMember& main = view_.main();
    Node node = node_of(main);
    std::vector<TensorSpec> specs;
    std::map<int, ValueId> made;
    std::vector<ValueId> order;
    graph_ = std::make_shared<Graph>();
    for (int in : main.inputs) {
      if (in == absent_input) { node.inputs.push_back(no_value); continue; }
      if (in < 0) view_.fail("the first member of a unit can't take the output of another");
      if (auto it = made.find(in); it != made.end()) { node.inputs.push_back(it->second); continue; }
      const UnitOperand& o = view_.unit->operands.at(static_cast<size_t>(in));
      ValueId id;
      if (o.constant) {
        const Tensor held = main.op == "Pad" && node.inputs.size() == 2 ? pad_value(*o.constant) : *o.constant;
        id = graph_->add_constant("c" + std::to_string(in), held);
        slots_.push_back({-1, held});
        specs.push_back({held.type(), held.dims(), Layout::row_major, graph_->value(id).constant.get()});
      } else {
        int source = -1;
        for (size_t k = 0; k < sources_.size(); ++k)
          if (sources_[k].operand == &o) source = static_cast<int>(k);
        if (source < 0) view_.fail("operand '" + o.value + "' has no role");
        const Dims& dims = sources_[static_cast<size_t>(source)].dims;
        id = graph_->add_value("v" + std::to_string(in), carried_, dims);
        slots_.push_back({source, {}});
        specs.push_back({carried_, dims, Layout::row_major, nullptr});
      }
      made[in] = id;
      order.push_back(id);
      node.inputs.push_back(id);
    }
    if (main.op == "Pad" && node.text("mode", "constant") == "constant" && (node.inputs.size() < 3 || node.inputs[2] == no_value)) {
      const Tensor zero = pad_value(Tensor::scalar<float>(0));
      const ValueId id = graph_->add_constant("zero", zero);
      slots_.push_back({-1, zero});
      specs.push_back({zero.type(), zero.dims(), Layout::row_major, graph_->value(id).constant.get()});
      order.push_back(id);
      if (node.inputs.size() < 3) node.inputs.resize(3, no_value);
      node.inputs[2] = id;
    }
    const ValueId out = graph_->add_value("out", carried_, view_.output_dims);
    node.outputs = {out};
    const NodeId id = graph_->add_node(node);
    KernelRequest inner{*graph_, {id}, specs, {{carried_, view_.output_dims, Layout::row_major, nullptr}}, order, {out}, 1};
    movement_ = own_float_provider()->prepare(inner);
    if (!movement_) view_.fail("the host has no data-movement kernel for " + main.op);
  }

  // What a Pad adds: its value in the numbers of the input, through the input's own stages.
  Tensor pad_value(const Tensor& value) const {
    const auto& params = sources_[0].operand->params;
    if (!params || value.count() != 1) return value;
    const Tensor code = quantize(value.reshaped({1}), *params);
    const StageValue v = pre_[0].run({false, code.to_ints()[0], 0}, 0);
    return v.is_float ? Tensor::scalar<float>(v.f) : Tensor::scalar<int64_t>(v.i);
  }

  UnitView view_;
  StageProgram post_;
  Extras extras_;
  std::vector<StageProgram> pre_;
  std::vector<Flowing> sources_;
  DType carried_ = DType::s64;
  std::shared_ptr<Graph> graph_;
  std::vector<Slot> slots_;
  std::optional<PreparedKernel> movement_;
};

}  // namespace

std::unique_ptr<Kernel> make_move(const UnitView& view, const KernelRequest& request) {
  return std::make_unique<MoveKernel>(view, request);
}

}  // namespace quern::interpreter
