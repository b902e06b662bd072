// The float side of a case: the operator with seeded shapes and attributes inside of what the rules allow (or one of them just
// outside), and the followers of a fuse pattern. Constants are placeholders until numbers are drawn (trial.hpp).
#pragma once
#include <optional>

#include "core/graph/graph.hpp"
#include "sdk/conformance/source.hpp"
#include "sdk/conformance/variant.hpp"

namespace quern::conform {

// sweep: every size and attribute. arithmetic: plain geometry with room for many numbers: one tap or a small window a place.
// `depth`: products that make one sum in the arithmetic style.
enum class Style { sweep, arithmetic };
struct Frame { Style style = Style::sweep; const Beyond* beyond = nullptr; int64_t depth = 1; };

struct Drawing {
  Graph graph;
  std::vector<NodeId> members;
  ValueId output = no_value;
  struct Operand { std::string role; ValueId value = no_value; };
  std::vector<Operand> operands;  // with a role, in the order of members and slots
};

// Attributes as a generator would like them, brought within an entry's limits; the attribute that is to lie beyond is set so.
class Limits {
 public:
  // `bias_follows`: a step of the pattern brings the bias, so the operator has none of its own.
  Limits(const OpMatch& match, const Beyond* beyond, bool bias_follows) : match_(match), beyond_(beyond), bias_follows_(bias_follows) {}
  int64_t number(const std::string& name, int64_t wanted) const;
  float real(const std::string& name, float wanted) const;
  std::vector<int64_t> list(const std::string& name, std::vector<int64_t> wanted) const;
  std::string text(const std::string& name, const std::string& wanted) const;
  int64_t rank(const std::string& role, int64_t wanted, Source& source) const;
  bool constant(const std::string& role) const { return listed(match_.constant, role); }
  bool variable(const std::string& role) const { return listed(match_.variable, role); }
  bool absent(const std::string& role) const { return listed(match_.absent, role) || (bias_follows_ && role == "bias"); }
  bool limits(const std::string& name) const { return match_.attributes.count(name) != 0; }

 private:
  static bool listed(const std::vector<std::string>& roles, const std::string& role);
  const AttributeLimit* limit(const std::string& name) const;
  const Beyond* beyond(const std::string& name) const { return beyond_ && beyond_->attribute == name ? beyond_ : nullptr; }
  const OpMatch& match_;
  const Beyond* beyond_;
  bool bias_follows_;
};

// What a generator builds with.
struct Pencil {
  Graph& graph;
  Source& source;
  const Limits& limits;
  Frame frame;
  Node node;
  std::vector<ValueId> flowing = {};

  void input(const std::string& role, Dims dims);     // a tensor that flows
  void constant(const std::string& role, Dims dims);  // a float constant that numbers are drawn for
  void integers(const std::string& name, const std::vector<int64_t>& values);
  void floats(const std::string& name, Dims dims, const std::vector<float>& values);
  void absent() { node.inputs.push_back(no_value); }
  int64_t channels();        // 1..33, odd and prime ones among them
  bool sweeping() const { return frame.style == Style::sweep; }
};

// The operators that units can be drawn for; false for others. By family: windows, products, pairs, layouts, functions.
bool draw_window(Pencil& p);    // Conv, ConvTranspose, pools
bool draw_product(Pencil& p);   // Gemm, MatMul
bool draw_pair(Pencil& p);      // Add, ..., Concat, Reduce*, Resize
bool draw_layout(Pencil& p);    // Reshape, Slice, ...
bool draw_function(Pencil& p);  // Relu, Sigmoid, ...

// none: the operator is not known to the kit, or this seed gives no node that falls under the entry. `why` says which.
std::optional<Drawing> draw(const Rules& rules, const Variant& variant, const Frame& frame, Source& source, std::string* why);

}  // namespace quern::conform
