// Rules of the test target: a small integer accelerator with six kinds of kernel.
#pragma once

namespace mutant {

inline constexpr const char* rules_text = R"json({
  "quern_rules": 1, "id": "org.quern.test.mutant", "default_profile": "default", "profiles": {"default": {}},
  "types": {
    "u8": {"bits": 8, "signed": false, "zero_point": "free"},
    "s8": {"bits": 8, "signed": true, "zero_point": "zero"},
    "w8": {"bits": 8, "signed": true, "narrow": true, "granularity": {"channel": {"axis": 0}}},
    "b32": {"bits": 32, "signed": true, "scale": {"product_of": ["input", "weight"]}}
  },
  "ops": [
    {"match": {"op": "Conv", "rank": {"input": 4}, "constant": ["weight", "bias"], "variable": ["input"],
               "attributes": {"auto_pad": {"in": ["NOTSET"]}, "strides": {"max": 3}, "dilations": {"max": 2}, "kernel_shape": {"max": 5}}},
     "configs": [{"id": "conv", "inputs": {"input": ["u8", "s8"], "weight": ["w8"], "bias": ["b32"]}, "output": ["u8", "s8"], "contract": "conv"}]},
    {"match": {"op": "Gemm", "rank": {"input": 2}, "constant": ["weight", "bias"], "variable": ["input"],
               "attributes": {"transA": {"in": [0]}, "transB": {"in": [1]}, "alpha": {"min": 1, "max": 1}, "beta": {"min": 1, "max": 1}}},
     "configs": [{"id": "dense", "inputs": {"input": ["s8"], "weight": ["w8"], "bias": ["b32"]}, "output": ["s8"], "contract": "dense"}]},
    {"match": {"op": "Add", "variable": ["a", "b"]},
     "configs": [{"id": "add", "inputs": {"a": ["u8"], "b": ["u8"]}, "output": ["u8"], "contract": "add"}]},
    {"match": {"op": "AveragePool", "rank": {"input": 4}, "attributes": {"pads": {"in": [0]}, "ceil_mode": {"in": [0]}, "auto_pad": {"in": ["NOTSET"]}, "dilations": {"in": [1]}}},
     "configs": [{"id": "average", "inputs": {"input": ["u8", "s8"]}, "output": ["u8", "s8"], "contract": "average"}]},
    {"match": {"op": "Sigmoid"}, "configs": [{"id": "table", "inputs": {"input": ["u8", "s8"]}, "output": ["u8"], "contract": "table"}]},
    {"match": {"op": "Tanh"}, "configs": [{"id": "pieces", "inputs": {"input": ["s8"]}, "output": ["s8"], "contract": "pieces"}]},
    {"match": {"op": ["Flatten", "Reshape"], "variable": ["input"]},
     "configs": [{"id": "move", "inputs": {"input": ["u8", "s8"]}, "output": ["u8", "s8"], "contract": "move"}]}
  ],
  "fuse": [{"name": "with_relu", "steps": [{"op": ["Conv"]}, {"op": ["Relu"]}]}],
  "passthrough": ["Flatten", "Reshape"],
  "fallback": ["f32"],
  "contracts": {
    "conv": {"form": "dot", "acc": {"bits": 32, "overflow": "must_not", "init": "bias"}, "operands": {"input": [{"add": "-input.zero_point"}]},
      "post": [{"mul": "multiplier"}, {"shr": ["shift", {"round": "half_even"}]}, {"add": "output.zero_point"},
               {"clamp": ["relu_low", "qmax"], "when": "relu_low"}, {"clamp": ["qmin", "qmax"]}]},
    "dense": {"form": "dot", "acc": {"bits": 20, "overflow": "saturate", "order": "ordered", "saturate_every": 8},
      "post": [{"add": "bias", "when": "bias"}, {"mul": "multiplier"}, {"shr": ["shift", {"round": "half_even"}]}, {"clamp": ["qmin", "qmax"]}]},
    "add": {"form": "elementwise2", "operands": {"a": [{"add": "-a.zero_point"}, {"mul": "a_factor"}], "b": [{"add": "-b.zero_point"}, {"mul": "b_factor"}]},
      "combine": "add", "post": [{"shr": [16, {"round": "half_up"}]}, {"add": "output.zero_point"}, {"clamp": ["qmin", "qmax"]}]},
    "average": {"form": "pool_sum", "acc": {"bits": 32, "overflow": "must_not"}, "operands": {"input": [{"add": "-input.zero_point"}]},
      "post": [{"mul": "multiplier"}, {"shr": [20, {"round": "half_away"}]}, {"add": "output.zero_point"}, {"clamp": ["qmin", "qmax"]}]},
    "table": {"form": "table", "post": [{"lut": ["table", "table_first"]}]},
    "pieces": {"form": "table", "post": [{"pwl": "pieces"}, {"clamp": ["qmin", "qmax"]}]},
    "move": {"form": "move"}
  }
})json";

}  // namespace mutant
