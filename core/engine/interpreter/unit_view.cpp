#include "core/engine/interpreter/unit_view.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"

namespace quern::interpreter {
namespace {

Tensor integers(const std::vector<int64_t>& v) { return Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v); }

}  // namespace

UnitOperands::UnitOperands(const IntegerUnit& unit) : unit_(unit) {
  auto add = [&](const UnitOperand& o) {
    if (!o.params) return;
    made_[o.role + ".scale"] = Tensor::of<float>({static_cast<int64_t>(o.params->scale.size())}, o.params->scale);
    made_[o.role + ".zero_point"] = integers(o.params->zero_point);
  };
  for (const auto& o : unit.operands) add(o);
  add(unit.output);
  if (unit.output.params) {
    made_["qmin"] = integers({unit.output.params->format.qmin});
    made_["qmax"] = integers({unit.output.params->format.qmax});
  }
}

const Tensor* UnitOperands::table(const std::string& name) const {
  if (auto it = unit_.tables.find(name); it != unit_.tables.end()) return &it->second;
  if (auto it = made_.find(name); it != made_.end()) return &it->second;
  for (const auto& o : unit_.operands)
    if (o.role == name && o.constant) return o.constant.get();
  return nullptr;
}

bool UnitOperands::present(const std::string& name) const {
  return unit_.operand(name) != nullptr || table(name) != nullptr;
}

UnitView::UnitView(const KernelRequest& request) {
  const Node& node = request.graph.node(request.members.front());
  unit = std::dynamic_pointer_cast<const IntegerUnit>(node.payload);
  if (!unit) throw Error(ErrorCode::internal, "a unit without payload").at_node(node.name);
  size_t slot = 0;
  for (const auto& o : unit->operands) {
    if (o.constant) continue;
    if (slot >= node.inputs.size()) throw Error(ErrorCode::internal, "a unit with too few inputs").at_node(node.name);
    const ValueId value = node.inputs[slot++];
    const auto at = std::find(request.input_values.begin(), request.input_values.end(), value);
    const size_t input = static_cast<size_t>(at - request.input_values.begin());
    flowing.push_back({&o, input, request.inputs.at(input).dims});
  }
  output_dims = request.outputs.at(0).dims;
}

const Flowing* UnitView::find(const std::string& role) const {
  for (const auto& f : flowing)
    if (f.operand->role == role) return &f;
  return nullptr;
}

const std::vector<Stage>& UnitView::pre_stages(const std::string& role) const {
  static const std::vector<Stage> none;
  for (const auto& rule : contract().operands) {
    if (rule.role == role) return rule.pre;
    if (rule.role == "in*" && role.size() > 2 && role.compare(0, 2, "in") == 0 &&
        std::all_of(role.begin() + 2, role.end(), [](char c) { return c >= '0' && c <= '9'; }))
      return rule.pre;
  }
  return none;
}

namespace {
// In the stages of "in*", "in*.scale" means the scale of the operand at hand.
std::vector<Stage> for_role(std::vector<Stage> stages, const std::string& role) {
  auto fix = [&](std::string& name) {
    if (name.compare(0, 4, "in*.") == 0) name = role + name.substr(3);
    else if (name.size() > 3 && name.compare(0, 3, "in*") == 0) name = role + name.substr(3);
  };
  for (auto& s : stages) { fix(s.a.name); fix(s.b.name); fix(s.when); }
  return stages;
}
}  // namespace

StageProgram UnitView::pre(const std::string& role, int64_t channels) const {
  return StageProgram(contract().id, for_role(pre_stages(role), role), UnitOperands(*unit), {}, channels);
}

std::vector<std::string> UnitView::extra_roles() const {
  std::vector<std::string> roles;
  auto note = [&](const StageOperand& o) {
    if (o.kind == StageOperand::Kind::tensor && find(o.name) && std::find(roles.begin(), roles.end(), o.name) == roles.end())
      roles.push_back(o.name);
  };
  for (const auto& s : contract().post) { note(s.a); note(s.b); }
  return roles;
}

