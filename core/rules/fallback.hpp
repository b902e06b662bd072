// What runs a node that no config of the rules takes: the host, in f16 or in f32 (`fallback` of the rules).
//
// The contract of a node in f16: its f32 operands (constants too) are rounded to the nearest f16, ties to even; it is computed by the
// host's own kernels, in a fixed order; each f32 output is rounded to f16 once. Sums are kept in f32 or wider. Beyond 65,504 numbers become
// infinite, as in ONNX's Cast.
//
//   if (fallback_of(rules, graph, node) == Precision::f16) mark_f16(node);   // in a graph of its own
#pragma once
#include "core/rules/rules.hpp"

namespace quern {

enum class Precision { f32, f16 };

// `why`: why a node stays in f32 though the rules list f16 first; untouched otherwise.
Precision fallback_of(const Rules& rules, const Graph& graph, const Node& node, std::string* why = nullptr);

// Whether an input is a number that is computed with: places and factors of Resize are not.
bool computes_with(const Node& node, size_t slot);

// The mark of such a node in a lowered graph, an attribute: packages keep it, and no library's kernel takes the node.
void mark_f16(Node& node);
bool is_f16(const Node& node);
void unmark_f16(Node& node);

}  // namespace quern
