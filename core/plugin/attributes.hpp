// Attributes of an operator as plugins get them: every one that has a default is there, negative axes are counted from the
// front, and the padding of Conv and pooling is resolved to numbers wherever the input's size is known.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/rules/unit.hpp"

namespace quern {

// `inputs`: dims per input of the member, none where not even the rank is known.
std::map<std::string, Attribute> normalised_attributes(const UnitMember& member, const std::vector<std::optional<Dims>>& inputs);

}  // namespace quern
