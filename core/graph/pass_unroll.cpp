#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/base/error.hpp"
#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/graph/unroll.hpp"

namespace quern {
namespace {

using Ids = std::vector<ValueId>;

// One recurrent node on its way into many.
class Unroller {
 public:
  Unroller(Graph& graph, NodeId id, Unrolling& result) : g_(graph), id_(id), node_(graph.node(id)), out_(result) {}

  // Why it can't be; empty: it can.
  std::string reason() {
    const Tensor *w = g_.constant_input(node_, 1), *r = g_.constant_input(node_, 2);
    if (!w || !r) return "its weights are not constant";
    if (w->type() != DType::f32) return fmt::format("it computes in {}", name_of(w->type()));
    for (const auto& [slot, what] : {std::pair<size_t, const char*>{3, "bias"}, {7, "peephole weights"}})
      if (has(slot) && !g_.constant_input(node_, slot)) return fmt::format("its {} are not constant", what);
    const auto& x = g_.value(node_.inputs[0]).shape;
    batch_first_ = node_.integer("layout", 0) != 0;
    time_axis_ = batch_first_ ? 1 : 0;
    if (!x || (*x)[static_cast<size_t>(time_axis_)] < 0) return "its number of steps is not known";
    steps_ = (*x)[static_cast<size_t>(time_axis_)];
    directions_ = r->dims()[0];
    hidden_ = r->dims()[2];
    inputs_ = w->dims()[2];
    if (steps_ < 1) return "it has no steps";
    if (steps_ * directions_ > unroll_limit)
      return fmt::format("{} steps{} are more than the {} that are unrolled", steps_, directions_ > 1 ? " in two directions" : "", unroll_limit);
    if (has(4)) {
      const Tensor* lengths = g_.constant_input(node_, 4);
      if (!lengths) return "its sequence lengths are not constant";
      const auto v = lengths->to_ints();
      if (std::any_of(v.begin(), v.end(), [&](int64_t n) { return n != steps_; })) return "its sequences have different lengths";
    }
    return read_functions();
  }

  void run() {
    const std::vector<std::string> outputs_of{"Y", "Y_h", "Y_c"};
    std::vector<Ids> steps(static_cast<size_t>(directions_));
    Ids last_h, last_c;
    for (int64_t d = 0; d < directions_; ++d) {
      direction_ = d;
      prefix_ = directions_ > 1 ? fmt::format("{}.{}", node_.name, d == 0 ? "forward" : "reverse") : node_.name;
      steps[static_cast<size_t>(d)] = direction();
      last_h.push_back(h_);
      last_c.push_back(c_);
    }
    prefix_ = node_.name;
    const Ids outputs = node_.outputs;
    const auto wants = [&](size_t i) { return i < outputs.size() && outputs[i] != no_value; };
    Ids made(3, no_value);
    if (wants(0)) {  // [steps, directions, batch, hidden], or with the batch first [batch, steps, directions, hidden]
      Ids all;
      for (const Ids& h : steps)
        all.push_back(op("Unsqueeze", {h.size() == 1 ? h[0] : op("Concat", h, {{"axis", time_axis_}}), ints("axes_of_Y", {time_axis_ + 1})}));
      made[0] = all.size() == 1 ? all[0] : op("Concat", all, {{"axis", time_axis_ + 1}});
    }
    if (wants(1)) made[1] = last_h.size() == 1 ? last_h[0] : op("Concat", last_h, {{"axis", time_axis_}});
    if (wants(2)) made[2] = last_c.size() == 1 ? last_c[0] : op("Concat", last_c, {{"axis", time_axis_}});
    g_.remove_node(id_);
    for (size_t i = 0; i < 3; ++i) {
      if (made[i] == no_value) continue;
      if (g_.is_output(outputs[i])) op_into("Identity", {made[i]}, {outputs[i]});
      else g_.replace_uses(outputs[i], made[i]);
    }
  }

 private:
  struct Function { std::string name; float alpha = 0, beta = 0; bool has_alpha = false, has_beta = false; };

  bool has(size_t slot) const { return slot < node_.inputs.size() && node_.inputs[slot] != no_value; }
  bool is(const char* what) const { return node_.op == what; }
  int64_t gates() const { return is("LSTM") ? 4 : is("GRU") ? 3 : 1; }

