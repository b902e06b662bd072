// Values of ONNX attributes that a node does not state, by operator and version of its definition; what rules compare with, and what
// plugins are given. An attribute that an older definition lacks has the value by which the newer one does the same. Those that
// follow from shapes (kernel_shape, perm) are not here.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.hpp"

namespace quern {

// A list of one element stands for one such element per axis (strides, dilations, output_padding) or per side (pads).
std::optional<Attribute> attribute_default(const std::string& op, int since_version, const std::string& attribute);

struct NamedAttribute { std::string name; Attribute value; };
std::vector<NamedAttribute> attribute_defaults(const std::string& op, int since_version);

}  // namespace quern
