// What a stage sees of samples: values, and errors of estimates against the float network.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/integer/integer.hpp"
#include "core/pipeline/graph_view.hpp"

namespace quern {

std::vector<int64_t> spread_samples(int64_t wanted, int64_t size) {
  const int64_t count = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, size));
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(i * size / count);
  return out;
}

void GraphView::open_runners(uint32_t samples) {
  if (planning_) throw Error(ErrorCode::plugin, "nothing can be measured while planning");
  if (!original_) throw Error(ErrorCode::plugin, "samples are there while the stage runs");
  chosen_ = spread_samples(samples, data_.size());
  size_t weights = 0;
  for (size_t v = 0; v < graph_.value_slots(); ++v)
    if (const auto& c = graph_.value(static_cast<ValueId>(v)).constant) weights += c->bytes();
  const size_t memory = sample_memory + std::min(weights / 4, sample_budget / 2);
  if (reference_ && reference_->samples() != chosen_.size()) { reference_.reset(); estimated_.reset(); }
  if (!reference_) {
    reference_.emplace(*original_, data_, chosen_, threads_, sample_budget / 2, memory);
    measured_node_ = -1;
  }
  if (!estimated_) estimated_.emplace(estimated_graph(graph_, placement_, true, true, false), data_, chosen_, threads_, sample_budget / 2, memory);
}

Tensor GraphView::sample_value(uint32_t index, int32_t slot, uint32_t samples, uint32_t sample, bool estimated) {
  const Node& node = node_at(index);
  open_runners(samples);
  if (sample >= chosen_.size()) throw Error(ErrorCode::plugin, fmt::format("there is no sample {} of {}", sample, chosen_.size()));
  SampleRunner& runner = estimated ? *estimated_ : *reference_;
  const Node& there = estimated ? runner.graph().node(runner.graph().find_node(node.name)) : node;
  const auto& list = slot >= 0 ? there.inputs : there.outputs;
  const auto at = static_cast<size_t>(slot >= 0 ? slot : -1 - slot);
  if (at >= list.size() || list[at] == no_value) throw Error(ErrorCode::plugin, fmt::format("'{}' has no {} {}", node.name, slot >= 0 ? "input" : "output", at));
  const Value& value = runner.graph().value(list[at]);
  const auto as_float = [](Tensor t) { return t.type() == DType::f32 ? t : Tensor::of<float>(t.dims(), t.to_floats()); };
  if (value.is_constant()) return as_float(*value.constant);
  if (value.producer == no_node) {
    for (NamedTensor& t : data_.item(chosen_[sample]))
      if (t.name == value.name) return as_float(std::move(t.tensor));
    throw Error(ErrorCode::plugin, fmt::format("the data has no '{}'", value.name));
  }
  if (!estimated) measured_node_ = -1;  // what was kept for it may be dropped
  runner.keep({list[at]});
  return as_float(runner.value(list[at], sample));
}

void GraphView::measure_outputs(uint32_t samples, std::span<double> signal, std::span<double> noise) {
  const auto& outputs = graph_.outputs();
  if (signal.size() != outputs.size()) throw Error(ErrorCode::plugin, fmt::format("the model has {} outputs; asked for {}", outputs.size(), signal.size()));
  open_runners(samples);
  const std::vector<ValueId> theirs = estimated_->graph().outputs();
  estimated_->keep(theirs);
  reference_->keep(outputs);
  measured_node_ = -1;
  for (size_t k = 0; k < outputs.size(); ++k) {
    const auto computed = [&](const SampleRunner& runner, ValueId v) { return runner.graph().value(v).producer != no_node; };
    double s = 0, n = 0;
    int64_t places = 0;
    for (size_t i = 0; i < chosen_.size() && computed(*estimated_, theirs[k]) && computed(*reference_, outputs[k]); ++i) {
      const Tensor want = reference_->value(outputs[k], i), got = estimated_->value(theirs[k], i);
      if (want.type() != DType::f32 || got.type() != DType::f32 || want.dims() != got.dims()) continue;
      const auto x = want.values<float>(), y = got.values<float>();
      for (size_t e = 0; e < x.size(); ++e) {
        const double d = static_cast<double>(y[e]) - static_cast<double>(x[e]);
        s += static_cast<double>(x[e]) * static_cast<double>(x[e]);
        n += d * d;
      }
      places += static_cast<int64_t>(x.size());
    }
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    signal[k] = places ? s / static_cast<double>(places) : nothing;
    noise[k] = places ? n / static_cast<double>(places) : nothing;
  }
}