  std::string read_functions() {
    const size_t each = is("LSTM") ? 3 : is("GRU") ? 2 : 1;
    std::vector<std::string> names;
    if (const auto it = node_.attributes.find("activations"); it != node_.attributes.end())
      if (const auto* list = std::get_if<std::vector<std::string>>(&it->second)) names = *list;
    if (names.empty())
      for (int64_t d = 0; d < directions_; ++d)
        for (size_t i = 0; i < each; ++i) names.push_back(i == 0 && each > 1 ? "Sigmoid" : "Tanh");
    if (names.size() != each * static_cast<size_t>(directions_)) return "its activations do not fit its directions";
    const auto alpha = node_.reals("activation_alpha"), beta = node_.reals("activation_beta");
    size_t a = 0, b = 0;
    for (const auto& name : names) {
      static const std::map<std::string, std::pair<bool, bool>> known{
          {"Sigmoid", {false, false}}, {"Tanh", {false, false}},     {"Relu", {false, false}}, {"LeakyRelu", {true, false}},
          {"Elu", {true, false}},      {"HardSigmoid", {true, true}}, {"Softsign", {false, false}}, {"Softplus", {false, false}}};
      const auto it = known.find(name);
      if (it == known.end()) return fmt::format("its activation '{}' is not unrolled", name);
      Function f{name};
      if (it->second.first && a < alpha.size()) { f.alpha = alpha[a++]; f.has_alpha = true; }
      if (it->second.second && b < beta.size()) { f.beta = beta[b++]; f.has_beta = true; }
      functions_.push_back(f);
    }
    return "";
  }

  // ---- nodes -------------------------------------------------------------------------------------------------------------

  static int since(const std::string& op) {
    static const std::map<std::string, int> table{{"Add", 14}, {"Sub", 14}, {"Mul", 14}, {"LeakyRelu", 16}, {"Relu", 14}, {"Elu", 6},
                                                  {"HardSigmoid", 6}, {"Softsign", 1}, {"Softplus", 1}};
    const auto it = table.find(op);
    return it == table.end() ? 13 : it->second;
  }

  void op_into(const std::string& op, Ids in, Ids outputs, std::map<std::string, Attribute> attributes = {}, bool cell = true) {
    Node n;
    n.name = g_.unique_name(fmt::format("{}.{}", prefix_, op));
    n.op = op;
    n.since_version = since(op);
    n.inputs = std::move(in);
    n.outputs = std::move(outputs);
    n.attributes = std::move(attributes);
    n.origin = {node_.name};
    if (cell) out_.cells.insert(n.name);
    g_.add_node(std::move(n));
  }
  ValueId op(const std::string& op, Ids in, std::map<std::string, Attribute> attributes = {}, bool cell = true) {
    const ValueId v = g_.add_value(g_.unique_name(fmt::format("{}.{}_output", prefix_, op)));
    op_into(op, std::move(in), {v}, std::move(attributes), cell);
    return v;
  }
  Ids split(ValueId v, const std::vector<int64_t>& sizes, int64_t axis) {
    if (sizes.size() == 1) return {v};
    Ids out;
    for (size_t i = 0; i < sizes.size(); ++i) out.push_back(g_.add_value(g_.unique_name(fmt::format("{}.Split_output", prefix_))));
    op_into("Split", {v, ints("split", sizes)}, out, {{"axis", axis}});
    return out;
  }
  ValueId constant(const char* what, Dims dims, const std::vector<float>& values) {
    return g_.add_constant(fmt::format("{}.{}", prefix_, what), Tensor::of<float>(std::move(dims), values));
  }
  ValueId ints(const char* what, const std::vector<int64_t>& values) {
    return g_.add_constant(fmt::format("{}.{}", prefix_, what), Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values));
  }

  ValueId bounded(ValueId v) {
    const float clip = node_.real("clip", 0);
    if (!(clip > 0)) return v;
    if (low_ == no_value) {
      low_ = constant("clip_low", {}, {-clip});
      high_ = constant("clip_high", {}, {clip});
    }
    return op("Clip", {v, low_, high_});
  }
  ValueId apply(size_t index, ValueId v) {
    const Function& f = functions_[static_cast<size_t>(direction_) * functions_.size() / static_cast<size_t>(directions_) + index];
    std::map<std::string, Attribute> attributes;
    if (f.has_alpha) attributes["alpha"] = f.alpha;
    if (f.has_beta) attributes["beta"] = f.beta;
    return op(f.name, {v}, attributes);
  }

