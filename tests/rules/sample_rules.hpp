// Rules of a made-up u8/s8 accelerator, and a graph builder, for the tests of rules and placement.
#pragma once
#include <string>

#include "core/graph/graph.hpp"
#include "core/rules/rules.hpp"

namespace quern::test {

inline const char* sample_rules_text = R"json({
  "quern_rules": 1, "id": "org.example.npu", "default_profile": "v1", "x-note": "ignored",
  "types": {
    "u8": {"bits": 8, "signed": false, "zero_point": "free", "scale": "any", "granularity": "tensor"},
    "s8": {"bits": 8, "signed": true, "zero_point": "zero"},
    "w8": {"bits": 8, "signed": true, "narrow": true, "granularity": {"channel": {"axis": 0}}},
    "w8t": {"bits": 8, "signed": true, "narrow": true},
    "a16": {"bits": 16, "signed": true, "scale": {"pow2": {"min": -20, "max": 4}}},
    "b32": {"bits": 32, "signed": true, "zero_point": "zero", "scale": {"product_of": ["input", "weight"]}}
  },
  "ops": [
    {"match": {"op": "Conv", "rank": {"input": [4]}, "constant": ["weight", "bias"],
               "attributes": {"group": {"min": 1, "max": 4096}, "auto_pad": {"in": ["NOTSET"]}, "dilations": {"in": [1, 2]}}},
     "configs": [{"id": "conv8", "inputs": {"input": ["u8", "s8"], "weight": ["w8", "w8t"], "bias": ["b32"]},
                  "output": ["u8", "s8", "f32"], "contract": "dot"}]},
    {"match": {"op": ["Gemm", "MatMul"], "constant": ["weight"]},
     "configs": [{"id": "dense8", "inputs": {"input": ["u8", "s8"], "weight": ["w8", "w8t"], "bias": ["b32"]},
                  "output": ["u8", "s8"], "contract": "dot"},
                 {"id": "dense_f", "inputs": {"input": ["u8", "s8"], "weight": ["w8", "w8t"], "bias": ["b32"]},
                  "output": ["f32"], "contract": "dot"}]},
    {"match": {"op": ["Add", "Mul"]},
     "configs": [{"id": "pair8", "inputs": {"a": ["u8", "s8"], "b": ["u8", "s8"]}, "output": ["u8", "s8", "f32"], "contract": "pair"}]},
    {"match": {"op": ["AveragePool", "GlobalAveragePool"]},
     "configs": [{"id": "avg8", "inputs": {"input": "u8"}, "output": ["u8", "f32"], "contract": "avg"}]},
    {"match": {"op": "MaxPool"},
     "configs": [{"id": "max8", "inputs": {"input": ["u8", "s8"]}, "output": ["u8", "s8"], "contract": "max"}]},
    {"match": {"op": ["Reshape", "Transpose", "Flatten", "Squeeze"]},
     "configs": [{"id": "move8", "inputs": {"input": ["u8", "s8"]}, "output": ["u8", "s8"], "contract": "move"}]},
    {"match": {"op": "Concat"},
     "configs": [{"id": "concat8", "inputs": {"in*": ["u8", "s8"]}, "output": ["u8", "s8"], "contract": "move"}]}
  ],
  "fuse": [
    {"name": "dot_add_act", "steps": [{"op": ["Conv", "Gemm", "MatMul"]},
       {"op": ["Add"], "other": "residual", "types": ["u8", "s8"], "optional": true},
       {"op": ["Relu", "Clip"], "optional": true}]},
    {"name": "pair_act", "steps": [{"op": ["Add", "Mul"]}, {"op": ["Relu", "Clip"]}]}
  ],
  "passthrough": ["Reshape", "Transpose", "Flatten", "Squeeze", "MaxPool", "Concat"],
  "tie": [{"op": "Concat", "members": ["inputs", "output"], "resolve": "max_range"}],
  "placement": {"op_inputs": true, "op_outputs": "when_consumed", "model_inputs": true},
  "fallback": ["f32"],
  "presets": {"performance": {"activations": "symmetric", "weights": "symmetric"},
              "mixed": {"activations": "asymmetric", "weights": "symmetric"}},
  "profiles": {"v1": {"requires_cpu": ["sse2"]},
               "v2": {"override": {"types": {"w8": {"bits": 7}}, "fuse": null, "limits": {"max_channels": 64}}}},
  "limits": {"max_channels": 8192},
  "contracts": {
    "dot": {"form": "dot", "acc": {"bits": 32, "overflow": "must_not"},
            "operands": {"input": [{"add": "-input.zero_point"}], "residual": [{"add": "-residual.zero_point"}, {"i2f32": {}}]},
            "post": [{"i2f32": {}}, {"fadd32": "bias_f32", "when": "bias"}, {"fmul32": "multiplier"},
                     {"ffma32": ["@residual", "residual_scale"], "when": "residual"},
                     {"clamp": ["act_low", "act_high"], "when": "act_low"},
                     {"fadd32": "output_zero_point"}, {"f2i": {"round": "half_even", "low": "qmin", "high": "qmax"}}]},
    "pair": {"form": "elementwise2", "combine": "add",
             "operands": {"a": [{"add": "-a.zero_point"}, {"i2f32": {}}], "b": [{"add": "-b.zero_point"}, {"i2f32": {}}]},
             "post": [{"f2i": {"round": "half_even", "low": "qmin", "high": "qmax"}}]},
    "avg": {"form": "pool_sum", "post": [{"i2f32": {}}, {"fdiv32": "#window"}, {"f2i": {"round": "half_even", "low": 0, "high": 255}}]},
    "max": {"form": "pool_max"},
    "move": {"form": "move"}
  }
})json";

inline Rules sample_rules(const std::string& profile = "") { return parse_rules(sample_rules_text, "npu.json", profile); }

// Builds graphs in a few words. Values are named after the node that makes them; all activations are f32 of `shape`.
class Builder {
 public:
  Graph g;
  Dims shape{-1, 8, 16, 16};

  ValueId input(const std::string& name) {
    const ValueId v = g.add_value(name, DType::f32, shape);
    inputs_.push_back(v);
    g.set_inputs(inputs_);
    return v;
  }
  ValueId constant(const std::string& name, Dims dims) { return g.add_constant(name, Tensor(DType::f32, std::move(dims))); }
  ValueId op(const std::string& op, const std::string& name, std::vector<ValueId> inputs,
             std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = g.add_value(name + "_out", DType::f32, shape);
    g.add_node({.name = name, .domain = "", .op = op, .since_version = 13, .inputs = std::move(inputs), .outputs = {y},
                .attributes = std::move(attributes), .origin = {}, .payload = nullptr});
    return y;
  }
  ValueId conv(const std::string& name, ValueId x, std::map<std::string, Attribute> attributes = {}) {
    return op("Conv", name, {x, constant(name + "_w", {8, 8, 3, 3}), constant(name + "_b", {8})}, std::move(attributes));
  }
  void output(std::vector<ValueId> values) { g.set_outputs(std::move(values)); }
  ValueId value(const std::string& name) const { return g.find_value(name); }

 private:
  std::vector<ValueId> inputs_;
};

}  // namespace quern::test
