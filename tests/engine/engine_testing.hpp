// What the engine's tests are written with: graphs by hand, a naive evaluator in double that shares no code with the
// engine, and a few plain kernels of the tests' own so that the executor is tested apart from the float providers.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"

namespace quern::testing {

inline Tensor random_tensor(const Dims& dims, uint32_t seed, float low = -1, float high = 1) {
  std::mt19937 random(seed);
  Tensor t(DType::f32, dims);
  for (float& v : t.mutable_values<float>())
    v = low + (high - low) * static_cast<float>(random() >> 8) / static_cast<float>(1u << 24);
  return t;
}

struct Builder {
  Graph g;
  uint32_t seed = 1;
  std::vector<ValueId> inputs;

  ValueId input(const std::string& name, const Dims& dims, DType type = DType::f32) {
    inputs.push_back(g.add_value(name, type, dims));
    g.set_inputs(inputs);
    return inputs.back();
  }
  ValueId constant(const Tensor& t) { return g.add_constant("c" + std::to_string(seed++), t); }
  ValueId weights(const Dims& dims) { return constant(random_tensor(dims, 1000 + seed, -0.5f, 0.5f)); }
  // The output value is named like the node with "_out".
  ValueId op(const std::string& type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}, int since = 13,
             std::string name = "") {
    if (name.empty()) name = type + std::to_string(g.node_slots());
    const ValueId out = g.add_value(name + "_out");
    g.add_node({.name = name, .domain = "", .op = type, .since_version = since, .inputs = std::move(in), .outputs = {out},
                .attributes = std::move(attributes), .origin = {}, .payload = nullptr});
    return out;
  }
  ValueId conv(ValueId x, const Dims& w, bool bias = true, std::map<std::string, Attribute> attributes = {}) {
    std::vector<ValueId> in{x, weights(w)};
    if (bias) in.push_back(weights({w[0]}));
    if (!attributes.count("pads")) {
      std::vector<int64_t> pads;
      for (int side = 0; side < 2; ++side)
        for (size_t i = 2; i < w.size(); ++i) pads.push_back(w[i] / 2);
      attributes["pads"] = pads;
    }
    return op("Conv", in, attributes, 11);
  }
  ValueId reshape(ValueId x, const std::vector<int64_t>& dims) {
    return op("Reshape", {x, constant(Tensor::of<int64_t>({static_cast<int64_t>(dims.size())}, dims))}, {}, 13);
  }
  Graph outputs(std::vector<ValueId> ids) {
    g.set_outputs(std::move(ids));
    return g;
  }
};

// Row-major data in double.
struct Array {
  Dims dims;
  std::vector<double> v;
};
Array array_of(const Tensor& t);
// Every value of the graph, by id; only the operators the tests use.
std::map<ValueId, Array> evaluate(const Graph& graph, const NamedTensors& inputs);
// max|a-b| <= tolerance * max|b|
void expect_close(const Tensor& got, const Array& want, double tolerance = 1e-5, const std::string& what = "");
void expect_same_bytes(const Tensor& a, const Tensor& b, const std::string& what = "");
// Runs the graph and compares every output with evaluate().
void check_against_reference(const Graph& graph, const NamedTensors& inputs, EngineOptions options, double tolerance = 1e-5);
Tensor dense(const TensorView& view);  // a row-major copy

// Relu, Neg, Add, Mul (broadcast, any layout), Concat (any layout), Reshape and Flatten (views). `fail_on`: a node whose
// kernel throws.
std::shared_ptr<const Provider> plain_provider(std::string fail_on = "");
EngineOptions usual();             // oneDNN, then the plain provider
EngineOptions with_own_kernels();  // oneDNN, then own_float_provider()

}  // namespace quern::testing
