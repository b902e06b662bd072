// The host's own graph: nodes, values and constants. Nothing of ONNX's protobuf lives here.
//
// A value is a tensor that flows: a graph input, a constant, or the output of exactly one node. A node names its
// values by id. Ids are never reused: a removed node stays as a tombstone (`removed`), a removed value as one without a name.
//
//   Graph g;
//   ValueId x = g.add_value("x", DType::f32, Dims{-1, 3, 8, 8});
//   g.set_inputs({x});
//   ValueId y = g.add_value("y");
//   g.add_node({.name = "relu1", .op = "Relu", .since_version = 14, .inputs = {x}, .outputs = {y}});
//   g.set_outputs({y});
//
// Shapes: a dimension is -1 where it is not known before a run (the batch, usually). dtype is `undefined` until shape
// inference has run. Threads: reading is free for all; writing needs exclusive access.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/base/tensor.hpp"

namespace quern {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId no_value = -1;  // an optional input that is absent
inline constexpr NodeId no_node = -1;

class Graph;
using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                               std::vector<std::string>, Tensor, std::shared_ptr<const Graph>>;

// What a room further down hangs on a node (an integer unit, a quantizer); copied by pointer, never changed.
struct NodePayload { virtual ~NodePayload() = default; };

struct Node {
  std::string name = "";    // unique and not empty (the importer makes one up where the file has none)
  std::string domain = "";  // "" for ai.onnx; "quern" for nodes of ours
  std::string op = "";
  int since_version = 1;  // of the operator's definition that applies (Conv 11, Relu 14), not the model's opset
  std::vector<ValueId> inputs = {}, outputs = {};
  std::map<std::string, Attribute> attributes = {};
  std::vector<std::string> origin = {};  // names of the nodes of the file that were folded into this one, itself first
  std::shared_ptr<const NodePayload> payload = nullptr;
  bool removed = false;

  bool has(const std::string& key) const { return attributes.count(key) != 0; }
  // Attribute with default; Error(model) naming the node when it has another type.
  int64_t integer(const std::string& key, int64_t fallback) const;
  float real(const std::string& key, float fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  std::vector<int64_t> integers(const std::string& key, const std::vector<int64_t>& fallback = {}) const;
  std::vector<float> reals(const std::string& key, const std::vector<float>& fallback = {}) const;
};

struct Value {
  std::string name;  // unique
  DType dtype = DType::undefined;
  std::optional<Dims> shape;            // none: not even the rank is known
  std::vector<std::string> dim_names;   // symbolic names as in the file ("N"), "" where fixed; may be empty
  std::shared_ptr<const Tensor> constant;  // set for constants
  NodeId producer = no_node;
  bool is_constant() const { return constant != nullptr; }
};

class Graph {
 public:
  std::string name;
  std::map<std::string, std::string> metadata;  // metadata_props of the file
  int64_t opset = 0;                            // of the file (ai.onnx), for messages and export

  // A name in use is Error(model); an empty one is made up.
  ValueId add_value(std::string name, DType dtype = DType::undefined, std::optional<Dims> shape = {});
  ValueId add_constant(std::string name, Tensor tensor);  // a name in use gets a suffix
  NodeId add_node(Node node);                             // takes its outputs as produced by it; a name in use gets a suffix
  void remove_node(NodeId id);                            // its outputs lose their producer
  void remove_value(ValueId id);                          // forgets its name and data; nothing may use it any more
  void set_inputs(std::vector<ValueId> ids) { inputs_ = std::move(ids); }
  void set_outputs(std::vector<ValueId> ids) { outputs_ = std::move(ids); }
  void set_constant(ValueId id, Tensor tensor);           // replaces the data of a constant (weights, bias)
  void replace_uses(ValueId from, ValueId to);            // in all node inputs and graph outputs
  // `wanted`, or `wanted_1`, `wanted_2`, ...: a name that neither a value nor a node has.
  std::string unique_name(const std::string& wanted) const;
  void rename_value(ValueId id, const std::string& name);  // Error(internal) when the name is in use

  const Node& node(NodeId id) const { return nodes_.at(static_cast<size_t>(id)); }
  Node& node(NodeId id) { return nodes_.at(static_cast<size_t>(id)); }
  const Value& value(ValueId id) const { return values_.at(static_cast<size_t>(id)); }
  Value& value(ValueId id) { return values_.at(static_cast<size_t>(id)); }
  size_t node_slots() const { return nodes_.size(); }   // including removed ones
  size_t value_slots() const { return values_.size(); }
  const std::vector<ValueId>& inputs() const { return inputs_; }   // without constants
  const std::vector<ValueId>& outputs() const { return outputs_; }
  ValueId find_value(const std::string& name) const;  // no_value when there is none
  NodeId find_node(const std::string& name) const;
  // Constant of an input slot, or null (absent, or not constant).
  const Tensor* constant_input(const Node& node, size_t slot) const;
  bool is_output(ValueId id) const;

  struct Use { NodeId node; int slot; };
  // Uses per value, by (topological position, slot). Recomputed; keep the result while the graph stands still.
  std::vector<std::vector<Use>> uses() const;
  // Live nodes in a topological order that is a function of the graph alone (ties by node id).
  // Throws Error(model) naming a node on a cycle.
  std::vector<NodeId> order() const;
  // Checks: every input has a producer, is a constant or a graph input; names unique; no cycle.
  void check() const;

 private:
  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<ValueId> inputs_, outputs_;
  std::unordered_map<std::string, ValueId> value_by_name_;
  std::unordered_map<std::string, NodeId> node_by_name_;
};

// Names of the constants that hold a NaN or an infinity, in the order of their ids.
std::vector<std::string> non_finite_constants(const Graph& graph);

}  // namespace quern
