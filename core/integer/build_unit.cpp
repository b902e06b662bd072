#include "core/integer/build_unit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/base/error.hpp"

namespace quern {
namespace {

bool inside(const PlacedUnit& placed, NodeId id) {
  return std::find(placed.members.begin(), placed.members.end(), id) != placed.members.end();
}

// Index of the operand that an input of a member stands for: the first member's by role, then by value.
struct OperandFinder {
  const PlacedUnit& placed;
  std::vector<int> placed_at;  // index of a placed operand among the unit's operands

  int by_role(const std::string& role, ValueId value) const {
    for (size_t i = 0; i < placed.operands.size(); ++i)
      if (placed.operands[i].role == role && placed.operands[i].value == value) return static_cast<int>(i);
    return -1;
  }
  int by_value(ValueId value, const std::vector<std::string>& taken) const {
    for (size_t i = 0; i < placed.operands.size(); ++i) {
      const auto& o = placed.operands[i];
      if (o.value == value && !o.role.empty() && std::find(taken.begin(), taken.end(), o.role) == taken.end()) return static_cast<int>(i);
    }
    return -1;
  }
};

double channel_scale(const QuantParams& p, size_t channel) { return p.scale[p.scale.size() == 1 ? 0 : channel]; }

// bias = rne(b / (s_x * s_w)), |bias| <= bias_limit; raises weight scales where that would be exceeded. `together`: all by one factor,
// where they are multiples of one step.
Tensor integer_bias(const Tensor& bias, const QuantParams& input, QuantParams& weight, QuantParams& out, const std::string& node, bool together,
                    std::vector<LoweringNote>& notes) {
  const std::vector<float> b = bias.to_floats();
  const double sx = input.scale.at(0);
  const size_t channels = b.size();
  const double limit = static_cast<double>(bias_limit);
  int64_t raised = 0;
  double worst = 1;
  for (size_t c = 0; c < channels; ++c) {
    const size_t k = weight.scale.size() == 1 ? 0 : c;
    const double smallest = std::abs(static_cast<double>(b[c])) / (sx * limit);
    if (weight.scale[k] < smallest && together) {
      worst = std::max(worst, smallest / weight.scale[k] * (1 + 1e-6));
      ++raised;
    } else if (weight.scale[k] < smallest) {
      // The next float above, so that the quotient stays below the limit.
      const float next = std::nextafter(static_cast<float>(smallest), std::numeric_limits<float>::infinity());
      worst = std::max(worst, static_cast<double>(next) / weight.scale[k]);
      weight.scale[k] = next;
      ++raised;
    }
  }
  if (raised > 0 && together)
    for (float& s : weight.scale) s = static_cast<float>(s * worst);
  if (raised > 0)
    notes.push_back({node, fmt::format("weight scale raised in {} channel{} (up to {:.3g} times) so that the bias fits 2^30 in integers",
                                       raised, raised == 1 ? "" : "s", worst)});
  std::vector<int32_t> q(channels);
  out.format = make_format(32, true, false);
  out.axis = weight.scale.size() == 1 ? -1 : 0;
  out.scale.clear();
  for (float s : weight.scale) out.scale.push_back(static_cast<float>(sx * s));
  out.zero_point.assign(out.scale.size(), 0);
  for (size_t c = 0; c < channels; ++c)
    q[c] = static_cast<int32_t>(std::clamp(to_integer(b[c] / (sx * channel_scale(weight, c)), Round::half_even), -bias_limit, bias_limit));
  return Tensor::of<int32_t>({static_cast<int64_t>(channels)}, q);
}

}  // namespace

std::shared_ptr<const Tensor> QuantizedConstants::get(const std::shared_ptr<const Tensor>& constant, const QuantParams& params) {
  const auto [first, last] = made_.equal_range(constant.get());
  for (auto it = first; it != last; ++it)
    if (it->second.params == params) return it->second.integers;
  auto integers = std::make_shared<const Tensor>(quantize(*constant, params));
  made_.emplace(constant.get(), Entry{constant, params, integers});
  return integers;
}

std::string quantized_name(const std::string& value) { return value + "_quantized"; }

std::shared_ptr<IntegerUnit> build_unit(const Graph& graph, const Placement& placement, const PlacedUnit& placed, const Rules& rules,
                                        QuantizedConstants& constants, std::vector<LoweringNote>& notes) {
  auto unit = std::make_shared<IntegerUnit>();
  const Node& main = graph.node(placed.members.front());
  unit->name = main.name;
  unit->config = placed.config;
  const auto contract = rules.contracts.find(placed.contract);
  if (contract == rules.contracts.end())
    throw Error(ErrorCode::plugin, fmt::format("the rules name no contract '{}'", placed.contract)).at_node(main.name);
  unit->contract = contract->second;

  const auto shape_of = [&](ValueId v) { return graph.value(v).shape.value_or(Dims{}); };

  // Operands that the placement named, except the bias: that one needs the scales of the others.
  std::vector<int> index_of(placed.operands.size(), -1);
  const PlacedOperand* bias = nullptr;
  for (size_t i = 0; i < placed.operands.size(); ++i) {
    const PlacedOperand& p = placed.operands[i];
    if (p.value == no_value) continue;
    const Value& value = graph.value(p.value);
    UnitOperand o;
    o.role = p.role;
    o.value = value.name;
    o.dims = shape_of(p.value);
    o.dtype = value.dtype;
    if (p.quantizer >= 0) {
      o.params = placement.quantizers.at(static_cast<size_t>(p.quantizer)).params;
      o.dtype = o.params->format.storage();
    } else if (value.is_constant()) {
      o.constant = value.constant;
    }
    index_of[i] = static_cast<int>(unit->operands.size());
    if (p.role == "bias") bias = &p;
    unit->operands.push_back(std::move(o));
  }
  auto at_role = [&](const std::string& role) -> UnitOperand* {
    for (auto& o : unit->operands)
      if (o.role == role) return &o;
    return nullptr;
  };
  if (bias) {
    UnitOperand *input = at_role("input"), *weight = at_role("weight"), *b = at_role("bias");
    if (!input || !input->params || !weight || !weight->params || !graph.value(bias->value).is_constant())
      throw Error(ErrorCode::internal, "a bias without quantized input and weight, or a bias that is not constant").at_node(main.name);
    QuantParams params;
    bool together = false;
    for (const PlacedOperand& p : placed.operands) {
      if (p.role != "weight" || p.quantizer < 0) continue;
      const auto type = rules.types.find(placement.quantizers.at(static_cast<size_t>(p.quantizer)).type);
      together = type != rules.types.end() && type->second.scale == ScaleRule::tensor_scale_times_integer;
    }
    Tensor q = integer_bias(*graph.value(bias->value).constant, *input->params, *weight->params, params, main.name, together, notes);
    b->params = params;
    b->dtype = DType::s32;
    b->dims = q.dims();
    b->constant = std::make_shared<const Tensor>(std::move(q));
  }
  for (auto& o : unit->operands) {
    const Value& value = graph.value(graph.find_value(o.value));
    if (o.params && !o.constant && value.is_constant()) o.constant = constants.get(value.constant, *o.params);
  }

  // Members, their inputs resolved; what no role was given for (shapes, bounds of Clip) becomes an attribute-like operand.
  std::map<ValueId, int> attribute_like;
  OperandFinder finder{placed, index_of};
  std::vector<std::string> main_roles = roles_of(main);
  for (size_t m = 0; m < placed.members.size(); ++m) {
    const Node& node = graph.node(placed.members[m]);
    UnitMember member;
    member.name = node.name;
    member.domain = node.domain;
    member.op = node.op;
    member.since_version = node.since_version;
    member.attributes = node.attributes;
    for (size_t s = 0; s < node.inputs.size(); ++s) {
      const ValueId v = node.inputs[s];
      if (v == no_value) { member.inputs.push_back(absent_input); continue; }
      const NodeId producer = graph.value(v).producer;
      if (producer != no_node && inside(placed, producer) && m > 0) {
        const auto it = std::find(placed.members.begin(), placed.members.end(), producer);
        member.inputs.push_back(-1 - static_cast<int>(it - placed.members.begin()));
        continue;
      }
      int found = m == 0 && s < main_roles.size() && !main_roles[s].empty() ? finder.by_role(main_roles[s], v) : -1;
      if (found < 0) found = finder.by_value(v, m == 0 ? std::vector<std::string>{} : main_roles);
      if (found < 0 && m > 0) found = finder.by_value(v, {});
      if (found >= 0 && index_of[static_cast<size_t>(found)] >= 0) {
        member.inputs.push_back(index_of[static_cast<size_t>(found)]);
        continue;
      }
      auto [it, fresh] = attribute_like.emplace(v, static_cast<int>(unit->operands.size()));
      if (fresh) {
        UnitOperand o;
        o.value = graph.value(v).name;
        o.dtype = graph.value(v).dtype;
        o.dims = shape_of(v);
        o.constant = graph.value(v).constant;
        unit->operands.push_back(std::move(o));
      }
      member.inputs.push_back(it->second);
    }
    unit->macs_per_sample += macs_of(graph, node);
    unit->members.push_back(std::move(member));
  }

  const Value& out = graph.value(placed.output);
  unit->output.role = "output";
  unit->output.value = out.name;
  unit->output.dims = shape_of(placed.output);
  unit->output.dtype = DType::f32;
  if (placed.output_quantizer >= 0) {
    unit->output.params = placement.quantizers.at(static_cast<size_t>(placed.output_quantizer)).params;
    unit->output.dtype = unit->output.params->format.storage();
  }
  return unit;
}

}  // namespace quern
