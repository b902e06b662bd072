// Several engines over the same samples, results handed on in order of the samples.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/pipeline/pipeline.hpp"

namespace quern {

Sample to_sample(NamedTensors outputs);

// `use(index, outputs by engine)` is called from one thread, in order of the index. Returned: by engine, the sums that accumulators cut
// off, by name of the node.
using Saturations = std::map<std::string, uint64_t>;
std::vector<Saturations> run_together(const std::vector<Engine*>& engines, const Dataset& data, int64_t count, int threads, const std::string& stage_name,
                  Progress* progress, const std::function<void(int64_t, std::vector<Sample>&)>& use);

}  // namespace quern
