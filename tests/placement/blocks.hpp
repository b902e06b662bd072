// What tests of placements by blocks share: rules of a made-up accelerator with functions by table, Mul, products of two activations,
// transposed convolutions and moves; graphs in a line per node; placements as text.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/placement/placement.hpp"

namespace quern::blocks {

inline const char* const block_rules_text = R"json({
  "quern_rules": 1, "id": "org.example.blocks",
  "types": {
    "u8": {"bits": 8, "signed": false, "zero_point": "free"},
    "w8": {"bits": 8, "signed": true, "narrow": true, "granularity": {"channel": {"axis": 0}}},
    "b32": {"bits": 32, "signed": true, "scale": {"product_of": ["input", "weight"]}}
  },
  "ops": [
    {"match": {"op": ["Conv", "ConvTranspose", "Gemm", "MatMul"], "constant": ["weight", "bias"], "variable": ["input"]},
     "configs": [{"id": "dot", "inputs": {"input": "u8", "weight": "w8", "bias": "b32"}, "output": ["u8", "f32"], "contract": "dot"}]},
    {"match": {"op": "MatMul", "variable": ["input", "weight"]},
     "configs": [{"id": "product", "inputs": {"input": "u8", "weight": "u8"}, "output": ["u8", "f32"], "contract": "dot"}]},
    {"match": {"op": ["Add", "Mul"]},
     "configs": [{"id": "pair", "inputs": {"a": "u8", "b": "u8"}, "output": ["u8", "f32"], "contract": "pair"}]},
    {"match": {"op": ["Sigmoid", "HardSigmoid", "Swish", "HardSwish", "Gelu"]},
     "configs": [{"id": "table", "inputs": {"input": "u8"}, "output": ["u8", "f32"], "contract": "table"}]},
    {"match": {"op": ["GlobalAveragePool", "AveragePool"]},
     "configs": [{"id": "average", "inputs": {"input": "u8"}, "output": ["u8", "f32"], "contract": "average"}]},
    {"match": {"op": "MaxPool"}, "configs": [{"id": "max", "inputs": {"input": "u8"}, "output": ["u8"], "contract": "max"}]},
    {"match": {"op": ["Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten"]},
     "configs": [{"id": "move", "inputs": {"input": "u8"}, "output": "u8", "contract": "move"}]},
    {"match": {"op": "Concat"}, "configs": [{"id": "concat", "inputs": {"in*": "u8"}, "output": "u8", "contract": "move"}]}
  ],
  "fuse": [
    {"name": "dot_add_function", "steps": [{"op": ["Conv", "ConvTranspose", "Gemm", "MatMul"]}, {"op": ["Add"], "other": "bias", "optional": true},
       {"op": ["Add"], "other": "residual", "types": ["u8"], "optional": true},
       {"op": ["Relu", "Clip", "Sigmoid", "HardSigmoid", "Swish", "HardSwish", "Gelu"], "optional": true}]}
  ],
  "passthrough": ["Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten", "MaxPool"],
  "tie": [{"op": "Concat", "members": ["inputs", "output"], "resolve": "max_range"}],
  "placement": {"op_inputs": true, "op_outputs": "when_consumed", "model_inputs": true},
  "fallback": ["f32"],
  "contracts": {
    "dot": {"form": "dot", "acc": {"bits": 32, "overflow": "must_not"}, "operands": {"input": [{"add": "-input.zero_point"}], "residual": [{"add": "-residual.zero_point"}, {"i2f32": {}}]},
            "post": [{"i2f32": {}}, {"fmul32": "multiplier"}, {"ffma32": ["@residual", "residual_scale"], "when": "residual"}, {"f2i": {"round": "half_even", "low": "qmin", "high": "qmax"}}]},
    "pair": {"form": "elementwise2", "combine": "add", "operands": {"a": [{"add": "-a.zero_point"}, {"i2f32": {}}], "b": [{"add": "-b.zero_point"}, {"i2f32": {}}]},
             "post": [{"f2i": {"round": "half_even", "low": "qmin", "high": "qmax"}}]},
    "table": {"form": "table", "post": [{"lut": "map"}]},
    "average": {"form": "pool_sum", "post": [{"i2f32": {}}, {"fdiv32": "#window"}, {"f2i": {"round": "half_even", "low": 0, "high": 255}}]},
    "max": {"form": "pool_max"},
    "move": {"form": "move"}
  }
})json";

