// What the rules room knows about ONNX operators: their names, the roles of their operands, and the kernel forms that can compute
// them. Private to core/rules and core/placement.
#pragma once
#include <string>
#include <vector>

#include "core/graph/graph.hpp"
#include "core/numeric/contract.hpp"

namespace quern {

// Operators of ai.onnx by name, sorted.
const std::vector<std::string>& onnx_operators();
bool is_onnx_operator(const std::string& op);

// Roles of an operator's operands when it has `inputs` inputs: "" for those that act like attributes.
std::vector<std::string> roles_of_op(const std::string& domain, const std::string& op, size_t inputs);
// Roles that a config of this operator must list, and those that it may ("in*" for the variadic ones).
std::vector<std::string> required_roles(const std::string& domain, const std::string& op);
std::vector<std::string> legal_roles(const std::string& domain, const std::string& op);

// Whether a contract of this form can compute the operator. Operators not known here: any form.
bool form_fits(const std::string& domain, const std::string& op, KernelForm form);
std::string_view name_of(KernelForm form);

bool is_commutative(const std::string& op);
bool selects(const std::string& op);  // gives some of its input's elements, which may lie in a smaller range

}  // namespace quern
