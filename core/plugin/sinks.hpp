// Sinks that plugins fill during a call.
#pragma once
#include <map>
#include <string>

#include "core/plugin/host.hpp"

namespace quern {

// Collects tensors by name; refuses a name given twice, unknown types, negative sizes. Nothing is thrown through the plugin.
quern_table_sink tensor_sink(std::map<std::string, Tensor>& to);

}  // namespace quern