  // Rows [from, from + count) of this direction's weights, transposed: [depth, count].
  ValueId transposed(const char* what, size_t slot, int64_t depth, int64_t from, int64_t count) {
    const auto all = g_.constant_input(node_, slot)->values<float>();
    std::vector<float> out(static_cast<size_t>(depth * count));
    for (int64_t j = 0; j < count; ++j)
      for (int64_t k = 0; k < depth; ++k)
        out[static_cast<size_t>(k * count + j)] = all[static_cast<size_t>(((direction_ * gates() * hidden_) + from + j) * depth + k)];
    return constant(what, {depth, count}, out);
  }
  // A product with a constant, and its bias.
  ValueId product(ValueId in, ValueId weights, ValueId bias) {
    const ValueId p = op("MatMul", {in, weights}, {}, false);
    if (bias == no_value) return p;
    const ValueId sum = op("Add", {p, bias}, {}, false);
    out_.biases.insert(g_.node(g_.value(sum).producer).name);
    return sum;
  }

  // ---- cells -------------------------------------------------------------------------------------------------------------

  // The first state of this direction in the shape of a step, or none where it is zero.
  ValueId initial(size_t slot) {
    if (!has(slot)) return no_value;
    if (const Tensor* t = g_.constant_input(node_, slot)) {
      const auto v = t->values<float>();
      if (std::all_of(v.begin(), v.end(), [](float x) { return x == 0; })) return no_value;
    }
    const ValueId all = node_.inputs[slot];
    return directions_ == 1 ? all : split(all, {1, 1}, time_axis_)[static_cast<size_t>(direction_)];
  }

  bool reset_after() const { return is("GRU") && node_.integer("linear_before_reset", 0) != 0; }

  // Biases: Wb and Rb together in the projection, but for a GRU that multiplies its reset gate with H R + Rb.
  void biases() {
    projection_bias_ = recurrent_bias_ = late_bias_ = no_value;
    const Tensor* b = has(3) ? g_.constant_input(node_, 3) : nullptr;
    if (!b) return;
    const auto all = b->values<float>();
    const int64_t count = gates() * hidden_;
    std::vector<float> wb(all.begin() + 2 * direction_ * count, all.begin() + (2 * direction_ + 1) * count);
    std::vector<float> rb(all.begin() + (2 * direction_ + 1) * count, all.begin() + (2 * direction_ + 2) * count);
    if (reset_after()) {
      recurrent_bias_ = constant("bias_R", {count}, rb);
      late_bias_ = constant("bias_R_h", {hidden_}, std::vector<float>(rb.end() - hidden_, rb.end()));
      for (int64_t j = 0; j < 2 * hidden_; ++j) early_bias_.push_back(rb[static_cast<size_t>(j)]);
    } else {
      for (size_t j = 0; j < wb.size(); ++j) wb[j] += rb[j];
    }
    projection_bias_ = constant("bias", {count}, wb);
  }

  Ids direction() {
    early_bias_.clear();
    biases();
    const int64_t columns = gates() * hidden_;
    const ValueId projection = product(node_.inputs[0], transposed("W", 1, inputs_, 0, columns), projection_bias_);
    const std::vector<int64_t> ones(static_cast<size_t>(steps_), 1);
    std::vector<Ids> parts;  // of the gates, per step
    if (is("GRU")) {
      const Ids two = split(projection, {2 * hidden_, hidden_}, 2);
      parts = {split(two[0], ones, time_axis_), split(two[1], ones, time_axis_)};
    } else {
      parts = {split(projection, ones, time_axis_)};
    }
    if (is("GRU") && !reset_after()) {
      r_ = transposed("R_zr", 2, hidden_, 0, 2 * hidden_);
      late_r_ = transposed("R_h", 2, hidden_, 2 * hidden_, hidden_);
    } else {
      r_ = transposed("R", 2, hidden_, 0, columns);
    }
    h_ = initial(5);
    c_ = is("LSTM") ? initial(6) : no_value;
    const bool backwards = direction_ == 1 || node_.text("direction", "forward") == "reverse";
    Ids out(static_cast<size_t>(steps_), no_value);
    for (int64_t i = 0; i < steps_; ++i) {
      const auto t = static_cast<size_t>(backwards ? steps_ - 1 - i : i);
      if (is("LSTM")) lstm(parts[0][t]);
      else if (is("GRU")) gru(parts[0][t], parts[1][t]);
      else h_ = apply(0, bounded(h_ == no_value ? parts[0][t] : op("Add", {parts[0][t], product(h_, r_, no_value)})));
      out[t] = h_;
    }
    return out;
  }

