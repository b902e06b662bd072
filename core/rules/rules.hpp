// quern.rules/1: what a target's hardware can hold and compute, as data. Read, validated, matched, narrowed here.
//
// The JSON (schema: sdk/schemas/rules.schema.json; described in docs/rules.md). Unknown keys are errors with a
// suggestion, keys that begin with "x-" are ignored:
//
//   { "quern_rules": 1, "id": "org.example.npu", "default_profile": "v1",
//     "types": { "u8":  {"bits": 8, "signed": false, "zero_point": "free", "scale": "any", "granularity": "tensor"},
//                "w8":  {"bits": 8, "signed": true, "narrow": true, "zero_point": "zero", "scale": "any",
//                        "granularity": {"channel": {"axis": 0}}},
//                "b32": {"bits": 32, "signed": true, "zero_point": "zero", "scale": {"product_of": ["input", "weight"]}} },
//     "ops": [ {"match": {"op": "Conv", "rank": {"input": [4]}, "constant": ["weight", "bias"],
//                         "attributes": {"group": {"min": 1, "max": 4096}, "auto_pad": {"in": ["NOTSET"]}}},
//               "configs": [ {"id": "conv8", "inputs": {"input": ["u8", "s8"], "weight": ["w8"], "bias": ["b32"]},
//                             "output": ["u8", "s8", "f32"], "contract": "dot"} ]} ],
//     "fuse": [ {"name": "conv_add_relu",
//                "steps": [ {"op": ["Conv"]}, {"op": ["Add"], "other": "residual", "types": ["u8"], "optional": true},
//                           {"op": ["Relu", "Clip"], "optional": true} ]} ],
//     "passthrough": ["Reshape", "Transpose", "MaxPool", ...],
//     "tie": [ {"op": "Concat", "members": ["inputs", "output"], "resolve": "max_range"} ],
//     "placement": {"op_inputs": true, "op_outputs": "when_consumed", "model_inputs": true},
//     "fallback": ["f32"],
//     "presets": { "performance": {"activations": "symmetric", "weights": "symmetric"},
//                  "mixed": {"activations": "asymmetric", "weights": "symmetric"} },
//     "profiles": { "v1": {"requires_cpu": ["avx512_vnni"], "override": { ...merged over the sections above... }} },
//     "limits": {"max_channels": 8192},
//     "contracts": { "dot": { see contract_json.hpp } } }
//
// "f32" and "f16" are built-in type names (a float output, a float operand). Roles of an operator's inputs are fixed:
// see roles_of().
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.hpp"
#include "core/graph/graph.hpp"
#include "core/numeric/contract.hpp"
#include "core/numeric/quantization.hpp"

