#include "core/engine/float/op.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

// Hands the engine's tensors over by slot; constants from their own memory where the engine passes none.
struct Slot { int index = -1; Tensor constant; Dims strides; };

class SlotViews {
 public:
  SlotViews(const std::vector<Slot>& slots, std::span<const TensorView> inputs) {
    if (slots.size() > few_.size()) many_.resize(slots.size());
    TensorView* in = slots.size() > few_.size() ? many_.data() : few_.data();
    for (size_t i = 0; i < slots.size(); ++i) {
      const Slot& s = slots[i];
      if (s.index < 0) continue;
      in[i] = inputs[static_cast<size_t>(s.index)];
      if (!in[i].data && !s.constant.empty())
        in[i] = {const_cast<void*>(s.constant.data()), s.constant.type(), s.constant.dims(), s.strides};
    }
    views = {in, slots.size()};
  }
  std::span<const TensorView> views;

 private:
  std::array<TensorView, 8> few_;
  std::vector<TensorView> many_;
};

class BodyKernel final : public Kernel {
 public:
  BodyKernel(std::vector<Slot> slots, std::vector<int> outputs, Body body, size_t workspace)
      : slots_(std::move(slots)), outputs_(std::move(outputs)), body_(std::move(body)), workspace_(workspace) {}

  size_t workspace_bytes() const override { return workspace_; }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace,
           KernelState*) const override {
    std::array<TensorView, 8> few_out;
    std::vector<TensorView> many_out;
    TensorView* out = few_out.data();
    if (outputs_.size() > few_out.size()) { many_out.resize(outputs_.size()); out = many_out.data(); }
    const SlotViews in(slots_, inputs);
    for (size_t i = 0; i < outputs_.size(); ++i)
      if (outputs_[i] >= 0) out[i] = outputs[static_cast<size_t>(outputs_[i])];
    body_({in.views, {out, outputs_.size()}, workspace});
  }

 private:
  std::vector<Slot> slots_;
  std::vector<int> outputs_;
  Body body_;
  size_t workspace_;
};

class MakingKernel final : public DataSizedKernel {
 public:
  MakingKernel(std::vector<Slot> slots, MakingBody body) : slots_(std::move(slots)), body_(std::move(body)) {}
  std::vector<Tensor> make(std::span<const TensorView> inputs, void* workspace, KernelState*) const override {
    const SlotViews in(slots_, inputs);
    return body_({in.views, {}, workspace});
  }

 private:
  std::vector<Slot> slots_;
  MakingBody body_;
};

int index_of(const std::vector<ValueId>& values, ValueId value) {
  if (value == no_value) return -1;
  auto it = std::find(values.begin(), values.end(), value);
  return it == values.end() ? -1 : static_cast<int>(it - values.begin());
}

}  // namespace

Op::Op(const KernelRequest& request) : request_(request), node_(request.graph.node(request.members.at(0))) {
  for (ValueId v : node_.inputs) slots_.push_back(index_of(request.input_values, v));
  for (ValueId v : node_.outputs) outputs_.push_back(index_of(request.output_values, v));
}

const TensorSpec& Op::in(size_t slot) const {
  if (!has(slot)) fail(fmt::format("{} needs an input {}, which is absent", node_.op, slot + 1));
  return request_.inputs[static_cast<size_t>(slots_[slot])];
}

const TensorSpec& Op::out(size_t output) const {
  if (!wants(output)) fail(fmt::format("{} needs an output {}, which is absent", node_.op, output + 1));
  return request_.outputs[static_cast<size_t>(outputs_[output])];
}

int64_t Op::axis(const std::string& key, int64_t fallback, int64_t rank, bool end_allowed) const {
  const int64_t given = node_.integer(key, fallback);
  const int64_t axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis >= rank + (end_allowed ? 1 : 0))
    fail(fmt::format("{} '{}' = {} does not exist in a tensor of rank {}", node_.op, key, given, rank));
  return axis;
}

void Op::fail(const std::string& message) const { throw Error(ErrorCode::model, message).at_node(node_.name); }

