// The contract: what one kernel of a target computes, exactly. Data only; core/rules reads it from JSON (the language is
// described in docs/rules.md), core/engine's interpreter executes it, and the package stores it.
//
// A kernel form gives the skeleton. Per output element:
//
//   dot          acc = init + sum over taps k of pre(input[k]) * pre(weight[k])          then post
//   pool_sum     acc = init + sum over the window of pre(input)                          then post
//   pool_max     the largest pre(input) of the window                                    then post
//   reduce       acc = init + sum over the reduced axes of pre(input)                    then post
//   elementwise2 v = combine(pre(a), pre(b))                                             then post
//   resample     acc = init + sum over taps of pre(input) times its weights, by tables       then post
//   move         v = pre(input i) at the place the operator takes it from                then post
//   table        v = pre(input)                                                          then post (lut, pwl)
//
// `pre` is the operand's own stage list. A value is typed: it starts as i64 (integer tensors) or f32 (float tensors) and
// i2f32 / f2i change it. dot's products are exact integers (i64 x i64) or f32 multiply-adds in the stated order.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/tensor.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {

enum class KernelForm { dot, pool_sum, pool_max, reduce, elementwise2, resample, move, table };
enum class Overflow { wrap, saturate, must_not };
enum class Combine { add, sub, mul, max, min, first, div };  // div: of floats

// Closed and versioned; a family that needs more gets a new stage in a new minor version of the rules.
enum class StageKind {
  add,      // i64: v + a
  mul,      // i64: v * a
  shl_sat,  // i64: v << a, saturated to `width` bits
  shr,      // i64: v / 2^a by `round`; a <= 0 shifts left
  clamp,    // i64 or f32: min(max(v, a), b)
  i2f32,    // i64 -> f32, round to nearest even
  i2f16,    // i64 -> f32 -> f16 values held as f32
  f32_f16,  // f32 rounded to the nearest f16 (held as f32)
  fadd32,   // f32: v + a
  fmul32,   // f32: v * a
  ffma32,   // f32: fma(a, b, v), one rounding
  fdiv32,   // f32: v / a
  f2i,      // f32 -> i64 by `round`, clamped to [lo, hi]; NaN -> 0
  pwl,      // i64: piecewise linear by a table (see PwlTable)
  lut,      // i64: table a [v - b] (b an integer, 0 when absent); an f32 table gives f32; outside the table is an error
};

// What a stage takes beside the value:
//   integer / real   a constant
//   table            a named array of the unit: 1 element for all, or one per output channel. Looked for among the derived
//                    tables, then among "<role>.scale", "<role>.zero_point", then constant operands by role ("bias")
//   tensor           another operand of the unit at the same place, after its own pre-stages ("residual")
//   window_count     number of elements of the pooling window (counted padding included where the operator says so)
struct StageOperand {
  enum class Kind { none, integer, real, table, tensor, window_count };
  Kind kind = Kind::none;
  int64_t integer = 0;
  float real = 0;
  std::string name;
  bool negate = false;  // JSON: "-input.zero_point"
};

struct Stage {
  StageKind kind = StageKind::add;
  StageOperand a, b;
  Round round = Round::half_even;
  int width = 64;          // bits of the i64 result; shl_sat and clamp saturate, any other stage that leaves it is an error
  std::string when;        // the stage applies only if the unit has this operand role or table; "" = always
};

struct Accumulator {
  int bits = 32;
  bool is_signed = true;
  Overflow overflow = Overflow::must_not;
  bool ordered = false;        // true: taps in the order ic, then kernel axes (weight layout [oc][ic][k...]); false: free
  int64_t saturate_every = 0;  // with saturate: after every N products; 0: once at the end
  std::string init;            // "" = zero, else table or operand role ("bias")
  bool pad_with_zero_point = true;  // false: padding is the integer 0
};

struct OperandRule { std::string role; std::vector<Stage> pre; };

struct Contract {
  std::string id;
  KernelForm form = KernelForm::dot;
  Accumulator acc;
  std::vector<OperandRule> operands;  // roles not listed have no pre-stages; "in*" matches in0, in1, ...
  Combine combine = Combine::add;
  std::vector<Stage> post;
  bool exact = true;                  // false: badge "approximate", never hardware-true
  double max_error_lsb = 0;           // stated when not exact
};

// pwl, GNA-like: segment i holds for x >= x_base[i] with its two low bits cleared; those bits are a shift code 0..3 -> 8,
// 16, 24, 32. y = y_base[i] + ((x - x_base[i]) * slope[i] >> shift), the shift rounding down; left of the first segment:
// y_base[0]. One table (operand a) of s32, shape [segments, 3], rows {x_base, slope, y_base}, x_base increasing.

// The value of the stage machine.
struct StageValue {
  bool is_float = false;
  int64_t i = 0;
  float f = 0;
};

// Resolves names for one unit; the interpreter implements it.
struct StageOperands {
  virtual ~StageOperands() = default;
  virtual const Tensor* table(const std::string& name) const = 0;   // null: there is none
  virtual bool present(const std::string& name) const = 0;          // for `when`
};

// A stage list made ready for one unit: names resolved once, then run per element.
class StageProgram {
 public:
  // `roles`: operand roles that a `tensor` operand may name, in the order of `tensors` in run().
  // Throws Error(plugin) naming the contract and the stage when a table is missing or has a wrong type or size.
  StageProgram(const std::string& contract_id, const std::vector<Stage>& stages, const StageOperands& operands,
               const std::vector<std::string>& roles, int64_t channels);
  // `channel`: index of per-channel tables; `tensors`: values of the other operands; `window`: window_count.
  StageValue run(StageValue v, int64_t channel, std::span<const StageValue> tensors = {}, int64_t window = 0) const;
  bool empty() const { return steps_.empty(); }

 private:
  // Where an operand's value comes from: a pool (pool[start], or pool[start + channel] when step is 1), a tensor, the window.
  struct Operand {
    enum class From : uint8_t { pool, tensor, window } from = From::pool;
    bool negate = false;
    uint32_t step = 0;
    size_t start = 0, size = 1;  // in ints_ or floats_, or index of the tensor
  };
  struct Step {
    StageKind kind = StageKind::add;
    Round round = Round::half_even;
    bool floats = false;        // clamp and lut: on, or to, f32
    int index = 0;              // in the contract's list, for messages
    int64_t low = 0, high = 0;  // what the width holds
    Operand a, b;
  };
  int64_t flowing_integer(const Operand& o, std::span<const StageValue> tensors, int64_t window, const Step& step) const;
  float flowing_real(const Operand& o, std::span<const StageValue> tensors, int64_t window, const Step& step) const;
  int64_t pwl(int64_t x, const Step& step) const;
  [[noreturn]] void too_wide(const Step& step) const;
  [[noreturn]] void fail(int index, StageKind kind, const std::string& what) const;
  friend class StageCompiler;

  std::string contract_;
  std::vector<Step> steps_;
  std::vector<int64_t> ints_;
  std::vector<float> floats_;
  int wants_ = -1;  // of the first value: 0 i64, 1 f32, -1 either
  bool ends_float_ = false;
};

std::string_view name_of(StageKind kind);
bool stage_kind_from_name(std::string_view name, StageKind& out);

}  // namespace quern