StageProgram UnitView::post(int64_t channels) const {
  return StageProgram(contract().id, contract().post, UnitOperands(*unit), extra_roles(), channels);
}

void UnitView::fail(const std::string& what) const {
  throw Error(ErrorCode::plugin, fmt::format("contract '{}': {}", contract().id, what)).at_node(unit->name);
}

StageValue load(const TensorView& view, int64_t offset) {
  StageValue v;
  switch (view.type) {
    case DType::u8: v.i = view.as<uint8_t>()[offset]; break;
    case DType::s8: v.i = view.as<int8_t>()[offset]; break;
    case DType::u16: v.i = view.as<uint16_t>()[offset]; break;
    case DType::s16: v.i = view.as<int16_t>()[offset]; break;
    case DType::s32: v.i = view.as<int32_t>()[offset]; break;
    case DType::u32: v.i = view.as<uint32_t>()[offset]; break;
    case DType::s64: v.i = view.as<int64_t>()[offset]; break;
    case DType::f32: v.is_float = true; v.f = view.as<float>()[offset]; break;
    default: throw Error(ErrorCode::plugin, fmt::format("an operand of type {} has no meaning in a contract", name_of(view.type)));
  }
  return v;
}

namespace {
template <class T>
bool store_integer(const TensorView& view, int64_t offset, int64_t i) {
  const T t = static_cast<T>(i);
  view.as<T>()[offset] = t;
  return static_cast<int64_t>(t) == i;
}
}  // namespace

void store(const TensorView& view, int64_t offset, const StageValue& value, const UnitView& unit) {
  if (view.type == DType::f32) {
    if (!value.is_float) unit.fail("ends with an integer, but the unit writes f32");
    view.as<float>()[offset] = value.f;
    return;
  }
  if (value.is_float) unit.fail(fmt::format("ends with a float, but the unit writes {}", name_of(view.type)));
  bool fits = false;
  switch (view.type) {
    case DType::u8: fits = store_integer<uint8_t>(view, offset, value.i); break;
    case DType::s8: fits = store_integer<int8_t>(view, offset, value.i); break;
    case DType::u16: fits = store_integer<uint16_t>(view, offset, value.i); break;
    case DType::s16: fits = store_integer<int16_t>(view, offset, value.i); break;
    case DType::s32: fits = store_integer<int32_t>(view, offset, value.i); break;
    default: break;
  }
  if (!fits) unit.fail(fmt::format("result {} does not fit {}: the stages lack a clamp", value.i, name_of(view.type)));
}

Extras::Extras(const UnitView& view) : roles_(view.extra_roles()), rank_(view.output_dims.size()) {
  for (const auto& role : roles_) {
    const Flowing* f = view.find(role);
    Dims dims = f->dims;
    if (dims.size() > rank_) view.fail("operand '" + role + "' has a higher rank than the output");
    dims.insert(dims.begin(), rank_ - dims.size(), 1);
    for (size_t i = 0; i < rank_; ++i)
      if (dims[i] != 1 && dims[i] != view.output_dims[i])
        view.fail(fmt::format("operand '{}' of shape {} does not fit the output {}", role, to_string(f->dims), to_string(view.output_dims)));
    const int64_t channels = rank_ >= 2 ? view.output_dims[1] : 1;
    ones_.push_back({f->input, std::move(dims), view.pre(role, channels)});
  }
}

void Extras::read(std::span<const TensorView> inputs, std::span<const int64_t> index, int64_t channel, StageValue* out) const {
  for (size_t k = 0; k < ones_.size(); ++k) {
    const One& one = ones_[k];
    const TensorView& v = inputs[one.input];
    const size_t skip = rank_ - v.dims.size();
    int64_t offset = 0;
    for (size_t i = 0; i < v.dims.size(); ++i)
      if (one.dims[i + skip] != 1) offset += index[i + skip] * v.strides[i];
    out[k] = one.pre.run(load(v, offset), channel);
  }
}

}  // namespace quern::interpreter