namespace {
std::vector<Slot> slots_of(const Op& op, const std::vector<int>& indices) {
  std::vector<Slot> slots(indices.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i].index = indices[i];
    if (const Tensor* c = op.constant(i)) {
      slots[i].constant = *c;
      slots[i].strides = row_major_strides(c->dims());
    }
  }
  return slots;
}
}  // namespace

PreparedKernel Op::around(std::unique_ptr<Kernel> kernel, Layout inputs, Layout outputs) const {
  PreparedKernel made;
  made.kernel = std::move(kernel);
  made.name = "quern.";
  for (char c : node_.op) made.name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  made.input_layouts.assign(request_.inputs.size(), inputs);
  made.output_layouts.assign(request_.outputs.size(), outputs);
  return made;
}

PreparedKernel Op::kernel(Layout inputs, Layout outputs, Body body, size_t workspace_bytes) const {
  return around(std::make_unique<BodyKernel>(slots_of(*this, slots_), outputs_, std::move(body), workspace_bytes), inputs, outputs);
}

PreparedKernel Op::data_sized(MakingBody body) const {
  return around(std::make_unique<MakingKernel>(slots_of(*this, slots_), std::move(body)), Layout::row_major, Layout::row_major);
}

PreparedKernel Op::kernel(Layout layout, Body body, size_t workspace_bytes) const {
  return kernel(layout, layout, std::move(body), workspace_bytes);
}

PreparedKernel Op::in_place(Layout layout, Body body, size_t workspace_bytes) const {
  PreparedKernel made = kernel(layout, layout, std::move(body), workspace_bytes);
  made.may_alias = has(0) && !constant(0) && wants(0) && in(0).dims == out(0).dims &&
                   size_of(in(0).dtype) == size_of(out(0).dtype);
  return made;
}

PreparedKernel Op::view(Layout layout) const {
  // Layout::any keeps the dims, so both sides have equal strides; row_major only keeps the order of the elements.
  const bool keeps_dims = layout == Layout::any;
  PreparedKernel made = kernel(layout, layout, [keeps_dims](const Call& c) {
    const TensorView& from = c.in[0];
    const TensorView& to = c.out[0];
    if (from.data == to.data) return;
    if (keeps_dims) {
      copy_strided(from, to);
    } else if (const int64_t n = from.count()) {
      std::memcpy(to.data, from.data, static_cast<size_t>(n) * size_of(from.type));
    }
  });
  made.view = !constant(0);
  made.may_alias = made.view;
  return made;
}

IntList::IntList(const Op& op, size_t slot) {
  if (!op.has(slot)) return;
  if (const Tensor* c = op.constant(slot)) fixed_ = c->to_ints();
  else slot_ = static_cast<int>(slot);
}

IntList::IntList(const Op& op, const std::string& key, size_t slot) {
  if (op.node().has(key)) fixed_ = op.node().integers(key);
  else *this = IntList(op, slot);
}

std::vector<int64_t> IntList::get(const Call& call) const {
  if (fixed_) return *fixed_;
  if (slot_ < 0) return {};
  return read_ints(call.in[static_cast<size_t>(slot_)]);
}

std::vector<int64_t> read_ints(const TensorView& view) {
  std::vector<int64_t> values(static_cast<size_t>(view.count()));
  const int64_t step = view.dims.empty() ? 1 : view.strides[0];
  if (view.dims.size() > 1) throw Error(ErrorCode::model, "a list of integers must have one axis");
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) * step;
    if (view.type == DType::s64) values[i] = view.as<const int64_t>()[at];
    else if (view.type == DType::s32) values[i] = view.as<const int32_t>()[at];
    else throw Error(ErrorCode::model, fmt::format("a list of integers must be of type s64 or s32, not {}", name_of(view.type)));
  }
  return values;
}

double read_scalar(const TensorView& view) {
  if (view.count() != 1) throw Error(ErrorCode::model, fmt::format("expected a single number, not {}", to_string(view.dims)));
  double value = 0;
  const bool known = dispatch<float, double, QUERN_OWN_INTEGERS, bool>(view.type, [&](auto tag) {
    value = static_cast<double>(*view.as<const decltype(tag)>());
  });
  if (!known) throw Error(ErrorCode::model, fmt::format("a number of type {} can't be read", name_of(view.type)));
  return value;
}

}  // namespace quern::own
