#include <fmt/format.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/parallel.hpp"

namespace quern::cli {

int verify_verb(const VerifyArguments& a) {
  PluginRegistry registry(a.plugin_options());
  Progress progress(ProgressStyle::automatic);
  const Verification v = verify(a.folder, registry, {.samples = a.samples, .threads = a.thread_count(usable_cores()), .progress = &progress});
  const std::string failure = verdict(v, a.min_coverage);
  uint64_t saturations = 0;
  for (const auto& [node, count] : v.integer_saturations) saturations += count;
  if (a.json) {
    json::value first = nullptr;
    if (v.first)
      first = json::object{{"tensor", v.first->tensor}, {"node", v.first->node}, {"sample", v.first->sample}, {"index", v.first->index},
                           {"simulated", number(v.first->simulated)}, {"integer", number(v.first->integer)}};
    print(to_text(json::object{{"tensors", v.tensors}, {"elements", v.elements}, {"mismatches", v.mismatches}, {"saturations", saturations},
                               {"coverage_nodes", v.coverage_nodes}, {"coverage_macs", v.coverage_macs}, {"first", first}}, false) + "\n");
  } else {
    print(fmt::format("simulated = integer: {} mismatches in {} elements of {} tensors, {} samples; {} of {} nodes and {:.2f} % of the multiply-accumulates\n",
                      v.mismatches, v.elements, v.tensors, v.samples, v.integer_nodes, v.nodes, 100 * v.coverage_macs));
    if (saturations > 0) print(fmt::format("{} sums were cut off by their accumulators\n", saturations));
    if (v.first)
      print(fmt::format("first: sample {}, tensor '{}' of node '{}', element {}: simulated {}, integer {}\n", v.first->sample, v.first->tensor,
                        v.first->node, v.first->index, v.first->simulated, v.first->integer));
  }
  if (!failure.empty()) throw Error(ErrorCode::mismatch, failure).at_file(a.folder);
  return 0;
}

}  // namespace quern::cli
