#include "core/pipeline/fit_accumulators.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "core/base/error.hpp"
#include "core/numeric/multiples.hpp"

namespace quern {
namespace {

// A unit that reads the weight.
struct User {
  std::string node;
  double s_x = 1, largest = 0;      // scale and largest code of the input, from its zero point
  double span = 0;                  // from its least to its largest code
  std::vector<float> bias;          // by channel; empty: none
  int bits = 32;                    // of the accumulator
};

struct Weight {
  const Tensor* data = nullptr;
  int axis = 0;                     // of the output channels
  std::vector<int> quantizers;
  std::vector<User> users;
};

// Of the codes of an output channel: the sum of |code|, and of the two largest and the two least, 0 among them.
struct Codes {
  double sum = 0, most = 0, second = 0, least = 0, next = 0;
  void add(double code) {
    sum += std::abs(code);
    second = std::max(second, std::min(code, most));
    most = std::max(most, code);
    next = std::min(next, std::max(code, least));
    least = std::min(least, code);
  }
};
std::vector<Codes> codes_by_channel(const Weight& w, const QuantParams& p) {
  const Tensor codes = quantize(*w.data, p);
  const auto values = codes.to_ints();
  const Dims& dims = w.data->dims();
  int64_t inner = 1;
  for (size_t a = static_cast<size_t>(w.axis) + 1; a < dims.size(); ++a) inner *= dims[a];
  const int64_t channels = dims.at(static_cast<size_t>(w.axis));
  std::vector<Codes> out(static_cast<size_t>(channels));
  for (size_t i = 0; i < values.size(); ++i) out[static_cast<size_t>(static_cast<int64_t>(i) / inner % channels)].add(static_cast<double>(values[i]));
  return out;
}

class Fitter {
 public:
  // pair_sum: what two neighbouring products may sum to; 0: accumulators are what is fitted.
  Fitter(Placement& placement, const Rules& rules, double pair_sum = 0) : placement_(placement), rules_(rules), pair_sum_(pair_sum) {}

