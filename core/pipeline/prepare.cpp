#include "core/pipeline/prepare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/pipeline/open_data.hpp"
#include "core/pipeline/recurrent.hpp"

namespace quern {

int64_t give_every_node_its_bias(Graph& graph) {
  int64_t changed = 0;
  const auto uses = graph.uses();
  for (NodeId id : graph.order()) {
    Node& node = graph.node(id);
    if (!node.domain.empty() || (node.op != "Conv" && node.op != "ConvTranspose" && node.op != "Gemm")) continue;
    if (node.inputs.size() < 2 || node.inputs[1] == no_value) continue;
    if (node.inputs.size() > 2 && node.inputs[2] != no_value) {
      const ValueId bias = node.inputs[2];
      const Value& value = graph.value(bias);
      if (!value.is_constant() || uses[static_cast<size_t>(bias)].size() < 2) continue;
      if (uses[static_cast<size_t>(bias)].front().node == id) continue;  // the first keeps the original
      const ValueId copy = graph.add_constant(value.name, *value.constant);
      graph.node(id).inputs[2] = copy;
      ++changed;
      continue;
    }
    const Tensor* weight = graph.constant_input(node, 1);
    if (!weight || weight->type() != DType::f32) continue;
    int64_t channels = 0;
    if (node.op == "Conv" && weight->rank() >= 3) channels = weight->dims()[0];
    if (node.op == "ConvTranspose" && weight->rank() >= 3) channels = weight->dims()[1] * node.integer("group", 1);
    if (node.op == "Gemm" && weight->rank() == 2) channels = weight->dims()[node.integer("transB", 0) ? 0 : 1];
    if (channels <= 0) continue;
    const ValueId zero = graph.add_constant(node.name + "_bias", Tensor(DType::f32, {channels}));
    Node& again = graph.node(id);
    again.inputs.resize(3, no_value);
    again.inputs[2] = zero;
    ++changed;
  }
  return changed;
}

namespace {

// The imported graph may hold operators that only folding can deal with; the comparison then starts from the folded one.
Graph runnable(const Graph& original) {
  const EngineOptions options{.providers = {onednn_provider(), own_float_provider()}};
  if (Engine::unknown_nodes(original, options).empty()) return original;
  Graph folded = original;
  fold_constants(folded, evaluate_constant_node);
  remove_dead(folded);
  infer_shapes(folded);
  return folded;
}

}  // namespace

std::vector<NamedTensors> float_outputs(const Graph& graph, const Dataset& data, int64_t samples, int threads) {
  Engine engine(runnable(graph), {.providers = {onednn_provider(), own_float_provider()}});
  std::vector<NamedTensors> out(static_cast<size_t>(std::min(samples, data.size())));
  run_samples(engine, static_cast<int64_t>(out.size()), threads, [&](int64_t i) { return to_named(data.item(i)); }, {},
              [&](int64_t i, NamedTensors tensors) { out[static_cast<size_t>(i)] = std::move(tensors); });
  return out;
}

std::vector<RewriteCheck> check_rewrite(const Graph& original, const Graph& rewritten, const Dataset& data, int64_t samples, int threads) {
  return check_rewrite(float_outputs(original, data, samples, threads), rewritten, data, threads);
}

std::vector<RewriteCheck> check_rewrite(const std::vector<NamedTensors>& expected, const Graph& rewritten, const Dataset& data, int threads) {
  Engine b(rewritten, {.providers = {onednn_provider(), own_float_provider()}});
  const auto count = static_cast<int64_t>(expected.size());
  std::vector<std::vector<RewriteCheck>> found(expected.size());
  run_samples(b, count, threads, [&](int64_t i) { return to_named(data.item(i)); }, {}, [&](int64_t i, NamedTensors out) {
    const NamedTensors& want = expected[static_cast<size_t>(i)];
    auto& checks = found[static_cast<size_t>(i)];
    for (size_t k = 0; k < want.size(); ++k) {
      const Tensor &x = want[k].second, &y = out.at(k).second;
      RewriteCheck c{want[k].first, 0, 0};
      // A size that follows from data may go the other way for two results that round differently; what makes it was compared or is
      // seen in the samples where it does not.
      const auto& declared = rewritten.value(rewritten.outputs()[k]).shape;
      const bool open = !declared || std::count(declared->begin(), declared->end(), -1) != 0;
      if (open && x.dims() != y.dims() && x.dims().size() == y.dims().size()) {
        checks.push_back(c);
        continue;
      }
      if (x.dims() != y.dims() || x.type() != y.type()) {
        c.max_difference = std::numeric_limits<double>::infinity();
      } else {
        const std::vector<float> p = x.to_floats(), q = y.to_floats();
        for (size_t e = 0; e < p.size(); ++e) {
          const double d = std::abs(static_cast<double>(p[e]) - static_cast<double>(q[e]));
          c.max_difference = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(c.max_difference, d);
          c.max_value = std::max(c.max_value, std::abs(static_cast<double>(p[e])));
        }
      }
      checks.push_back(c);
    }
  });
  std::vector<RewriteCheck> total;
  for (const auto& checks : found) {
    if (total.empty()) { total = checks; continue; }
    for (size_t k = 0; k < checks.size(); ++k) {
      total[k].max_difference = std::max(total[k].max_difference, checks[k].max_difference);
      total[k].max_value = std::max(total[k].max_value, checks[k].max_value);
    }
  }
  for (const auto& c : total) {
    if (c.max_difference <= rewrite_tolerance * c.max_value) continue;
    throw Error(ErrorCode::internal, fmt::format("the rewritten float network differs from the file's in output '{}' by {:.3g} (largest value {:.3g}); "
                                                 "this is a fault of Quern, nothing was written", c.output, c.max_difference, c.max_value));
  }
  return total;
}

namespace {

// An error that names no file is about this place of the configuration.
template <class F> auto at_place(const Config& config, const std::string& pointer, F&& f) {
  try {
    return f();
  } catch (Error& e) {
    if (!e.file().empty()) throw;
    const Position p = config.document.position(pointer);
    throw std::move(e).at_file(p.source.empty() ? config.file : p.source, p.line, p.column);
  }
}

}  // namespace

EvaluationInputs open_evaluation(const Config& config, const std::vector<InputSpec>& inputs, PluginRegistry& registry) {
  EvaluationInputs out;
  if (!config.metric.is_null()) out.metric = at_place(config, "/metric", [&] { return make_metric(config.metric, &registry); });
  if (!config.evaluation) return out;
  out.data = at_place(config, "/data/evaluation", [&] { return open_data(config, *config.evaluation, inputs, registry); });
  if (out.data->size() == 0) throw Error(ErrorCode::data, "the evaluation data is empty").at_file(config.file);
  if (out.metric && out.metric->needs_labels() && !out.data->label(0))
    throw config.error("/data/evaluation", fmt::format("the metric '{}' needs labels", out.metric->name()))
        .hint("name the array under labels, or take a metric that compares with the float network: agreement, cosine, sqnr");
  return out;
}

namespace {

// Inputs that the network normalises itself, and by which node.
std::map<std::string, std::string> normalised_inputs(const Graph& graph) {
  std::map<std::string, std::string> out;
  const auto uses = graph.uses();
  for (ValueId input : graph.inputs()) {
    const auto& of = uses[static_cast<size_t>(input)];
    if (of.size() != 1) continue;
    const Node& node = graph.node(of[0].node);
    const bool arithmetic = node.op == "Sub" || node.op == "Add" || node.op == "Mul" || node.op == "Div";
    const bool by_constant = arithmetic && node.inputs.size() == 2 && graph.constant_input(node, of[0].slot == 0 ? 1 : 0);
    if (by_constant || node.op == "BatchNormalization") out[graph.value(input).name] = fmt::format("{} '{}'", node.op, node.name);
  }
  return out;
}

}  // namespace

std::unique_ptr<Dataset> open_calibration(const Config& config, const Graph& graph, int threads, std::vector<std::string>& warnings,
                                          PluginRegistry& registry) {
  if (!config.calibration)
    throw config.error("/data", "to quantize, data.calibration is needed").hint("for example data: {calibration: {reader: npz, path: data.npz, samples: 300}}");
  auto data = at_place(config, "/data/calibration", [&] { return open_data(config, *config.calibration, input_specs(graph), registry); });
  DataCheck check = check_calibration_data(*data, threads);
  for (auto& w : check_preprocessing(*config.calibration, check, normalised_inputs(graph))) check.warnings.push_back(std::move(w));
  for (const auto& a : check.advice) log::debug("{}", a);
  for (const auto& w : check.warnings) {
    log::warning("{}", w);
    warnings.push_back(w);
  }
  return data;
}

namespace {

// Error(model) that names every node whose operator nothing here knows.
void can_run(const Config& config, Graph graph) {
  try {
    Engine check(std::move(graph), {.providers = {onednn_provider(), own_float_provider()}});
  } catch (Error& e) {
    if (e.file().empty()) e.set_file(config.model.string());
    throw;
  }
}

}  // namespace

ImportedNetwork import_network(const Config& config, const std::function<void(const Graph&, const std::string& digest)>& imported) {
  ImportedNetwork n;
  std::error_code ignored;
  if (!fs::exists(config.model, ignored))
    throw config.error("/model", fmt::format("there is no model file '{}'", config.model.string()));
  n.graph = import_onnx(config.model, {.refuse_unknown = false, .digest = &n.digest});
  for (NodeId id : n.graph.order()) {
    const Node& node = n.graph.node(id);
    if (node.op != "QuantizeLinear" && node.op != "DequantizeLinear") continue;
    log::warning("{}: holds {} '{}': it is quantized already; give the float network, else its own quantizers stay as float nodes",
                 config.model.string(), node.op, node.name);
    break;
  }
  if (imported) {
    can_run(config, runnable(n.graph));  // unknown operators are named all at once, before anything is run
    imported(n.graph, n.digest);
  }
  n.passes = canonicalize(n.graph, evaluate_constant_node);
  return n;
}

PreparedNetwork prepare(Config& config, PluginRegistry& registry) {
  const Rules rules = complete_config(config, registry);
  return prepare(import_network(config), config, rules, registry);
}

PreparedNetwork prepare(ImportedNetwork network, const Config& config, const Rules& rules, PluginRegistry& registry) {
  PreparedNetwork p;
  p.rules = rules;
  p.target = registry.target(config.device);
  p.graph = std::move(network.graph);
  p.model_digest = std::move(network.digest);
  p.passes = std::move(network.passes);
  const Unrolling unrolling = unroll_for_target(p.graph, p.rules, config.placement);
  if (unrolling.unrolled > 0) p.passes.push_back({"unroll recurrent nodes", unrolling.unrolled});
  bool bias_stage = false;
  for (const auto& stage : config.stages) {
    if (stage.name == "quantize") continue;
    const StageHandle handle = registry.stage(stage.name);
    bias_stage = bias_stage || std::string_view(handle.table->changes.data, handle.table->changes.size).find("bias") != std::string_view::npos;
  }
  if (bias_stage) {
    if (const int64_t n = give_every_node_its_bias(p.graph)) {
      infer_shapes(p.graph);
      p.passes.push_back({"bias for every node", n});
    }
  }
  can_run(config, p.graph);
  try {
    p.placement = place_unrolled(p.graph, p.rules, config.placement, unrolling);
  } catch (Error& e) {
    if (e.code() != ErrorCode::config || !e.file().empty()) throw;
    const Position at = config.document.position(config.stages[config.quantize_index()].pointer, true);
    throw std::move(e).at_file(at.source.empty() ? config.file : at.source, at.line, at.column);
  }
  return p;
}

}  // namespace quern
