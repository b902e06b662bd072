// Models ready to run: an ONNX file as float, or the folder that quantize wrote as float, simulated or integer.
#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/graph/passes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/pipeline/pipeline.hpp"
#include "core/pipeline/target_provider.hpp"

namespace quern {
namespace {

// A model file, with a word on what else the path may have been meant as.
Graph read_model(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw Error(ErrorCode::model, "there is no such model file").at_file(path.string());
  return import_onnx(path);
}

}  // namespace

RunAs run_as_from_name(const std::string& name) {
  if (name == "float") return RunAs::as_float;
  if (name == "simulated") return RunAs::simulated;
  if (name == "integer") return RunAs::integer;
  throw Error(ErrorCode::usage, fmt::format("--as can't be '{}'{}; it is float, simulated or integer", name,
                                            did_you_mean(name, {"float", "simulated", "integer"})));
}

std::vector<InputSpec> input_specs(const Graph& graph) {
  std::vector<InputSpec> out;
  for (ValueId id : graph.inputs()) {
    const Value& v = graph.value(id);
    out.push_back({v.name, v.dtype == DType::undefined ? DType::f32 : v.dtype, v.shape.value_or(Dims{-1})});
  }
  return out;
}

NamedTensors to_named(const Sample& sample) {
  NamedTensors out;
  out.reserve(sample.size());
  for (const auto& s : sample) out.emplace_back(s.name, s.tensor);
  return out;
}

LoadedModel load_model(const fs::path& path, RunAs as, PluginRegistry& registry, bool rewrite) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  LoadedModel m;
  if (as == RunAs::as_float) {
    fs::path file = path;
    if (folder) {
      if (!fs::exists(path / "effective.yaml", ignored))
        throw Error(ErrorCode::usage, "has no effective.yaml; give an ONNX file or a folder that `quern quantize` wrote").at_file(path.string());
      file = load_config(path / "effective.yaml").model;
    }
    m.graph = read_model(file);
    if (rewrite) canonicalize(m.graph, evaluate_constant_node);
    m.rewritten = rewrite;
    m.providers = {onednn_provider(), own_float_provider()};
    m.inputs = input_specs(m.graph);
    return m;
  }
  if (!folder) {
    if (!fs::exists(path, ignored)) throw Error(ErrorCode::model, "there is no such file or folder").at_file(path.string());
    throw Error(ErrorCode::usage, "is a file; only a folder that `quern quantize` wrote runs as simulated or integer")
        .at_file(path.string()).hint("a QDQ or float ONNX file runs with --as float");
  }
  if (!fs::exists(path / "package" / "index.json", ignored))
    throw Error(ErrorCode::usage, "has no package/; give a folder that `quern quantize` wrote").at_file(path.string());
  m.integer = read_package(path / "package");
  m.graph = std::move(m.integer->graph);
  m.inputs = input_specs(m.graph);
  // Float nodes between the integer parts run on the same kernels both ways; units on the interpreter or the target alone.
  if (as == RunAs::simulated) {
    m.providers = {interpreter_provider(), onednn_provider(), own_float_provider()};
  } else {
    auto target = registry.target(m.integer->target);
    std::string reason;
    const auto profile = runnable_profile(*target, m.integer->profile, &reason);
    if (!profile)
      throw Error(ErrorCode::plugin, fmt::format("the target '{}' can't run its profile '{}' on this machine: {}", m.integer->target,
                                                 m.integer->profile, reason))
          .hint("--as simulated gives the same bytes on any machine");
    m.providers = {target_provider(target, *profile), onednn_provider(), own_float_provider()};
  }
  return m;
}

}  // namespace quern