  void fit(const Weight& w, std::vector<FittedWeight>& out) {
    const Quantizer& q = placement_.quantizers.at(static_cast<size_t>(w.quantizers.front()));
    const TypeRule& type = rules_.type(q.type);
    const QuantParams before = q.params;
    QuantParams p = before;
    const bool together = type.scale == ScaleRule::tensor_scale_times_integer;
    double step = together ? step_of(p, type) : 0;
    std::vector<double> first(w.users.size(), 0);
    for (int round = 0; round < 40; ++round) {
      const auto codes = codes_by_channel(w, p);
      // How far beyond what holds its sums each channel may go, over all users.
      std::vector<double> excess(p.scale.size(), 0);
      for (size_t u = 0; u < w.users.size(); ++u)
        for (size_t c = 0; c < codes.size(); ++c) {
          const size_t k = p.scale.size() == 1 ? 0 : c;
          const User& user = w.users[u];
          const double unit = together ? step : static_cast<double>(p.scale[k]), multiple = p.scale[k] / unit;
          const double bias = user.bias.empty() ? 0 : std::abs(static_cast<double>(user.bias[user.bias.size() == 1 ? 0 : c])) / (user.s_x * unit) + multiple;
          const double part = pair_sum_ > 0 ? std::max((codes[c].most + codes[c].second) / pair_sum_, -(codes[c].least + codes[c].next) / (pair_sum_ + 1)) * user.span
                                            : (codes[c].sum * multiple * user.largest + bias) / (std::ldexp(1.0, user.bits - 1) - 1);
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
    out.push_back({w.users.front().node, w.users.size(), *std::max_element(first.begin(), first.end()), factor,
                   pair_sum_ > 0 ? "no two products can leave what fast kernels add them in" : "no sum can leave the accumulator"});
  }

 private:
  static double step_of(const QuantParams& p, const TypeRule& type) {
    return static_cast<double>(*std::max_element(p.scale.begin(), p.scale.end())) / type.scale_max;
  }

  Placement& placement_;
  const Rules& rules_;
  double pair_sum_;
};

// `wanted`: which units, by their contract, first node, input and weight.
using Wanted = std::function<bool(const Contract&, const Node&, const Value& input, const Tensor& weight)>;
std::vector<FittedWeight> fit(const Graph& graph, Placement& placement, const Rules& rules, Fitter fitter, const Wanted& wanted) {
  std::map<std::pair<ValueId, std::string>, Weight> weights;  // by tensor and type
  std::vector<std::pair<ValueId, std::string>> order;
  for (const PlacedUnit& unit : placement.units) {
    const auto found = rules.contracts.find(unit.contract);
    if (found == rules.contracts.end()) continue;
    const Contract& contract = *found->second;
    if (contract.form != KernelForm::dot) continue;
    const PlacedOperand *input = nullptr, *weight = nullptr, *bias = nullptr;
    for (const PlacedOperand& o : unit.operands) {
      if (o.role == "input") input = &o;
      if (o.role == "weight") weight = &o;
      if (o.role == "bias") bias = &o;
    }
    if (!input || !weight || input->quantizer < 0 || weight->quantizer < 0 || !graph.value(weight->value).is_constant()) continue;
    const Node& node = graph.node(unit.members.front());
    if (!wanted(contract, node, graph.value(input->value), *graph.value(weight->value).constant)) continue;
    const Quantizer& q = placement.quantizers.at(static_cast<size_t>(weight->quantizer));
    const QuantParams& x = placement.quantizers.at(static_cast<size_t>(input->quantizer)).params;
    const auto key = std::make_pair(weight->value, q.type);
    Weight& w = weights[key];
    if (w.users.empty()) order.push_back(key);
    w.data = graph.value(weight->value).constant.get();
    TypeRule by_channel = rules.type(q.type);
    by_channel.axis = 0;
    by_channel.granularity = GranularityRule::channel;
    w.axis = q.params.axis >= 0 ? q.params.axis : channel_axis_of(graph, node, "weight", by_channel);
    if (w.axis < 0 || w.axis >= static_cast<int>(w.data->rank())) w.axis = 0;
    if (std::find(w.quantizers.begin(), w.quantizers.end(), q.id) == w.quantizers.end()) w.quantizers.push_back(q.id);
    User user;
    user.node = node.name;
    user.s_x = x.scale.at(0);
    const int64_t zero = x.zero_point.at(0);
    user.largest = static_cast<double>(std::max(x.format.qmax - zero, zero - x.format.qmin));
    user.span = static_cast<double>(x.format.qmax - x.format.qmin);
    user.bits = contract.acc.bits;
    if (bias && graph.value(bias->value).is_constant()) user.bias = graph.value(bias->value).constant->to_floats();
    w.users.push_back(std::move(user));
  }
  std::vector<FittedWeight> out;
  for (const auto& key : order) fitter.fit(weights.at(key), out);
  return out;
}

}  // namespace

std::vector<FittedWeight> fit_accumulators(const Graph& graph, Placement& placement, const Rules& rules) {
  return fit(graph, placement, rules, Fitter(placement, rules),
             [](const Contract& contract, const Node&, const Value&, const Tensor&) { return contract.acc.overflow == Overflow::saturate; });
}

std::vector<FittedWeight> fit_pairs(const Graph& graph, Placement& placement, const Rules& rules, SaturationFix which) {
  const auto limit = rules.limits.find("pair_sum");
  if (limit == rules.limits.end() || which == SaturationFix::no) return {};
  return fit(graph, placement, rules, Fitter(placement, rules, static_cast<double>(limit->second)),
             [&](const Contract&, const Node& node, const Value& input, const Tensor& weight) {
               if (node.integer("group", 1) > 1 && weight.rank() > 1 && weight.dims()[1] == 1) return false;
               return which == SaturationFix::all || (input.producer < 0 && !input.is_constant());
             });
}

}  // namespace quern
