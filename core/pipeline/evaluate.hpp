// Several engines over the same samples, results handed on in order of the samples.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/pipeline/pipeline.hpp"

namespace quern {

Sample to_sample(NamedTensors outputs);

// `use(index, outputs by engine)` is called from one thread, in order of the index.
void run_together(const std::vector<Engine*>& engines, const Dataset& data, int64_t count, int threads, const std::string& stage_name,
                  Progress* progress, const std::function<void(int64_t, std::vector<Sample>&)>& use);

}  // namespace quern
