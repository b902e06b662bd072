// Private to the graph room: recognising an operator that an exporter has written in several nodes.
//
// A Match goes up from the last node of the pattern and takes in the nodes it meets. It reads arithmetic, not spellings: a
// polynomial of x, or "a number times a product of factors", whatever the order of nodes and operands, so that one question
// covers the ways in which exporters write the same thing. What it has taken in is replaced only where `closed()` says
// that nobody else sees a value between its nodes; looking is free of side effects.
//
//   Match m(edit, id);                                     // a Mul
//   ...                                                    // m.take(v, "Sigmoid"), m.polynomial(v, x)
//   if (m.closed()) m.become("Swish", 24, {x}, {{"alpha", 1.0F}});
#pragma once
#include <array>

#include "core/graph/editor.hpp"

namespace quern {

// v = s * inner + t, by numbers.
struct Affine { ValueId inner = no_value; double s = 1, t = 0; };
// v = number * the product of the factors.
struct Product { double number = 1; std::vector<ValueId> factors; };

class Match {
 public:
  Match(GraphEditor& edit, NodeId last) : edit_(edit), g_(edit.graph), members_{last} {}

  const Node& last() const { return g_.node(members_.front()); }
  // The node that makes v, taken in; null when it is another operator (or v a constant, an input, one of several outputs).
  const Node* take(ValueId v, const char* op);
  const Node* maker(ValueId v) const;  // the same for any operator, not taken in
  void add(const Node& node);

  // A constant all of whose elements are this number.
  std::optional<double> number(ValueId v) const;
  std::optional<double> exponent(ValueId v) const;  // the same of a Pow, which may be an integer
  // v as a polynomial of x up to the third degree: Add, Sub, Mul, Div and Pow by numbers, Neg. Takes in what it is made of.
  using Polynomial = std::array<double, 4>;
  std::optional<Polynomial> polynomial(ValueId v, ValueId x, int depth = 10);
  // Down through nodes that add or multiply by a number, as long as the pattern alone sees what lies between.
  Affine affine(ValueId v);
  // The factors of a Mul or Div, through Muls and Divs that the pattern alone sees.
  Product product(const Node& node, int depth = 4);

  // Undo: everything taken in since.
  size_t mark() const { return members_.size(); }
  void back(size_t mark) { members_.resize(mark); }

  // Nothing between the members is used outside, or is an output.
  bool closed() const;
  // The last node's result has the type and the shape of x (no constant has stretched it).
  bool same_shape(ValueId x) const;
  // The last node becomes this operator, keeps its name and output, and stands for all members.
  void become(const std::string& op, int since_version, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {});
  ValueId constant(const char* what, Tensor tensor);  // named after the last node
  GraphEditor& edit() { return edit_; }

 private:
  bool inside(ValueId v) const;  // only members use it
  NodeId id_of(const Node& node) const { return g_.value(node.outputs[0]).producer; }

  GraphEditor& edit_;
  Graph& g_;
  std::vector<NodeId> members_;  // the last node first
};

// Equal up to what constants lose on their way through float32 and printed digits.
bool near(double a, double b);
// `number` in the type of v (f32 or f64), a scalar.
Tensor scalar_like(const Value& v, double number);

}  // namespace quern
