#include "core/plugin/abi_op.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/plugin/attributes.hpp"

namespace quern {

static_assert(QUERN_ABSENT_INPUT == absent_input, "units mark absent inputs as the plugin interface does");

quern_tensor AbiOp::tensor(DType dtype, const Dims& dims, const Tensor* data) {
  auto t = abi_struct<quern_tensor>();
  const bool complete = std::all_of(dims.begin(), dims.end(), [](int64_t d) { return d >= 0; });
  t.dtype = static_cast<uint32_t>(dtype);
  t.rank = static_cast<uint32_t>(dims.size());
  t.dims = dims_.emplace_back(dims).data();
  t.strides = dims_.emplace_back(complete ? row_major_strides(dims) : Dims(dims.size(), 0)).data();
  t.layout = QUERN_LAYOUT_ROW_MAJOR;
  if (complete) t.bytes = static_cast<uint64_t>(element_count(dims)) * size_of(dtype);
  if (data) {
    // Constants that look into a mapped file may lie anywhere; plugins are promised 64 bytes.
    if (reinterpret_cast<uintptr_t>(data->data()) % 64 != 0) {
      Tensor copy(data->type(), data->dims());
      if (data->bytes() > 0) std::memcpy(copy.mutable_bytes(), data->data(), data->bytes());
      data = &copies_.emplace_back(std::move(copy));
    }
    t.data = const_cast<void*>(data->data());
  }
  return t;
}

const quern_operand* AbiOp::operand(const UnitOperand& o, const Dims& dims) {
  auto out = abi_struct<quern_operand>();
  out.role = str_of(o.role);
  out.value = str_of(o.value);
  out.tensor = o.constant ? tensor(o.constant->type(), o.constant->dims(), o.constant.get()) : tensor(o.dtype, dims, nullptr);
  if (o.params) {
    const QuantParams& p = *o.params;
    if (p.scale.empty() || p.scale.size() != p.zero_point.size())
      throw Error(ErrorCode::internal, fmt::format("tensor {}: {} scales and {} zero points", o.value, p.scale.size(), p.zero_point.size()));
    auto q = abi_struct<quern_quant>();
    q.bits = static_cast<uint32_t>(p.format.bits);
    q.is_signed = p.format.is_signed ? 1 : 0;
    q.qmin = p.format.qmin;
    q.qmax = p.format.qmax;
    q.axis = p.axis;
    q.count = static_cast<uint32_t>(p.scale.size());
    q.scale = p.scale.data();
    q.zero_point = p.zero_point.data();
    out.quant = &quants_.emplace_back(q);
  }
  return &operands_.emplace_back(out);
}

std::optional<quern_attr> abi_attribute(const std::string& name, const Attribute& value,
                                        const std::function<const quern_tensor*(const Tensor&)>& tensor) {
  auto a = abi_struct<quern_attr>();
  a.name = str_of(name);
  if (const auto* i = std::get_if<int64_t>(&value)) {
    a.kind = QUERN_ATTR_INT;
    a.i = *i;
  } else if (const auto* f = std::get_if<float>(&value)) {
    a.kind = QUERN_ATTR_FLOAT;
    a.f = *f;
  } else if (const auto* s = std::get_if<std::string>(&value)) {
    a.kind = QUERN_ATTR_STRING;
    a.s = str_of(*s);
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&value)) {
    a.kind = QUERN_ATTR_INTS;
    a.count = static_cast<uint32_t>(ints->size());
    a.ints = ints->data();
  } else if (const auto* floats = std::get_if<std::vector<float>>(&value)) {
    a.kind = QUERN_ATTR_FLOATS;
    a.count = static_cast<uint32_t>(floats->size());
    a.floats = floats->data();
  } else if (const auto* t = std::get_if<Tensor>(&value)) {
    a.kind = QUERN_ATTR_TENSOR;
    a.tensor = tensor(*t);
  } else {
    return std::nullopt;
  }
  return a;
}

