#include "core/pipeline/open_data.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern {
namespace {

struct State { InputSpec input; size_t output = 0; };  // of the graph's outputs

// The samples of `base` with the states that they are reached in. These are kept: one tensor a sample and state.
class SteppedDataset : public Dataset {
 public:
  SteppedDataset(std::unique_ptr<Dataset> base, Graph network, std::vector<State> states, std::vector<InputSpec> inputs, int64_t steps, int threads)
      : base_(std::move(base)), states_(std::move(states)), inputs_(std::move(inputs)), steps_(steps), before_(static_cast<size_t>(base_->size())) {
    Engine engine(std::move(network), {.providers = {onednn_provider(), own_float_provider()}});
    const int64_t sequences = (size() + steps_ - 1) / steps_;
    parallel_for(sequences, threads, [&](int64_t s, int) {
      Runner runner = engine.runner();
      std::vector<Tensor> now;
      for (const State& state : states_) now.push_back(zeros(state.input));
      for (int64_t i = s * steps_; i < std::min(size(), (s + 1) * steps_); ++i) {
        before_[static_cast<size_t>(i)] = now;
        const NamedTensors out = runner.run(to_named(item(i)));
        for (size_t k = 0; k < states_.size(); ++k) {
          const Tensor& next = out.at(states_[k].output).second;
          if (next.dims() != now[k].dims() || next.type() != now[k].type())
            throw Error(ErrorCode::data, fmt::format("state: output '{}' is {} {}, the input '{}' that it is fed to is {} {}", out[states_[k].output].first, name_of(next.type()),
                                                     to_string(next.dims()), states_[k].input.name, name_of(now[k].type()), to_string(now[k].dims())));
          now[k] = next;
        }
      }
    });
  }
  int64_t size() const override { return base_->size(); }
  Sample item(int64_t index) const override {
    Sample given = base_->item(index), out;
    const auto& states = before_.at(static_cast<size_t>(index));
    for (const InputSpec& spec : inputs_) {
      const auto state = std::find_if(states_.begin(), states_.end(), [&](const State& s) { return s.input.name == spec.name; });
      if (state != states_.end()) {
        out.push_back({spec.name, states[static_cast<size_t>(state - states_.begin())]});
      } else {
        const auto at = std::find_if(given.begin(), given.end(), [&](const NamedTensor& t) { return t.name == spec.name; });
        if (at == given.end()) throw Error(ErrorCode::internal, fmt::format("no data of input '{}'", spec.name));
        out.push_back(std::move(*at));
      }
    }
    return out;
  }
  std::optional<Tensor> label(int64_t index) const override { return base_->label(index); }
  std::string digest() const override {
    Sha256 sha;
    sha.add(fmt::format("quern steps 1\n{}\n{}\n", steps_, base_->digest()));
    for (const auto& states : before_)
      for (const Tensor& t : states) sha.add(std::span(static_cast<const std::byte*>(t.data()), t.bytes()));
    return sha.hex();
  }

 private:
  static Tensor zeros(const InputSpec& spec) {
    Dims dims = spec.dims;
    if (!dims.empty() && dims[0] < 0) dims[0] = 1;
    if (std::any_of(dims.begin(), dims.end(), [](int64_t d) { return d < 0; }))
      throw Error(ErrorCode::config, fmt::format("state: the shape {} of input '{}' is open; a first state of zeros needs to know it", to_string(spec.dims), spec.name));
    return Tensor(spec.dtype, dims);
  }
  std::unique_ptr<Dataset> base_;
  std::vector<State> states_;
  std::vector<InputSpec> inputs_;
  int64_t steps_;
  std::vector<std::vector<Tensor>> before_;  // by sample
};

}  // namespace

std::unique_ptr<Dataset> open_data(const Config& config, const json::object& section, const std::vector<InputSpec>& inputs, PluginRegistry& registry) {
  const auto* state = section.if_contains("state");
  const json::object* named = state ? state->if_object() : nullptr;
  if (!named || named->empty()) return open_dataset(section, config.folder, inputs, &registry);
  Graph network = import_onnx(config.model, {});
  canonicalize(network, evaluate_constant_node);
  std::vector<std::string> outputs, names;
  for (ValueId id : network.outputs()) outputs.push_back(network.value(id).name);
  for (const InputSpec& spec : inputs) names.push_back(spec.name);
  std::vector<State> states;
  std::vector<InputSpec> rest;
  for (const auto& [input, output] : *named) {
    const std::string from = output.is_string() ? std::string(output.get_string()) : "";
    const auto in = std::find(names.begin(), names.end(), std::string_view(input));
    const auto out = std::find(outputs.begin(), outputs.end(), from);
    if (in == names.end())
      throw Error(ErrorCode::config, fmt::format("state: the model has no input '{}'{}; it has {}", std::string_view(input), did_you_mean(input, names), list_of(names)));
    if (out == outputs.end()) throw Error(ErrorCode::config, fmt::format("state: the model has no output '{}'{}; it has {}", from, did_you_mean(from, outputs), list_of(outputs)));
    states.push_back({inputs[static_cast<size_t>(in - names.begin())], static_cast<size_t>(out - outputs.begin())});
  }
  for (const InputSpec& spec : inputs)
    if (!named->contains(spec.name)) rest.push_back(spec);
  if (rest.empty()) throw Error(ErrorCode::config, "state: every input of the model is one, so there is nothing to feed");
  auto base = open_dataset(section, config.folder, rest, &registry);
  const auto* steps = section.if_contains("steps");
  const int64_t length = steps ? steps->to_number<int64_t>() : base->size();
  return std::make_unique<SteppedDataset>(std::move(base), std::move(network), std::move(states), inputs, std::max<int64_t>(1, length), config.thread_count());
}

}  // namespace quern
