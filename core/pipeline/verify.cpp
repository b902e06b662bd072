// The proof: simulated and integer side by side, every quantized tensor of every sample compared bit by bit.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/open_data.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern {
namespace {

// Every tensor that integers touch: outputs of units and of border quantizers, and whatever else holds integers of 8 to 32
// bits. (Indices and shapes are s64 and no result of a contract.)
std::vector<std::pair<std::string, std::string>> quantized_tensors(const Graph& graph) {
  std::vector<std::pair<std::string, std::string>> out;  // tensor, node; in order of the graph
  for (NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    const bool ours = node.domain == "quern" && (node.op == "Unit" || node.op == "Quantize");
    for (ValueId v : node.outputs) {
      if (v == no_value) continue;
      const DType t = graph.value(v).dtype;
      const bool integers = t == DType::u8 || t == DType::s8 || t == DType::u16 || t == DType::s16 || t == DType::s32 || t == DType::u32;
      if (ours || integers) out.emplace_back(graph.value(v).name, node.name);
    }
  }
  return out;
}

double element(const void* data, DType type, int64_t i) {
  switch (type) {
    case DType::f32: return static_cast<const float*>(data)[i];
    case DType::u8: return static_cast<const uint8_t*>(data)[i];
    case DType::s8: return static_cast<const int8_t*>(data)[i];
    case DType::u16: return static_cast<const uint16_t*>(data)[i];
    case DType::s16: return static_cast<const int16_t*>(data)[i];
    case DType::s32: return static_cast<const int32_t*>(data)[i];
    case DType::u32: return static_cast<const uint32_t*>(data)[i];
    default: return 0;
  }
}

Tensor row_major_copy(const TensorView& view) {
  Tensor out(view.type, Dims(view.dims.begin(), view.dims.end()));
  const Dims strides = row_major_strides(out.dims());
  copy(view, TensorView{out.mutable_bytes(), view.type, out.dims(), strides});
  return out;
}

struct Worker {
  std::optional<Runner> simulated, integer;
  std::map<std::string, Tensor> seen;  // of the simulated run of the current sample
};

struct SampleResult { int64_t tensors = 0, elements = 0, mismatches = 0; std::optional<Difference> first; };

}  // namespace

Verification verify(const fs::path& folder, PluginRegistry& registry, const VerifyOptions& options) {
  const Config config = load_config(folder / "effective.yaml");
  apply_isolation(config, registry);
  LoadedModel simulated = load_model(folder, RunAs::simulated, registry);
  LoadedModel integer = load_model(folder, RunAs::integer, registry);
  const std::string target = integer.integer->target;
  const auto& section = config.evaluation ? config.evaluation : config.calibration;
  if (!section) throw config.error("/data", "verification needs data");
  auto data = open_data(config, *section, simulated.inputs, registry);
  const Verification v = compare_runs(std::move(simulated), std::move(integer), *data, options);
  // What the interpreter computed in the plugin's place would be compared with itself.
  if (const auto incidents = registry.target(target)->incidents(); !incidents.empty())
    throw Error(ErrorCode::plugin, fmt::format("nothing is proved: {}{}", incidents.front(),
                                               incidents.size() > 1 ? fmt::format("; and {} more", incidents.size() - 1) : ""))
        .at_file(folder.string());
  return v;
}