  void lstm(ValueId gates) {
    if (h_ != no_value) gates = op("Add", {gates, product(h_, r_, no_value)});
    const int64_t n = hidden_;
    const bool couple = node_.integer("input_forget", 0) != 0;
    Ids iofc;
    if (!has(7)) {
      const Ids two = split(bounded(gates), {3 * n, n}, 2);
      iofc = split(apply(0, two[0]), {n, n, n}, 2);
      iofc.push_back(apply(1, two[1]));
    } else {
      iofc = split(gates, {n, n, n, n}, 2);
      if (peephole_.size() != static_cast<size_t>(direction_ + 1) * 3) {
        const auto all = g_.constant_input(node_, 7)->values<float>();
        for (int64_t k = 0; k < 3; ++k)
          peephole_.push_back(constant("P", {n}, std::vector<float>(all.begin() + (direction_ * 3 + k) * n, all.begin() + (direction_ * 3 + k + 1) * n)));
      }
      iofc[0] = apply(0, bounded(looked(iofc[0], 0)));
      if (!couple) iofc[2] = apply(0, bounded(looked(iofc[2], 2)));
      iofc[3] = apply(1, bounded(iofc[3]));
    }
    if (couple) iofc[2] = op("Sub", {one(), iofc[0]});
    ValueId c = op("Mul", {iofc[0], iofc[3]});
    if (c_ != no_value) c = op("Add", {op("Mul", {iofc[2], c_}), c});
    c_ = c;
    if (has(7)) iofc[1] = apply(0, bounded(looked(iofc[1], 1)));
    h_ = op("Mul", {iofc[1], apply(2, c_)});
  }
  // A gate that sees the cell state through a peephole (i o f).
  ValueId looked(ValueId gate, size_t which) {
    return c_ == no_value ? gate : op("Add", {gate, op("Mul", {c_, peephole_[static_cast<size_t>(direction_) * 3 + which]})});
  }

  void gru(ValueId early, ValueId late) {
    const int64_t n = hidden_;
    ValueId from_h = no_value;  // reset_after: H R + Rb of the candidate
    if (h_ != no_value) {
      const ValueId p = product(h_, r_, recurrent_bias_);
      const Ids two = reset_after() ? split(p, {2 * n, n}, 2) : Ids{p};
      early = op("Add", {early, two[0]});
      if (reset_after()) from_h = two[1];
    } else {
      if (!early_bias_.empty()) early = op("Add", {early, constant("bias_R_zr", {2 * n}, early_bias_)});
      from_h = late_bias_;
    }
    const Ids zr = split(apply(0, bounded(early)), {n, n}, 2);
    if (reset_after() && from_h != no_value) late = op("Add", {late, op("Mul", {zr[1], from_h})});
    if (!reset_after() && h_ != no_value) late = op("Add", {late, product(op("Mul", {zr[1], h_}), late_r_, no_value)});
    const ValueId candidate = apply(1, bounded(late));
    // (1 - z) * candidate + z * h
    if (h_ == no_value) h_ = op("Sub", {candidate, op("Mul", {zr[0], candidate})});
    else h_ = op("Add", {candidate, op("Mul", {zr[0], op("Sub", {h_, candidate})})});
  }

  ValueId one() {
    if (one_ == no_value) one_ = constant("one", {}, {1});
    return one_;
  }

  Graph& g_;
  NodeId id_;
  const Node node_;  // a copy: adding nodes moves the graph's own
  Unrolling& out_;
  bool batch_first_ = false;
  int64_t time_axis_ = 0, steps_ = 0, directions_ = 1, hidden_ = 0, inputs_ = 0, direction_ = 0;
  std::vector<Function> functions_;
  std::string prefix_;
  ValueId h_ = no_value, c_ = no_value, r_ = no_value, late_r_ = no_value;
  ValueId projection_bias_ = no_value, recurrent_bias_ = no_value, late_bias_ = no_value, low_ = no_value, high_ = no_value, one_ = no_value;
  std::vector<float> early_bias_;
  Ids peephole_;
};

}  // namespace

Unrolling unroll_recurrent(Graph& graph, const std::function<bool(const Node&)>& wanted) {
  Unrolling result;
  for (NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (!node.domain.empty() || (node.op != "LSTM" && node.op != "GRU" && node.op != "RNN") || !wanted(node)) continue;
    const std::string name = node.name;
    Unroller unroller(graph, id, result);
    if (const std::string why = unroller.reason(); !why.empty()) {
      result.kept[name] = why;
      continue;
    }
    unroller.run();
    ++result.unrolled;
  }
  if (result.unrolled > 0) {
    remove_dead(graph);
    infer_shapes(graph);
  }
  return result;
}

}  // namespace quern
