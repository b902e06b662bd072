// What tests of passes share: graphs in a line per node, and canonical forms held against what they were made from.
#pragma once
#include <gtest/gtest.h>

#include <cmath>

#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"

namespace quern::net {

using L = std::vector<int64_t>;
using F = std::vector<float>;

// Writes graphs in a line per node. Numbers are constants; a constant of shape {} unless `ones` says otherwise.
struct Net {
  Graph g;
  int count = 0;
  Dims ones;  // the shape in which numbers are written: scalars, or ones of some rank

  ValueId input(Dims dims, const std::string& name = "x", DType type = DType::f32) {
    const ValueId v = g.add_value(name, type, std::move(dims));
    auto inputs = g.inputs();
    inputs.push_back(v);
    g.set_inputs(inputs);
    return v;
  }
  ValueId c(double v) { return g.add_constant("c", Tensor::of<float>(ones, F(static_cast<size_t>(element_count(ones)), static_cast<float>(v)))); }
  ValueId c(Dims dims, float first = 0.5F) {
    F v(static_cast<size_t>(element_count(dims)));
    for (size_t i = 0; i < v.size(); ++i) v[i] = first + 0.37F * static_cast<float>(i % 7) - 0.11F * static_cast<float>(i % 5);
    return c(std::move(dims), v);
  }
  ValueId c(Dims dims, const F& v) { return g.add_constant("c", Tensor::of<float>(std::move(dims), v)); }
  ValueId i(const L& v) { return g.add_constant("i", Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v)); }
  ValueId op(const std::string& op, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}, int outputs = 1) {
    Node n{.name = op + std::to_string(count++), .op = op, .since_version = 13, .inputs = std::move(in), .outputs = {}};
    for (int k = 0; k < outputs; ++k) n.outputs.push_back(g.add_value(n.name + (k ? "_" + std::to_string(k) : "") + "_out"));
    n.origin = {n.name};
    n.attributes = std::move(attributes);
    const NodeId id = g.add_node(std::move(n));
    return g.node(id).outputs[0];
  }
  // The operands of a commutative operator, in either order.
  bool swapped = false;
  ValueId two(const std::string& name, ValueId a, ValueId b) { return swapped ? op(name, {b, a}) : op(name, {a, b}); }
  ValueId add(ValueId a, ValueId b) { return two("Add", a, b); }
  ValueId mul(ValueId a, ValueId b) { return two("Mul", a, b); }
  Graph& done(std::vector<ValueId> outputs) {
    g.set_outputs(std::move(outputs));
    infer_shapes(g);
    return g;
  }
};

// Operators in order.
inline std::string ops(const Graph& g) {
  std::string s;
  for (NodeId id : g.order()) s += (s.empty() ? "" : " ") + g.node(id).op;
  return s;
}

// Outputs of a float run on numbers from low to high.
inline std::vector<F> run(const Graph& g, float low, float high) {
  Engine engine(g, {.providers = {onednn_provider(), own_float_provider()}});
  NamedTensors inputs;
  for (ValueId v : g.inputs()) {
    Dims dims = *g.value(v).shape;
    for (int64_t& d : dims) d = d < 0 ? 3 : d;
    Tensor t(DType::f32, dims);
    auto values = t.mutable_values<float>();
    for (size_t k = 0; k < values.size(); ++k)
      values[k] = low + (high - low) * static_cast<float>((k * 7919) % 1009) / 1008.0F;
    inputs.emplace_back(g.value(v).name, std::move(t));
  }
  std::vector<F> out;
  for (const auto& [name, t] : engine.runner(1).run(inputs)) out.push_back(t.to_floats());
  return out;
}

// Canonical form, which must compute the same.
inline Graph rewritten(const Graph& g, float low = -8, float high = 8) {
  Graph r = g;
  canonicalize(r, evaluate_constant_node);
  r.check();
  const auto a = run(g, low, high), b = run(r, low, high);
  EXPECT_EQ(a.size(), b.size());
  for (size_t o = 0; o < a.size() && o < b.size(); ++o) {
    EXPECT_EQ(a[o].size(), b[o].size());
    double most = 0, difference = 0;
    for (size_t k = 0; k < a[o].size(); ++k) {
      most = std::max(most, std::fabs(static_cast<double>(a[o][k])));
      difference = std::max(difference, std::fabs(static_cast<double>(a[o][k]) - static_cast<double>(b[o][k])));
    }
    EXPECT_LE(difference, 3e-6 * most + 1e-7) << ops(r);
  }
  return r;
}

}  // namespace quern::net
