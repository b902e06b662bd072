// The solver behind place(): demands travel up (solve_demands.cpp), what would be rounded for nothing is sorted out
// (solve_gains.cpp), decisions travel down (solve.cpp). Private to core/placement.
#pragma once
#include "core/placement/draft.hpp"

namespace quern::placing {

struct Demand {
  NodeId node = no_node;
  int slot = 0;
  TypeSet types;
  int axis = -1;          // of weights
  int draft = -1;         // whose wish it is at bottom
  size_t operand = 0;
  int others = 0;         // further consumers behind the same passthrough operators
  NodeId moved = no_node; // the first passthrough operator it moved up through
  int moves = 0;
};

struct Merged { TypeSet types; std::vector<size_t> main, rest; };

// A quantizer in the making; sets are kept at the root of its tie.
struct Slot {
  ValueId value = no_value;
  NodeId consumer = no_node;
  int slot = -1;
  TypeSet types;
  int parent = -1;  // union-find
  int axis = -1;
  std::string reason;
  bool tied = false;
};

// Sums, products, functions and means: each element costs about as much in float.
inline bool is_small(KernelForm form) { return form == KernelForm::elementwise2 || form == KernelForm::table || form == KernelForm::reduce; }

// Rounds of looking for what gains nothing: two or three are usual, the bound is for graphs made to hurt.
constexpr int most_rounds = 32;

class Solver {
 public:
  Solver(const Context& c, Drafts drafts);

  void decide_all();
  // After decide_all(): nodes that would better be no units, with the reason.
  std::map<NodeId, std::string> gains_of_floats() const;
  Placement finish();

 private:
  struct State {
    bool integer = false;
    TypeSet output;         // of its output quantizer; empty: writes floats (or shares its input's)
    bool demands_fit = false;  // the consumers' merged set is part of `output`
    int output_quantizer = -1;
    const OpConfig* config = nullptr;
    std::string reason;
  };

  const Draft& draft(int d) const { return drafts_.list[static_cast<size_t>(d)]; }
  State& state(int d) { return state_[static_cast<size_t>(d)]; }

  // ---- backward --------------------------------------------------------------------------------------------------
  // Uses of v's data that want floats, and v's being an output of the model.
  bool has_float_use(ValueId v) const;
  Merged merge(ValueId v) const;  // the largest group of demands at v that has a type in common
  // Where no integer consumer reads it: its operands would be rounded to 8 bits only for a float node (the sum of two products
  // before a gate), or for a copy (states that go to the caller in a Concat).
  bool gains_nothing(const Draft& draft) const;
  void decide(int index);  // whether the draft that ends a chain runs as integers
  int axis_of(const OperandDraft& o) const;
  void give_up(int index, const std::string& reason);
  bool makes_integers(int index) const { return makes_integers_[static_cast<size_t>(index)] != 0; }
  int maker_of(ValueId v) const;             // the draft that writes v, or -1
  KernelForm form_of(const Draft& d) const;  // of its preferred config
  bool serves_floats_alone(int index) const;
  void decide_passthrough(int index);

  // ---- gains -----------------------------------------------------------------------------------------------------
  // A small unit, or the sum behind a dot with the operand that it adds: what could stay float by itself.
  struct Candidate { std::vector<NodeId> nodes; std::vector<ValueId> operands; ValueId near = no_value; };
  struct Readers { bool floats = false, integers = false; };  // of a value, or of what moves make of it; candidates don't count
  bool is_move(int index) const { return index >= 0 && draft(index).passthrough && state_[static_cast<size_t>(index)].integer; }
  bool writes_floats(int maker) const;
  std::vector<Candidate> candidates() const;
  std::vector<Readers> readers(const std::vector<Candidate>& all) const;
  ValueId before_moves(ValueId v) const;  // where a quantizer of v would rest
  bool can_stay_float(Candidate& c, const std::vector<Readers>& readers) const;

  // ---- forward ---------------------------------------------------------------------------------------------------
  // A new quantizer; `consumer` and `slot` when it is for one use only.
  int make(ValueId v, TypeSet types, std::string reason, NodeId consumer = no_node, int slot = -1);
  int find(int q);
  TypeSet& types_of(int q) { return slots_[static_cast<size_t>(find(q))].types; }
  std::string wish(const Demand& d) const;
  std::string wishes(ValueId v, const std::vector<size_t>& which) const;
  void give(ValueId v, const std::vector<size_t>& which, int q);
  void branch(ValueId v, const std::vector<size_t>& which);

  // Demands come to rest at a value that no unit writes as integers: one quantizer for those that agree.
  void rest_at(ValueId v);
  void settle(int index);  // quantizers at the output of a draft

  // A use that takes a type of q uses q (and narrows it); another requantizes.
  void share_or_branch(ValueId v, size_t which, int q);
  void settle_passthrough(int index);

  // ---- ties and configs ------------------------------------------------------------------------------------------
  bool unite(int a, int b);
  void tie(int index);

  // The first config (in order of preference) that the narrowed sets allow; else the one that fails at the fewest
  // operands, which then requantize.
  void choose_config(int index);
  void check_pins() const;

  // ---- the result ------------------------------------------------------------------------------------------------
  Placement collect();
  std::string unit_reason(const Draft& d, const State& s) const;

  const Context& c_;
  const Graph& g_;
  Drafts drafts_;
  std::vector<std::vector<Demand>> demands_;  // by value
  std::vector<State> state_;                  // by draft
  std::vector<char> makes_integers_;          // by draft: a unit that can write integers, or a move behind such
  std::vector<int> last_of_;                  // by node: the draft that ends there
  std::vector<int> main_, carried_;           // by value: its quantizer; the one it comes as integers in
  std::vector<Slot> slots_;
  std::map<std::pair<NodeId, int>, int> use_;
};

}  // namespace quern::placing
