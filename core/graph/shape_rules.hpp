// Private to the graph room: what the shape rules are written with.
//
// A rule is a function from RuleScope (the node and what is known of its inputs) to its outputs. One file per family; a
// new operator is one more function and one more line in that file's add_..._rules(), which shapes.cpp calls.
//
//   Outputs cum_sum(const RuleScope& s) { return {s.like(0)}; }
#pragma once
#include <map>

#include "core/graph/shapes.hpp"

namespace quern::shape_rules {

using Outputs = std::vector<KnownTensor>;
using Ints = std::vector<int64_t>;
inline constexpr int64_t data_limit = 1024;  // elements; larger tensors are not evaluated with the shapes

class RuleScope {
 public:
  RuleScope(const Node& n, std::span<const KnownTensor> in) : node(n), in_(in) {}
  const Node& node;

  size_t count() const { return in_.size(); }
  bool given(size_t i) const { return i < in_.size() && (i >= node.inputs.size() || node.inputs[i] != no_value); }
  const KnownTensor& in(size_t i) const;       // Error when absent
  const Dims* dims(size_t i) const;            // null: absent or rank unknown
  DType dtype(size_t i) const { return given(i) ? in_[i].dtype : DType::undefined; }
  void need_rank(size_t i, int64_t low, int64_t high) const;  // when known
  // Integer data of an input (constant or computed from shapes), elements may be unknown_element.
  std::optional<Ints> ints(size_t i) const;
  // The same with every element known.
  std::optional<Ints> known_ints(size_t i) const;
  std::optional<std::vector<float>> floats(size_t i) const;  // of a constant
  // An axis attribute or value, made non-negative; Error when outside [-rank, rank + extra).
  int64_t axis(int64_t value, int64_t rank, int64_t extra = 0) const;
  // Axes of an attribute (older definitions) or of input `slot` (newer): none = not known, empty = absent.
  std::optional<Ints> axes(const std::string& key, size_t slot) const;

  KnownTensor like(size_t i) const { return {dtype(i), given(i) ? in_[i].dims : std::nullopt, nullptr, nullptr}; }
  static KnownTensor make(DType type, std::optional<Dims> dims) { return {type, std::move(dims), nullptr, nullptr}; }
  static KnownTensor make_data(DType type, Dims dims, const Ints& values);
  // Common type of inputs [from, to); Error when two known ones differ.
  DType same_type(size_t from, size_t to) const;
  [[noreturn]] void fail(const std::string& message) const;

 private:
  std::span<const KnownTensor> in_;
};

using Rule = Outputs (*)(const RuleScope&);
class RuleTable {
 public:
  void add(const std::string& op, Rule rule) { rules_.emplace(op, rule); }
  void add(std::initializer_list<const char*> ops, Rule rule) { for (auto op : ops) add(std::string(op), rule); }
  const std::map<std::string, Rule>& all() const { return rules_; }

 private:
  std::map<std::string, Rule> rules_;
};

// Integer elements with unknown ones: any unknown operand makes an unknown result.
inline bool known(int64_t v) { return v != unknown_element; }
inline int64_t product_or_unknown(std::span<const int64_t> dims) {
  int64_t n = 1;
  for (int64_t d : dims) {
    if (d < 0) return -1;
    if (d != 0 && n > (int64_t{1} << 62) / d) return -1;
    n *= d;
  }
  return n;
}

void add_elementwise_rules(RuleTable& table);
void add_window_rules(RuleTable& table);
void add_linear_rules(RuleTable& table);
void add_reduce_rules(RuleTable& table);
void add_layout_rules(RuleTable& table);
void add_select_rules(RuleTable& table);
void add_constant_rules(RuleTable& table);
void add_resize_rules(RuleTable& table);
void add_recurrent_rules(RuleTable& table);

}  // namespace quern::shape_rules