namespace quern {

enum class ZeroPointRule { zero, free, range, list, unified };
enum class ScaleRule { any, pow2, fixed, tensor_scale_times_integer, product_of };
enum class GranularityRule { tensor, channel, block };

struct TypeRule {
  std::string name;
  NumberFormat format;
  ZeroPointRule zero_point = ZeroPointRule::zero;
  std::vector<int64_t> zero_points;  // of list; or {min, max} of range
  ScaleRule scale = ScaleRule::any;
  int scale_min = 0, scale_max = 0;  // exponents (pow2) or integers (tensor_scale_times_integer)
  double scale_value = 0;            // fixed
  std::vector<std::string> product_of;
  GranularityRule granularity = GranularityRule::tensor;
  int axis = 0, block = 0;
  bool symmetric() const { return zero_point == ZeroPointRule::zero; }
  bool is_float() const { return name == "f32" || name == "f16"; }
};

struct AttributeLimit {
  std::vector<Attribute> one_of;
  std::optional<double> min, max;  // of every element, for lists
};

struct OpMatch {
  std::string domain, op;
  std::vector<int> since_versions;                        // empty: any that the host knows
  std::map<std::string, std::vector<int64_t>> ranks;      // by role
  std::vector<std::string> constant, variable, absent;    // roles
  std::map<std::string, AttributeLimit> attributes;       // an attribute that is absent is compared by its default
};

struct OpConfig {
  std::string id;
  std::map<std::string, std::vector<std::string>> inputs;  // role -> type names, in order of preference ("in*" for all)
  std::vector<std::string> output;
  std::string contract;
};

struct OpRule {
  OpMatch match;
  std::vector<OpConfig> configs;
  int entry = 0;  // index in the JSON's `ops`, for messages ("op": ["Add", "Sub"] makes two rules of one entry)
};

struct FuseStep {
  std::vector<std::string> ops;
  bool optional = false;
  std::string other;                // role that the step's second operand gets: "residual", "bias" (a constant row)
  std::vector<std::string> types;   // of `other`, when it is a tensor
  std::map<std::string, AttributeLimit> attributes;
  bool scalar = false;              // the step's other inputs are constants of one element
};
struct FusePattern {
  std::string name;
  std::vector<FuseStep> steps;
  std::vector<std::string> output = {};  // the types that a unit of this pattern may write; empty: all that its config may
};

struct TieRule { std::string op; bool inputs = true, output = true; std::string resolve = "max_range"; };
struct Preset { std::string name; bool symmetric_activations = true, symmetric_weights = true; std::map<std::string, std::string> prefer; };
struct Profile { std::string name; std::vector<std::string> requires_cpu; };

struct Rules {
  std::string id, profile, digest;      // digest: sha256 of the canonical effective JSON
  std::map<std::string, TypeRule> types;
  std::vector<OpRule> ops;
  std::vector<FusePattern> fuse;
  std::vector<std::string> passthrough;
  std::vector<TieRule> tie;
  bool quantize_model_inputs = true;
  std::string op_outputs = "when_consumed";  // or "always"
  std::vector<std::string> fallback;
  std::map<std::string, Preset> presets;
  std::vector<Profile> profiles;
  std::vector<std::string> default_profiles;  // in order of preference; the host takes the first that can run here
  std::map<std::string, int64_t> limits;
  std::map<std::string, std::shared_ptr<const Contract>> contracts;
  json::value effective;                 // the JSON after the profile was merged in

  const TypeRule& type(const std::string& name) const;  // Error(plugin) when unknown
};

// Parses and checks (schema, references, contracts). `profile` "" takes the default. Errors name `source` and the JSON path.
Rules parse_rules(std::string_view json_text, const std::string& source, const std::string& profile = "");
// The published schema, as embedded in the library.
std::string_view rules_schema();

// Roles of inputs by operator: Conv -> input, weight, bias; Gemm -> input, weight, bias; MatMul -> input, weight;
// Add/Sub/Mul/Div -> a, b; Concat -> in0, in1, ...; one-input operators -> input (further inputs: attribute-like, "").
std::vector<std::string> roles_of(const Node& node);

// First rule whose match holds; on failure `why` says what came nearest ("Conv: group 3 is above the limit of 1").
const OpRule* match_op(const Rules& rules, const Graph& graph, const Node& node, std::string* why);
// Whether a node's attributes (or their defaults) lie within limits. group may name "depthwise": one input channel a group.
bool attributes_hold(const Graph& graph, const Node& node, const std::map<std::string, AttributeLimit>& limits, std::string* why);

// A user's restriction of the rules (from the configuration). Never widens: Error(config) listing the legal choices.
struct Narrowing {
  struct Entry { std::string nodes, op; std::optional<int> bits; std::optional<bool> symmetric, per_channel; };
  std::string preset;                 // "" = the rules' first of mixed, performance
  std::vector<Entry> activations, weights;
};
bool entry_applies(const Narrowing::Entry& entry, const std::string& node_name, const std::string& op);  // nodes: * and ? are wild
// The preset that holds; null when the rules have none. Error(config) when `narrowing` names one that is not there.
const Preset* chosen_preset(const Rules& rules, const Narrowing& narrowing);
bool glob_match(std::string_view pattern, std::string_view text);  // *: any text, ?: any one character
std::string describe_type(const TypeRule& type);                   // "u8 (8 bits, unsigned, asymmetric, per tensor)"

// The types of `names` that remain for weights or activations under preset and entries. Entries filter, the preset
// orders: what it prefers comes first.
std::vector<std::string> narrow(const Rules& rules, const std::vector<std::string>& names, bool weight,
                                const Narrowing& narrowing, const std::string& node_name, const std::string& op);

}  // namespace quern