Verification compare_runs(LoadedModel simulated, LoadedModel integer, const Dataset& data, const VerifyOptions& options) {
  const int64_t count = options.samples > 0 ? std::min(options.samples, data.size()) : data.size();

  const auto tensors = quantized_tensors(simulated.graph);
  std::map<std::string, size_t> index;
  std::set<std::string> taps;
  for (size_t i = 0; i < tensors.size(); ++i) { index[tensors[i].first] = i; taps.insert(tensors[i].first); }

  Verification v;
  v.samples = count;
  v.integer_nodes = simulated.integer->integer_nodes;
  v.nodes = v.integer_nodes + simulated.integer->float_nodes;
  const auto ratio = [](int64_t a, int64_t b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0.0; };
  v.coverage_nodes = ratio(v.integer_nodes, v.nodes);
  v.coverage_macs = simulated.integer->total_macs > 0 ? ratio(simulated.integer->integer_macs, simulated.integer->total_macs) : v.coverage_nodes;

  Engine a(std::move(simulated.graph), {.providers = simulated.providers, .taps = taps});
  Engine b(std::move(integer.graph), {.providers = integer.providers, .taps = taps});
  Progress silent;
  auto stage = (options.progress ? *options.progress : silent).stage("verify", count);
  const int threads = static_cast<int>(std::min<int64_t>(std::max(1, options.threads), std::max<int64_t>(1, count)));
  std::vector<Worker> workers(static_cast<size_t>(threads));
  for (auto& w : workers) { w.simulated.emplace(a.runner()); w.integer.emplace(b.runner()); }
  std::vector<SampleResult> results(static_cast<size_t>(count));
  std::vector<std::vector<char>> compared(static_cast<size_t>(threads), std::vector<char>(tensors.size(), 0));

  parallel_for(count, threads, [&](int64_t sample, int worker) {
    Worker& w = workers[static_cast<size_t>(worker)];
    SampleResult& r = results[static_cast<size_t>(sample)];
    const NamedTensors inputs = to_named(data.item(sample));
    w.seen.clear();
    w.simulated->run(inputs, [&](const std::string& name, const TensorView& view) {
      if (index.count(name)) w.seen[name] = row_major_copy(view);
    });
    size_t first_index = tensors.size();
    size_t found = 0;
    w.integer->run(inputs, [&](const std::string& name, const TensorView& view) {
      const auto at = index.find(name);
      if (at == index.end()) return;
      const auto it = w.seen.find(name);
      if (it == w.seen.end()) throw Error(ErrorCode::internal, fmt::format("the tensor '{}' was seen in the integer run only", name));
      const Tensor expected = it->second, got = row_major_copy(view);
      ++found;
      compared[static_cast<size_t>(worker)][at->second] = 1;
      ++r.tensors;
      r.elements += got.count();
      int64_t different = -1;
      if (expected.type() != got.type() || expected.dims() != got.dims()) {
        r.mismatches += std::max(expected.count(), got.count());
        different = 0;
      } else if (std::memcmp(expected.data(), got.data(), got.bytes()) != 0) {
        const size_t size = size_of(got.type());
        for (int64_t i = 0; i < got.count(); ++i) {
          if (std::memcmp(static_cast<const char*>(expected.data()) + i * size, static_cast<const char*>(got.data()) + i * size, size) == 0) continue;
          ++r.mismatches;
          if (different < 0) different = i;
        }
      }
      if (different >= 0 && at->second < first_index) {
        first_index = at->second;
        r.first = Difference{name, tensors[first_index].second, sample, different, element(expected.data(), expected.type(), different),
                             element(got.data(), got.type(), different)};
      }
    });
    if (found != w.seen.size()) throw Error(ErrorCode::internal, "a tensor was seen in the simulated run only");
    stage.advance();
  });

  for (size_t t = 0; t < tensors.size(); ++t) {
    bool any = false;
    for (const auto& c : compared) any = any || c[t];
    v.tensors += any;
  }
  for (const Worker& w : workers) {
    for (const auto& [node, n] : w.simulated->saturations()) v.simulated_saturations[node] += n;
    for (const auto& [node, n] : w.integer->saturations()) v.integer_saturations[node] += n;
  }
  for (const auto& r : results) {
    v.elements += r.elements;
    v.mismatches += r.mismatches;
    if (r.first && !v.first) v.first = r.first;
  }
  return v;
}

std::string verdict(const Verification& v, double min_coverage) {
  if (v.mismatches > 0) return fmt::format("{} of {} elements differ between simulated and integer", v.mismatches, v.elements);
  if (v.elements == 0) return "nothing was compared";
  if (v.simulated_saturations != v.integer_saturations) return "the accumulators of the simulation and of the target count different numbers of saturated sums";
  if (v.coverage_macs < min_coverage)
    return fmt::format("only {:.4f} of the multiply-accumulates run as integers; --min-coverage asks for {}", v.coverage_macs, min_coverage);
  return "";
}

}  // namespace quern
