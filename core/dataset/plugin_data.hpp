// Data readers and metrics of plugins behind the host's interfaces.
#pragma once
#include "core/dataset/dataset.hpp"
#include "core/plugin/plugin.hpp"

namespace quern {

// `section`: of the configuration, its parameters completed by the reader's schema. Error(data) when it can't be opened or gives
// what the model can't take.
std::unique_ptr<Dataset> open_plugin_data(const ReaderHandle& reader, const json::object& section, const fs::path& folder,
                                          const std::vector<InputSpec>& inputs);
std::unique_ptr<Metric> make_plugin_metric(const MetricHandle& metric, const json::object& parameters);

// The keys of a section that are the host's, with any reader.
bool is_common_data_key(std::string_view key);
// What of a section is the reader's own.
json::object reader_parameters(const json::object& section);

}  // namespace quern