const quern_attr* AbiOp::attribute(const std::string& name, const Attribute& value) {
  const auto a = abi_attribute(name, value, [&](const Tensor& t) { return &attr_tensors_.emplace_back(tensor(t.type(), t.dims(), &t)); });
  return a ? &attrs_.emplace_back(*a) : nullptr;
}

const quern_node* AbiOp::node(const UnitMember& member, const std::vector<std::optional<Dims>>& dims) {
  const auto& attributes = attributes_.emplace_back(normalised_attributes(member, dims));
  auto& list = attr_lists_.emplace_back();
  for (const auto& [name, value] : attributes)
    if (const quern_attr* a = attribute(name, value)) list.push_back(a);
  const auto& inputs = input_lists_.emplace_back(member.inputs.begin(), member.inputs.end());
  auto n = abi_struct<quern_node>();
  n.name = str_of(member.name);
  n.domain = str_of(member.domain);
  n.op = str_of(member.op);
  n.since_version = member.since_version;
  n.n_attrs = static_cast<uint32_t>(list.size());
  n.attrs = list.data();
  n.n_inputs = static_cast<uint32_t>(inputs.size());
  n.inputs = inputs.data();
  return &nodes_.emplace_back(n);
}

void AbiOp::build(const IntegerUnit& unit, const std::vector<Dims>* input_dims, const Dims* output_dims) {
  std::vector<std::optional<Dims>> operand_dims;
  size_t variable = 0;
  for (const UnitOperand& o : unit.operands) {
    if (o.constant) {
      operand_dims.emplace_back(o.constant->dims());
    } else if (input_dims) {
      if (variable >= input_dims->size())
        throw Error(ErrorCode::internal, fmt::format("unit {}: shapes of {} inputs are given; it has more", unit.name, input_dims->size()));
      operand_dims.emplace_back((*input_dims)[variable++]);
    } else {
      operand_dims.emplace_back(o.dims);
    }
    input_list_.push_back(operand(o, *operand_dims.back()));
  }
  if (input_dims && variable != input_dims->size())
    throw Error(ErrorCode::internal, fmt::format("unit {}: shapes of {} inputs are given; it has {}", unit.name, input_dims->size(), variable));
  output_list_.push_back(operand(unit.output, output_dims ? *output_dims : unit.output.dims));

  for (size_t m = 0; m < unit.members.size(); ++m) {
    const UnitMember& member = unit.members[m];
    std::vector<std::optional<Dims>> dims;
    for (const int i : member.inputs) {
      const bool valid = i == absent_input || (i >= 0 && static_cast<size_t>(i) < operand_dims.size()) || (i < 0 && -1 - i < static_cast<int>(m));
      if (!valid) throw Error(ErrorCode::internal, fmt::format("unit {}: member {} has input {}", unit.name, member.name, i));
      if (i >= 0) dims.push_back(operand_dims[static_cast<size_t>(i)]);
      else dims.emplace_back();  // absent, or the output of a member
    }
    node_list_.push_back(node(member, dims));
  }
  for (const auto& [name, t] : unit.tables) {
    auto table = abi_struct<quern_table>();
    table.name = str_of(name);
    table.tensor = tensor(t.type(), t.dims(), &t);
    table_list_.push_back(&tables_.emplace_back(table));
  }

  op_ = abi_struct<quern_op>();
  op_.name = str_of(unit.name);
  if (unit.contract) op_.contract = str_of(unit.contract->id);
  op_.config = str_of(unit.config);
  op_.n_nodes = static_cast<uint32_t>(node_list_.size());
  op_.nodes = node_list_.data();
  op_.n_inputs = static_cast<uint32_t>(input_list_.size());
  op_.inputs = input_list_.data();
  op_.n_outputs = static_cast<uint32_t>(output_list_.size());
  op_.outputs = output_list_.data();
  op_.n_tables = static_cast<uint32_t>(table_list_.size());
  op_.tables = table_list_.data();
}

}  // namespace quern
