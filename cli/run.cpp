#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/npy.hpp"
#include "core/base/parallel.hpp"

namespace quern::cli {
namespace {

// Element i of axis 0, without a copy.
Tensor row(const Tensor& t, int64_t i, bool keep_axis) {
  Dims dims(t.dims().begin() + 1, t.dims().end());
  const size_t bytes = static_cast<size_t>(element_count(dims)) * size_of(t.type());
  if (keep_axis) dims.insert(dims.begin(), 1);
  auto owner = std::make_shared<Tensor>(t);
  return Tensor(t.type(), dims, owner, static_cast<const char*>(t.data()) + static_cast<size_t>(i) * bytes);
}

Tensor row_major_copy(const TensorView& view) {
  Tensor out(view.type, Dims(view.dims.begin(), view.dims.end()));
  const Dims strides = row_major_strides(out.dims());
  copy(view, TensorView{out.mutable_bytes(), view.type, out.dims(), strides});
  return out;
}

// Results of all samples under one axis. A batch axis of one that a row was given is taken away again.
Tensor stacked(const std::string& name, const std::vector<const Tensor*>& rows, bool added_axis) {
  const Tensor& first = *rows.front();
  Dims dims = first.dims();
  if (added_axis && !dims.empty() && dims.front() == 1) dims.erase(dims.begin());
  dims.insert(dims.begin(), static_cast<int64_t>(rows.size()));
  Tensor out(first.type(), dims);
  char* to = static_cast<char*>(out.mutable_bytes());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i]->dims() != first.dims())
      throw Error(ErrorCode::data, fmt::format("'{}' has the shape {} for sample 0 and {} for sample {}; they can't be stacked", name,
                                               to_string(first.dims()), to_string(rows[i]->dims()), i))
          .hint("run the samples one by one, without --each");
    std::memcpy(to, rows[i]->data(), rows[i]->bytes());
    to += rows[i]->bytes();
  }
  return out;
}

std::set<std::string> find_taps(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (size_t i = 0; i < graph.value_slots(); ++i) {
    const Value& v = graph.value(static_cast<ValueId>(i));
    const bool input = std::find(graph.inputs().begin(), graph.inputs().end(), static_cast<ValueId>(i)) != graph.inputs().end();
    if (!v.is_constant() && (input || v.producer != no_node)) known.push_back(v.name);
  }
  std::set<std::string> taps;
  for (const auto& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw Error(ErrorCode::usage, fmt::format("--tap {}: there is no such tensor in this model{}", name, did_you_mean(name, known)))
          .hint("`quern inspect` lists the tensors");
    taps.insert(name);
  }
  return taps;
}

}  // namespace

int run_verb(const RunArguments& a) {
  const RunAs as = run_as_from_name(a.as);
  PluginRegistry registry(a.plugin_options());
  LoadedModel model = load_model(a.model, as, registry);
  // A tensor that the rewriting has folded away is still in the file's own graph.
  if (as == RunAs::as_float && std::any_of(a.taps.begin(), a.taps.end(), [&](const auto& t) { return model.graph.find_value(t) == no_value; }))
    model = load_model(a.model, as, registry, false);
  const std::set<std::string> taps = find_taps(model.graph, a.taps);
  const NamedTensors inputs = read_inputs(a.inputs, model.inputs);
  const auto run_once = [&](Runner& runner, const NamedTensors& in) {
    std::map<std::string, Tensor> seen;
    NamedTensors out = runner.run(in, [&](const std::string& name, const TensorView& view) {
      if (taps.count(name)) seen[name] = row_major_copy(view);
    });
    for (auto& [name, tensor] : seen)
      if (std::none_of(out.begin(), out.end(), [&](const auto& o) { return o.first == name; })) out.emplace_back(name, std::move(tensor));
    return out;
  };

  std::vector<std::pair<std::string, Tensor>> results;
  if (!a.each) {
    // One thread unless asked: float results of a library may depend on the number of threads.
    Engine engine(std::move(model.graph), {.providers = model.providers, .op_threads = a.thread_count(1), .taps = taps});
    Runner runner = engine.runner();
    results = run_once(runner, inputs);
  } else {
    int64_t count = -1;
    std::vector<bool> keep_axis;
    bool added_axis = false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& t = inputs[i].second;
      if (t.rank() == 0) throw Error(ErrorCode::data, fmt::format("'{}' is a single number; --each needs samples along axis 0", inputs[i].first)).at_file(a.inputs);
      if (count >= 0 && t.dims()[0] != count)
        throw Error(ErrorCode::data, fmt::format("'{}' has {} samples, '{}' has {}", inputs[0].first, count, inputs[i].first, t.dims()[0])).at_file(a.inputs);
      count = t.dims()[0];
      // A row that lacks only the batch axis gets one.
      keep_axis.push_back(t.rank() == static_cast<int64_t>(model.inputs[i].dims.size()));
      added_axis = added_axis || keep_axis.back();
    }
    if (count <= 0) throw Error(ErrorCode::data, "holds no sample").at_file(a.inputs);
    Engine engine(std::move(model.graph), {.providers = model.providers, .taps = taps});
    const int threads = static_cast<int>(std::min<int64_t>(a.thread_count(usable_cores()), count));
    std::vector<Runner> runners;
    for (int w = 0; w < threads; ++w) runners.push_back(engine.runner());
    std::vector<NamedTensors> outputs(static_cast<size_t>(count));
    Progress progress(ProgressStyle::automatic);
    auto stage = progress.stage("run", count);
    parallel_for(count, threads, [&](int64_t s, int worker) {
      NamedTensors in;
      for (size_t i = 0; i < inputs.size(); ++i) in.emplace_back(inputs[i].first, row(inputs[i].second, s, keep_axis[i]));
      outputs[static_cast<size_t>(s)] = run_once(runners[static_cast<size_t>(worker)], in);
      stage.advance();
    });
    for (size_t k = 0; k < outputs.front().size(); ++k) {
      std::vector<const Tensor*> rows;
      for (const auto& o : outputs) rows.push_back(&o.at(k).second);
      results.emplace_back(outputs.front()[k].first, stacked(outputs.front()[k].first, rows, added_axis));
    }
  }
  write_npz(a.outputs, results);
  return 0;
}

}  // namespace quern::cli
