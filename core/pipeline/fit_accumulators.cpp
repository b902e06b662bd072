#include "core/pipeline/fit_accumulators.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.hpp"
#include "core/numeric/multiples.hpp"

namespace quern {
namespace {

// A unit that reads the weight.
struct User {
  std::string node;
  double s_x = 1, largest = 0;      // scale and largest code of the input
  std::vector<float> bias;          // by channel; empty: none
  int bits = 32;                    // of the accumulator
};

struct Weight {
  const Tensor* data = nullptr;
  int axis = 0;                     // of the output channels
  std::vector<int> quantizers;
  std::vector<User> users;
};

// Per output channel, the sum of |code|.
std::vector<double> code_sums(const Weight& w, const QuantParams& p) {
  const Tensor codes = quantize(*w.data, p);
  const auto values = codes.to_ints();
  const Dims& dims = w.data->dims();
  int64_t inner = 1;
  for (size_t a = static_cast<size_t>(w.axis) + 1; a < dims.size(); ++a) inner *= dims[a];
  const int64_t channels = dims.at(static_cast<size_t>(w.axis));
  std::vector<double> sums(static_cast<size_t>(channels), 0);
  for (size_t i = 0; i < values.size(); ++i)
    sums[static_cast<size_t>(static_cast<int64_t>(i) / inner % channels)] += std::abs(static_cast<double>(values[i]));
  return sums;
}

class Fitter {
 public:
  Fitter(Placement& placement, const Rules& rules) : placement_(placement), rules_(rules) {}

  void fit(const Weight& w, std::vector<FittedWeight>& out) {
    const Quantizer& q = placement_.quantizers.at(static_cast<size_t>(w.quantizers.front()));
    const TypeRule& type = rules_.type(q.type);
    const QuantParams before = q.params;
    QuantParams p = before;
    const bool together = type.scale == ScaleRule::tensor_scale_times_integer;
    double step = together ? step_of(p, type) : 0;
    std::vector<double> first(w.users.size(), 0);
    for (int round = 0; round < 40; ++round) {
      const auto sums = code_sums(w, p);
      // How far beyond the accumulator each channel may go, over all users.
      std::vector<double> excess(p.scale.size(), 0);
      for (size_t u = 0; u < w.users.size(); ++u)
        for (size_t c = 0; c < sums.size(); ++c) {
          const size_t k = p.scale.size() == 1 ? 0 : c;
          const User& user = w.users[u];
          const double unit = together ? step : static_cast<double>(p.scale[k]), multiple = p.scale[k] / unit;
          const double bias = user.bias.empty() ? 0 : std::abs(static_cast<double>(user.bias[user.bias.size() == 1 ? 0 : c])) / (user.s_x * unit) + multiple;
          const double part = (sums[c] * multiple * user.largest + bias) / (std::ldexp(1.0, user.bits - 1) - 1);
          excess[k] = std::max(excess[k], part);
          if (round == 0) first[u] = std::max(first[u], part);
        }
      const double most = *std::max_element(excess.begin(), excess.end());
      if (most <= 1) break;
      if (together) {
        step *= most * 1.002;
        p = to_multiples(before, type.scale_min, type.scale_max, step);
      } else {
        for (size_t k = 0; k < p.scale.size(); ++k) {
          if (excess[k] <= 1) continue;
          const double by = excess[k] * 1.0005;
          p.scale[k] *= static_cast<float>(type.scale == ScaleRule::pow2 ? std::exp2(std::ceil(std::log2(by))) : by);
        }
      }
    }
    if (p == before) return;
    double factor = 1;
    for (size_t k = 0; k < p.scale.size(); ++k) factor = std::max(factor, static_cast<double>(p.scale[k]) / before.scale[k]);
    if (together) factor = step / step_of(before, type);
    for (int id : w.quantizers) {
      Quantizer& changed = placement_.quantizers.at(static_cast<size_t>(id));
      for (size_t k = 0; k < changed.ranges.size() && k < p.scale.size(); ++k) {
        const double by = static_cast<double>(p.scale[k]) / before.scale[k];
        changed.ranges[k] = {changed.ranges[k].low * by, changed.ranges[k].high * by};
      }
      changed.params = p;
    }
    out.push_back({w.users.front().node, w.users.size(), *std::max_element(first.begin(), first.end()), factor});
  }

 private:
  static double step_of(const QuantParams& p, const TypeRule& type) {
    return static_cast<double>(*std::max_element(p.scale.begin(), p.scale.end())) / type.scale_max;
  }

  Placement& placement_;
  const Rules& rules_;
};

}  // namespace

std::vector<FittedWeight> fit_accumulators(const Graph& graph, Placement& placement, const Rules& rules) {
  std::map<std::pair<ValueId, std::string>, Weight> weights;  // by tensor and type
  std::vector<std::pair<ValueId, std::string>> order;
  for (const PlacedUnit& unit : placement.units) {
    const auto found = rules.contracts.find(unit.contract);
    if (found == rules.contracts.end()) continue;
    const Contract& contract = *found->second;
    if (contract.form != KernelForm::dot || contract.acc.overflow != Overflow::saturate) continue;
    const PlacedOperand *input = nullptr, *weight = nullptr, *bias = nullptr;
    for (const PlacedOperand& o : unit.operands) {
      if (o.role == "input") input = &o;
      if (o.role == "weight") weight = &o;
      if (o.role == "bias") bias = &o;
    }
    if (!input || !weight || input->quantizer < 0 || weight->quantizer < 0 || !graph.value(weight->value).is_constant()) continue;
    const Quantizer& q = placement.quantizers.at(static_cast<size_t>(weight->quantizer));
    const QuantParams& x = placement.quantizers.at(static_cast<size_t>(input->quantizer)).params;
    const auto key = std::make_pair(weight->value, q.type);
    Weight& w = weights[key];
    if (w.users.empty()) order.push_back(key);
    w.data = graph.value(weight->value).constant.get();
    TypeRule by_channel = rules.type(q.type);
    by_channel.axis = 0;
    by_channel.granularity = GranularityRule::channel;
    const Node& node = graph.node(unit.members.front());
    w.axis = q.params.axis >= 0 ? q.params.axis : channel_axis_of(graph, node, "weight", by_channel);
    if (w.axis < 0 || w.axis >= static_cast<int>(w.data->rank())) w.axis = 0;
    if (std::find(w.quantizers.begin(), w.quantizers.end(), q.id) == w.quantizers.end()) w.quantizers.push_back(q.id);
    User user;
    user.node = node.name;
    user.s_x = x.scale.at(0);
    const int64_t zero = x.zero_point.at(0);
    user.largest = static_cast<double>(std::max(x.format.qmax - zero, zero - x.format.qmin));
    user.bits = contract.acc.bits;
    if (bias && graph.value(bias->value).is_constant()) user.bias = graph.value(bias->value).constant->to_floats();
    w.users.push_back(std::move(user));
  }
  std::vector<FittedWeight> out;
  Fitter fitter(placement, rules);
  for (const auto& key : order) fitter.fit(weights.at(key), out);
  return out;
}

}  // namespace quern
