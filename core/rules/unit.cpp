#include "core/rules/unit.hpp"

namespace quern {

Node node_of(const UnitMember& member) {
  Node node;
  node.name = member.name;
  node.domain = member.domain;
  node.op = member.op;
  node.since_version = member.since_version;
  node.attributes = member.attributes;
  return node;
}

const UnitOperand* IntegerUnit::operand(const std::string& role) const {
  for (const auto& o : operands)
    if (o.role == role) return &o;
  return output.role == role ? &output : nullptr;
}

}  // namespace quern