void GraphView::measure(uint32_t index, uint32_t samples, double* square, double* difference, uint64_t channels) {
  const Node& node = node_at(index);
  if (from_last_measure(index, samples, square, difference, channels)) return;
  open_runners(samples);
  const Node& other = estimated_->graph().node(estimated_->graph().find_node(node.name));
  const ValueId mine = node.outputs.at(0), theirs = other.outputs.at(0);
  if (measured_node_ != static_cast<int>(index)) {
    // Of the float network outputs are enough, and inputs that others read too: what lies between an output and the next layer
    // is cheaper to run again than to keep.
    std::vector<ValueId> needed{mine};
    for (ValueId v : node.inputs)
      if (v != no_value && consumers_[static_cast<size_t>(v)].size() > 1) needed.push_back(v);
    reference_->keep(needed);
    reference_->forget_before(order_[index]);
    measured_node_ = static_cast<int>(index);
  }
  std::vector<ValueId> needed;
  for (ValueId v : other.inputs) if (v != no_value) needed.push_back(v);
  estimated_->keep(needed);

  // Sums per sample and channel, added up in the order of the samples.
  struct Sums { std::vector<double> square, difference; int64_t places = 0; };
  std::vector<Sums> sums(chosen_.size());
  estimated_->compute(theirs, [&](size_t s, const Tensor& got) {
    const Tensor want = reference_->value(mine, s);
    const size_t axis = node.op == "MatMul" ? static_cast<size_t>(std::max<int64_t>(got.rank() - 1, 0)) : 1;
    if (got.dims() != want.dims() || got.rank() <= static_cast<int64_t>(axis) || got.dims()[axis] != static_cast<int64_t>(channels))
      throw Error(ErrorCode::plugin, fmt::format("'{}' gives {}; measured for {} channels", node.name, to_string(got.dims()), channels));
    int64_t inner = 1, outer = 1;
    for (size_t i = 0; i < got.dims().size(); ++i) (i < axis ? outer : i > axis ? inner : outer) *= i == axis ? 1 : got.dims()[i];
    Sums& r = sums[s];
    r.square.assign(channels, 0);
    r.difference.assign(channels, 0);
    r.places = outer * inner;
    const float* a = got.values<float>().data();
    const float* b = want.values<float>().data();
    for (int64_t o = 0; o < outer; ++o)
      for (size_t c = 0; c < channels; ++c, a += inner, b += inner) {
        double squares[4] = {}, differences[4] = {};  // four sums, so that no addition waits for the one before
        for (int64_t i = 0; i < inner; ++i) {
          const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
          squares[i % 4] += d * d;
          differences[i % 4] += d;
        }
        r.square[c] += (squares[0] + squares[1]) + (squares[2] + squares[3]);
        r.difference[c] += (differences[0] + differences[1]) + (differences[2] + differences[3]);
      }
  });
  std::fill(square, square + channels, 0.0);
  std::fill(difference, difference + channels, 0.0);
  int64_t places = 0;
  for (const Sums& r : sums) {
    places += r.places;
    for (size_t c = 0; c < channels; ++c) { square[c] += r.square[c]; difference[c] += r.difference[c]; }
  }
  for (size_t c = 0; c < channels && places > 0; ++c) {
    square[c] /= static_cast<double>(places);
    difference[c] /= static_cast<double>(places);
  }
  last_ = {};
  const auto roles = roles_of(node);
  const auto slot = static_cast<size_t>(std::find(roles.begin(), roles.end(), "bias") - roles.begin());
  const Tensor* bias = slot < node.inputs.size() && node.real("beta", 1.0F) == 1.0F ? graph_.constant_input(node, slot) : nullptr;
  if (!bias || bias->type() != DType::f32 || bias->dims() != Dims{static_cast<int64_t>(channels)} || consumers_[static_cast<size_t>(node.inputs[slot])].size() != 1) return;
  last_ = {index, samples, node.inputs[slot], bias->to_floats(), {square, square + channels}, {difference, difference + channels}};
}

// A bias is added to every place of its channel, so what another one gives follows from the sums of the last measurement:
// mean (d + s)^2 = mean d^2 + 2 s mean d + s^2.
bool GraphView::from_last_measure(uint32_t index, uint32_t samples, double* square, double* difference, uint64_t channels) const {
  if (last_.bias == no_value || last_.node != index || last_.samples != samples || last_.before.size() != channels) return false;
  const auto now = graph_.value(last_.bias).constant->values<float>();
  for (size_t c = 0; c < channels; ++c) {
    const double s = static_cast<double>(now[c]) - static_cast<double>(last_.before[c]), d = last_.difference[c];
    difference[c] = d + s;
    square[c] = std::max(0.0, last_.square[c] + 2 * s * d + s * s);
  }
  return true;
}

}  // namespace quern
