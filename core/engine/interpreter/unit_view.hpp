// What the interpreter needs to know of one unit at given shapes: which input carries which operand, the names that the
// contract's stages may use, and elements in and out as typed values.
#pragma once
#include <map>

#include "core/engine/provider.hpp"
#include "core/rules/unit.hpp"

namespace quern::interpreter {

// Names of a contract: derived tables, "<role>.scale", "<role>.zero_point", constant operands by role, "qmin", "qmax".
class UnitOperands : public StageOperands {
 public:
  explicit UnitOperands(const IntegerUnit& unit);
  const Tensor* table(const std::string& name) const override;
  bool present(const std::string& name) const override;

 private:
  const IntegerUnit& unit_;
  std::map<std::string, Tensor> made_;
};

// One operand that flows (not constant) at complete shapes.
struct Flowing {
  const UnitOperand* operand = nullptr;
  size_t input = 0;  // index into the kernel's inputs
  Dims dims;
};

struct UnitView {
  std::shared_ptr<const IntegerUnit> unit;
  std::vector<Flowing> flowing;  // in the order of the unit's operands
  Dims output_dims;

  UnitView(const KernelRequest& request);
  const Flowing* find(const std::string& role) const;
  const Contract& contract() const { return *unit->contract; }
  const UnitMember& main() const { return unit->members.front(); }
  // Stage list of a role ("in*" matches in0, in1, ...); empty when the contract has none.
  const std::vector<Stage>& pre_stages(const std::string& role) const;
  // The program of a role's pre-stages.
  StageProgram pre(const std::string& role, int64_t channels) const;
  // The program of the post-stages; tensor operands are `extra_roles()`.
  StageProgram post(int64_t channels) const;
  std::vector<std::string> extra_roles() const;  // roles named by "@role" in the post-stages and present in the unit
  [[noreturn]] void fail(const std::string& what) const;
};

// Element of a view as a typed value: integers as i64, f32 as float.
StageValue load(const TensorView& view, int64_t offset);
// The value into an element; integers must fit the type (Error(plugin) otherwise), kinds must agree.
void store(const TensorView& view, int64_t offset, const StageValue& value, const UnitView& unit);

// Extra operands of the post-stages ("@residual"), read at places of the output; size-1 axes broadcast.
class Extras {
 public:
  explicit Extras(const UnitView& view);
  bool empty() const { return roles_.empty(); }
  // Values at output coordinates `index` (full rank), channel for per-channel tables. `out` has count() elements.
  void read(std::span<const TensorView> inputs, std::span<const int64_t> index, int64_t channel, StageValue* out) const;
  size_t count() const { return roles_.size(); }

 private:
  struct One { size_t input; Dims dims; StageProgram pre; };
  std::vector<std::string> roles_;
  std::vector<One> ones_;
  size_t rank_;
};

std::unique_ptr<Kernel> make_dot(const UnitView& view);
std::unique_ptr<Kernel> make_product(const UnitView& view);  // the dot form whose weight flows too
std::unique_ptr<Kernel> make_pool(const UnitView& view);
std::unique_ptr<Kernel> make_elementwise2(const UnitView& view);
std::unique_ptr<Kernel> make_move(const UnitView& view, const KernelRequest& request);
std::unique_ptr<Kernel> make_resample(const UnitView& view);
std::unique_ptr<Kernel> make_reduce(const UnitView& view);

}  // namespace quern::interpreter
