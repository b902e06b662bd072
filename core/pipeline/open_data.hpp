// Data of a configuration for its network: what the readers give, and states that the float network carries from step to step.
#pragma once
#include "core/dataset/dataset.hpp"
#include "core/pipeline/config.hpp"

namespace quern {

// As open_dataset; with `state: {input: output, ...}` the samples are time steps in order: each of these inputs is fed what the float
// network (config.model) gave as that output for the step before, zeros at the first step of a sequence of `steps`.
std::unique_ptr<Dataset> open_data(const Config& config, const json::object& section, const std::vector<InputSpec>& inputs, PluginRegistry& registry);

}  // namespace quern
