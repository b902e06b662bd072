// Between the graph and the placement: which nodes could run as one unit, and what each would ask for. Private to
// core/placement.
#pragma once
#include "core/placement/placement.hpp"

namespace quern::placing {

using TypeSet = std::vector<int>;  // indices into Context::type_names, in order of preference

TypeSet intersect(const TypeSet& order, const TypeSet& with);  // in the order of the first
bool contains(const TypeSet& set, int type);

// The graph and the user's wishes, looked up once.
struct Context {
  Context(const Graph& graph, const Rules& rules, const PlacementOptions& options);

  const Graph& graph;
  const Rules& rules;
  const PlacementOptions& options;
  const Preset* preset;
  std::vector<NodeId> order;
  std::vector<int> position;                     // by node id
  std::vector<std::vector<Graph::Use>> uses;     // by value id
  std::vector<char> is_output, pinned, forbidden;  // by value id
  std::vector<char> ignored;                     // by node id
  std::map<NodeId, std::string> kept_float;      // nodes found to gain nothing as integers, with the reason (solve_gains.cpp)
  std::vector<std::string> type_names;

  TypeSet set_of(const std::vector<std::string>& names) const;      // integer types only
  std::vector<std::string> names_of(const TypeSet& set) const;
  std::string words_of(const TypeSet& set) const;                   // "u8 or s8"
  std::string label(NodeId node) const;                             // "Conv 'conv1'"

 private:
  void mark_values(const std::vector<std::string>& wanted, const char* what, std::vector<char>& marks);
  void mark_ignored();
  void check_narrowing() const;
};

struct OperandDraft {
  NodeId node = no_node;
  int slot = 0;
  std::string role;
  ValueId value = no_value;
  bool wanted = false;  // asks for a quantizer
  TypeSet types;        // over all configs
};

struct ConfigDraft {
  const OpConfig* config = nullptr;
  std::vector<TypeSet> operands;  // beside Draft::operands; empty: not wanted, or float
  TypeSet output;
  bool float_output = false;
};

struct Draft {
  std::vector<NodeId> members;
  const OpRule* rule = nullptr;
  std::string pattern;
  std::vector<OperandDraft> operands;
  std::vector<ConfigDraft> configs;  // in order of preference
  ValueId output = no_value;
  bool passthrough = false;          // input and output share a quantizer
  TypeSet output_types() const;
  bool float_output() const;
  TypeSet carried_types() const;     // passthrough: types that may go in and come out again
};

struct Drafts {
  std::vector<Draft> list;               // by position of the last member
  std::vector<int> draft_of;             // by node id; -1: float
  std::map<NodeId, std::string> reasons; // of float nodes
};

Drafts make_drafts(const Context& context);

// Decides which drafts run as integers, where their quantizers rest, and with which config. Grows context.kept_float.
Placement solve(Context& context);

}  // namespace quern::placing
