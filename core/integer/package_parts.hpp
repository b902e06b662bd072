// Parts of a package's index: attributes, parameters, units. Written and read side by side, so that they stay inverses.
#pragma once
#include "core/integer/blob.hpp"
#include "core/integer/integer.hpp"

namespace quern {

json::object attributes_to_json(const std::map<std::string, Attribute>& attributes, BlobWriter& blob, const std::string& node);
std::map<std::string, Attribute> attributes_from_json(const Fields& fields, const BlobReader& blob);

json::object params_to_json(const QuantParams& params);
QuantParams params_from_json(const Fields& fields);

json::object unit_to_json(const IntegerUnit& unit, BlobWriter& blob);
std::shared_ptr<IntegerUnit> unit_from_json(const Fields& fields, const BlobReader& blob,
                                            const std::map<std::string, std::shared_ptr<const Contract>>& contracts);

}  // namespace quern
