#include "core/rules/unit.hpp"

namespace quern {

const UnitOperand* IntegerUnit::operand(const std::string& role) const {
  for (const auto& o : operands)
    if (o.role == role) return &o;
  return output.role == role ? &output : nullptr;
}

}  // namespace quern