// Nodes in a line each, named; activations take their shapes from inference.
struct Net {
  Graph g;
  std::vector<ValueId> inputs;

  ValueId input(const std::string& name, Dims dims) {
    inputs.push_back(g.add_value(name, DType::f32, std::move(dims)));
    g.set_inputs(inputs);
    return inputs.back();
  }
  ValueId op(const std::string& op, const std::string& name, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = g.add_value(name + "_out");
    g.add_node({.name = name, .op = op, .since_version = 13, .inputs = std::move(in), .outputs = {y}, .attributes = std::move(attributes), .origin = {name}});
    return y;
  }
  ValueId numbers(const std::string& name, Dims dims, float by = 0.25F) {
    Tensor t(DType::f32, std::move(dims));
    auto v = t.mutable_values<float>();
    for (size_t i = 0; i < v.size(); ++i) v[i] = by * static_cast<float>(static_cast<int>(i % 7) - 3) + 0.01F;
    return g.add_constant(name, std::move(t));
  }
  ValueId c(float v) { return g.add_constant("number", Tensor::scalar(v)); }
  ValueId i(const std::vector<int64_t>& v) { return g.add_constant("ints", Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v)); }
  ValueId conv(const std::string& name, ValueId x, int64_t in, int64_t out, int64_t kernel = 3) {
    const int64_t p = kernel / 2;
    return op("Conv", name, {x, numbers(name + "_w", {out, in, kernel, kernel}), numbers(name + "_b", {out})}, {{"pads", std::vector<int64_t>{p, p, p, p}}});
  }
  ValueId dense(const std::string& name, ValueId x, int64_t in, int64_t out) {
    return op("Add", name + "_add", {op("MatMul", name, {x, numbers(name + "_w", {in, out})}), numbers(name + "_b", {out})});
  }
  Graph done(std::vector<ValueId> outputs) {
    g.set_outputs(std::move(outputs));
    infer_shapes(g);
    canonicalize(g, {});
    return g;
  }
};

inline std::string text_of(const Graph& g, const Placement& p) {
  std::string out;
  for (const auto& q : p.quantizers) {
    if (q.kind == QuantizerKind::weight) continue;  // each weight has its own
    out += fmt::format("q{} {}", q.id, g.value(q.value).name);
    if (q.consumer != no_node) out += fmt::format(" for {}[{}]", g.node(q.consumer).name, q.slot);
    if (q.tie >= 0) out += fmt::format(" tie {}", q.tie);
    out += "\n";
  }
  for (const auto& u : p.units) {
    for (size_t i = 0; i < u.members.size(); ++i) out += (i ? "+" : "") + g.node(u.members[i]).name;
    out += fmt::format(" [{}]", u.config);
    for (const auto& o : u.operands)
      if (!o.role.empty() && o.role != "bias" && !g.value(o.value).is_constant()) out += fmt::format(" {}={}", o.role, o.quantizer >= 0 ? "q" + std::to_string(o.quantizer) : "f32");
    out += u.output_quantizer >= 0 ? fmt::format(" -> q{}\n", u.output_quantizer) : " -> f32\n";
  }
  for (const auto& f : p.floats) out += fmt::format("float {} {}\n", g.node(f.node).op, g.node(f.node).name);
  return out;
}

inline Rules block_rules() { return parse_rules(block_rules_text, "blocks.json"); }

inline std::string placed(const Graph& g, const Rules& rules = block_rules()) {
  const Placement p = place(g, rules);
  EXPECT_EQ(text_of(g, place(g, rules)), text_of(g, p));
  for (const auto& f : p.floats) EXPECT_NE(f.reason, "left in float") << g.node(f.node).name;
  if (std::getenv("QUERN_PRINT_PLACEMENT")) std::puts(explain(g, rules, p).c_str());
  return text_of(g, p);
}

inline std::string reason_of(const Graph& g, const Placement& p, const std::string& node) {
  for (const auto& f : p.floats) if (g.node(f.node).name == node) return f.reason;
  return "";
}

}  // namespace quern::blocks
