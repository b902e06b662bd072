#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "core/base/error.hpp"
#include "core/numeric/contract.hpp"

namespace quern {
namespace {

constexpr std::array<std::string_view, 15> kind_names{"add",    "mul",    "shl_sat", "shr",    "clamp", "i2f32", "i2f16", "f32_f16",
                                                      "fadd32", "fmul32", "ffma32",  "fdiv32", "f2i",   "pwl",   "lut"};
constexpr int64_t int_min = std::numeric_limits<int64_t>::min(), int_max = std::numeric_limits<int64_t>::max();
constexpr float infinity = std::numeric_limits<float>::infinity();

enum class Type { integer, real, either };
Type input_of(StageKind k) {
  switch (k) {
    case StageKind::clamp: return Type::either;
    case StageKind::add: case StageKind::mul: case StageKind::shl_sat: case StageKind::shr: case StageKind::i2f32:
    case StageKind::i2f16: case StageKind::pwl: case StageKind::lut: return Type::integer;
    default: return Type::real;
  }
}

int64_t saturated(i128 v, int64_t low, int64_t high) {
  return v < low ? low : v > high ? high : static_cast<int64_t>(v);
}

}  // namespace

std::string_view name_of(StageKind kind) { return kind_names[static_cast<size_t>(kind)]; }

bool stage_kind_from_name(std::string_view name, StageKind& out) {
  for (size_t i = 0; i < kind_names.size(); ++i)
    if (kind_names[i] == name) { out = static_cast<StageKind>(i); return true; }
  return false;
}

void StageProgram::fail(int index, StageKind kind, const std::string& what) const {
  throw Error(ErrorCode::plugin, fmt::format("contract '{}', stage {} ({}): {}", contract_, index, name_of(kind), what));
}

// Resolves the names of one list; lives during construction only.
class StageCompiler {
 public:
  StageCompiler(StageProgram& program, const StageOperands& names, const std::vector<std::string>& roles, int64_t channels)
      : p_(program), names_(names), roles_(roles), channels_(channels) {}

  void compile(const std::vector<Stage>& stages) {
    std::vector<size_t> active;
    for (size_t i = 0; i < stages.size(); ++i)
      if (stages[i].when.empty() || names_.present(stages[i].when)) active.push_back(i);
    // The type of a leading clamp is that of the first stage with a type of its own.
    Type type = Type::either;
    for (size_t i : active)
      if ((type = input_of(stages[i].kind)) != Type::either) break;
    p_.wants_ = active.empty() || type == Type::either ? -1 : type == Type::real;
    for (size_t i : active) type = add(stages[i], static_cast<int>(i), type);
    p_.ends_float_ = type == Type::real;
  }

 private:
  using Operand = StageProgram::Operand;
  using Step = StageProgram::Step;

  [[noreturn]] void fail(const std::string& what) const { p_.fail(index_, kind_, what); }

  void needs(const StageOperand& o, const char* which) const {
    if (o.kind == StageOperand::Kind::none) fail(fmt::format("operand {} is missing", which));
  }

  const Tensor& find(const StageOperand& o) const {
    const Tensor* t = names_.table(o.name);
    if (!t) fail(fmt::format("there is no table '{}'; the target has to derive it", o.name));
    return *t;
  }

  Operand pooled(size_t start, size_t count, const std::string& name) const {
    if (count != 1 && static_cast<int64_t>(count) != channels_)
      fail(fmt::format("table '{}' has {} elements; 1 or {} (the channels) are wanted", name, count, channels_));
    Operand o;
    o.start = start;
    o.size = count;
    o.step = count == 1 ? 0 : 1;
    return o;
  }

  std::optional<Operand> flowing(const StageOperand& s) const {
    Operand o;
    o.negate = s.negate;
    if (s.kind == StageOperand::Kind::window_count) {
      o.from = Operand::From::window;
      return o;
    }
    if (s.kind != StageOperand::Kind::tensor) return {};
    const auto at = std::find(roles_.begin(), roles_.end(), s.name);
    if (at == roles_.end()) fail(fmt::format("there is no operand '{}' here", s.name));
    o.from = Operand::From::tensor;
    o.start = static_cast<size_t>(at - roles_.begin());
    return o;
  }

  std::vector<int64_t> integers(const Tensor& t, const std::string& name) const {
    if (is_float(t.type()) || t.type() == DType::string || t.type() == DType::u64)
      fail(fmt::format("table '{}' is {}; integers are wanted", name, name_of(t.type())));
    return t.to_ints();
  }

  Operand integer(const StageOperand& s, const char* which) {
    needs(s, which);
    if (auto o = flowing(s)) return *o;
    std::vector<int64_t> v;
    if (s.kind == StageOperand::Kind::table) v = integers(find(s), s.name);
    else if (s.kind == StageOperand::Kind::integer) v = {s.integer};
    else fail(fmt::format("operand {} is {}; an integer is wanted", which, s.real));
    for (int64_t& i : v) {
      if (!s.negate) continue;
      if (i == int_min) fail("the smallest integer has no negative");
      i = -i;
    }
    p_.ints_.insert(p_.ints_.end(), v.begin(), v.end());
    return pooled(p_.ints_.size() - v.size(), v.size(), s.name);
  }

  float exact(int64_t i, const char* which) const {
    const float f = to_float(i);
    if (to_integer(f, Round::half_even) != i) fail(fmt::format("operand {} is {}, which is not exact in f32", which, i));
    return f;
  }

  Operand real(const StageOperand& s, const char* which) {
    needs(s, which);
    if (auto o = flowing(s)) return *o;
    std::vector<float> v;
    if (s.kind == StageOperand::Kind::table) {
      const Tensor& t = find(s);
      if (t.type() == DType::f32) v = t.to_floats();
      else
        for (int64_t i : integers(t, s.name)) v.push_back(exact(i, which));
    } else if (s.kind == StageOperand::Kind::integer) {
      v = {exact(s.integer, which)};
    } else {
      v = {s.real};
    }
    if (s.negate)
      for (float& f : v) f = -f;
    p_.floats_.insert(p_.floats_.end(), v.begin(), v.end());
    return pooled(p_.floats_.size() - v.size(), v.size(), s.name);
  }

  StageOperand or_integer(const StageOperand& s, int64_t fallback) const {
    if (s.kind != StageOperand::Kind::none) return s;
    StageOperand o;
    o.kind = StageOperand::Kind::integer;
    o.integer = fallback;
    return o;
  }
  StageOperand or_real(const StageOperand& s, float fallback) const {
    if (s.kind != StageOperand::Kind::none) return s;
    StageOperand o;
    o.kind = StageOperand::Kind::real;
    o.real = fallback;
    return o;
  }

  bool fractional(const StageOperand& o) const {
    if (o.kind == StageOperand::Kind::table) return find(o).type() == DType::f32;
    return o.kind == StageOperand::Kind::real;
  }

  void check_shift(const Operand& o, int64_t low, int64_t high) const {
    if (o.from != Operand::From::pool) return;
    for (size_t i = 0; i < o.size; ++i) {
      const int64_t v = p_.ints_[o.start + i];
      if (v < low || v > high) fail(fmt::format("a shift by {}; {} to {} can be done", v, low, high));
    }
  }
  void check_limits(const Operand& a, const Operand& b, bool floats) const {
    if (a.from != Operand::From::pool || b.from != Operand::From::pool) return;
    for (size_t i = 0; i < std::max(a.size, b.size); ++i) {
      const size_t x = a.start + (a.step ? i : 0), y = b.start + (b.step ? i : 0);
      const bool wrong = floats ? !(p_.floats_[x] <= p_.floats_[y]) : p_.ints_[x] > p_.ints_[y];
      if (wrong) fail("the lower limit is above the upper one");
    }
  }

  void table_of_segments(Step& step, const StageOperand& s) {
    if (s.kind != StageOperand::Kind::table) fail("operand a has to be a table");
    const Tensor& t = find(s);
    if (t.type() != DType::s32 || t.rank() != 2 || t.dims()[1] != 3 || t.dims()[0] < 1)
      fail(fmt::format("table '{}' is {} {}; s32 [segments,3] is wanted", s.name, name_of(t.type()), to_string(t.dims())));
    const auto v = t.to_ints();
    for (size_t i = 3; i < v.size(); i += 3)
      if ((v[i] & ~int64_t{3}) <= (v[i - 3] & ~int64_t{3})) fail(fmt::format("the bases of table '{}' do not increase", s.name));
    step.a.start = p_.ints_.size();
    step.a.size = v.size() / 3;
    p_.ints_.insert(p_.ints_.end(), v.begin(), v.end());
  }

  Type table_of_values(Step& step, const Stage& s) {
    if (s.a.kind != StageOperand::Kind::table) fail("operand a has to be a table");
    const Tensor& t = find(s.a);
    if (t.count() < 1) fail(fmt::format("table '{}' is empty", s.a.name));
    step.floats = t.type() == DType::f32;
    step.a.size = static_cast<size_t>(t.count());
    if (step.floats) {
      step.a.start = p_.floats_.size();
      const auto v = t.to_floats();
      p_.floats_.insert(p_.floats_.end(), v.begin(), v.end());
    } else {
      const auto v = integers(t, s.a.name);
      step.a.start = p_.ints_.size();
      p_.ints_.insert(p_.ints_.end(), v.begin(), v.end());
    }
    step.b = integer(or_integer(s.b, 0), "b");
    return step.floats ? Type::real : Type::integer;
  }

  Type add(const Stage& s, int index, Type type) {
    index_ = index;
    kind_ = s.kind;
    if (s.width < 2 || s.width > 64) fail(fmt::format("a width of {} bits; 2 to 64 are possible", s.width));
    const Type wanted = input_of(s.kind);
    if (wanted != Type::either && type != Type::either && wanted != type)
      fail(wanted == Type::real ? "works on f32, but the value is an integer here" : "works on integers, but the value is f32 here");
    if (type == Type::either) type = wanted;
    Step step;
    step.kind = s.kind;
    step.round = s.round;
    step.index = index;
    step.high = s.width == 64 ? int_max : (int64_t{1} << (s.width - 1)) - 1;
    step.low = -step.high - 1;
    switch (s.kind) {
      case StageKind::add: case StageKind::mul: step.a = integer(s.a, "a"); break;
      case StageKind::shl_sat: step.a = integer(s.a, "a"); check_shift(step.a, 0, 63); break;
      case StageKind::shr: step.a = integer(s.a, "a"); check_shift(step.a, -63, 126); break;
      case StageKind::clamp:
        if (type == Type::either) {  // nothing but clamps: the limits decide
          type = fractional(s.a) || fractional(s.b) ? Type::real : Type::integer;
          p_.wants_ = type == Type::real;
        }
        step.floats = type == Type::real;
        step.a = step.floats ? real(or_real(s.a, -infinity), "a") : integer(or_integer(s.a, int_min), "a");
        step.b = step.floats ? real(or_real(s.b, infinity), "b") : integer(or_integer(s.b, int_max), "b");
        check_limits(step.a, step.b, step.floats);
        break;
      case StageKind::i2f32: case StageKind::i2f16: type = Type::real; break;
      case StageKind::f32_f16: break;
      case StageKind::fadd32: case StageKind::fmul32: case StageKind::fdiv32: step.a = real(s.a, "a"); break;
      case StageKind::ffma32: step.a = real(s.a, "a"); step.b = real(s.b, "b"); break;
      case StageKind::f2i:
        step.a = integer(or_integer(s.a, int_min), "low");
        step.b = integer(or_integer(s.b, int_max), "high");
        check_limits(step.a, step.b, false);
        type = Type::integer;
        break;
      case StageKind::pwl: table_of_segments(step, s.a); break;
      case StageKind::lut: type = table_of_values(step, s); break;
    }
    if (type == Type::real) { step.low = int_min; step.high = int_max; }
    p_.steps_.push_back(step);
    return type;
  }

  StageProgram& p_;
  const StageOperands& names_;
  const std::vector<std::string>& roles_;
  int64_t channels_;
  int index_ = 0;
  StageKind kind_ = StageKind::add;
};

StageProgram::StageProgram(const std::string& contract_id, const std::vector<Stage>& stages, const StageOperands& operands,
                           const std::vector<std::string>& roles, int64_t channels)
    : contract_(contract_id) {
  StageCompiler(*this, operands, roles, channels).compile(stages);
}

// Operands that are not in the pools: tensors and the window.
int64_t StageProgram::flowing_integer(const Operand& o, std::span<const StageValue> tensors, int64_t window, const Step& step) const {
  if (o.from == Operand::From::window) return o.negate ? -window : window;
  if (o.start >= tensors.size() || tensors[o.start].is_float) fail(step.index, step.kind, "the tensor operand is f32; an integer is wanted");
  const int64_t v = tensors[o.start].i;
  if (o.negate && v == int_min) fail(step.index, step.kind, "the smallest integer has no negative");
  return o.negate ? -v : v;
}

float StageProgram::flowing_real(const Operand& o, std::span<const StageValue> tensors, int64_t window, const Step& step) const {
  if (o.from == Operand::From::window) return o.negate ? -to_float(window) : to_float(window);
  if (o.start >= tensors.size() || !tensors[o.start].is_float) fail(step.index, step.kind, "the tensor operand is an integer; f32 is wanted");
  return o.negate ? -tensors[o.start].f : tensors[o.start].f;
}

void StageProgram::too_wide(const Step& step) const {
  const int width = step.high == int_max ? 64 : 65 - __builtin_clzll(static_cast<uint64_t>(step.high));
  fail(step.index, step.kind, fmt::format("the result leaves {} bits", width));
}

int64_t StageProgram::pwl(int64_t x, const Step& step) const {
  const int64_t* table = ints_.data() + step.a.start;
  const auto base = [&](size_t i) { return table[3 * i] & ~int64_t{3}; };
  if (x < base(0)) return table[2];
  size_t low = 0, high = step.a.size;  // base(low) <= x, x < base(high)
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (x < base(middle) ? high : low) = middle;
  }
  const int shift = 8 * (static_cast<int>(table[3 * low] & 3) + 1);
  const i128 y = table[3 * low + 2] + shift_right((static_cast<i128>(x) - base(low)) * table[3 * low + 1], shift, Round::floor);
  if (y < step.low || y > step.high) too_wide(step);
  return static_cast<int64_t>(y);
}

StageValue StageProgram::run(StageValue v, int64_t channel, std::span<const StageValue> tensors, int64_t window) const {
  if (steps_.empty()) return v;
  if (wants_ >= 0 && v.is_float != (wants_ == 1))
    fail(steps_[0].index, steps_[0].kind, wants_ ? "works on f32, but is given an integer" : "works on integers, but is given f32");
  const int64_t* const ints = ints_.data();
  const float* const floats = floats_.data();
  const auto whole = [&](const Operand& o, const Step& s) {
    if (o.from == Operand::From::pool) [[likely]] return ints[o.start + o.step * static_cast<size_t>(channel)];
    return flowing_integer(o, tensors, window, s);
  };
  const auto real = [&](const Operand& o, const Step& s) {
    if (o.from == Operand::From::pool) [[likely]] return floats[o.start + o.step * static_cast<size_t>(channel)];
    return flowing_real(o, tensors, window, s);
  };
  int64_t i = v.i;
  float f = v.f;
  // Sums, products and shifts of 64-bit integers: in 64 bits with the machine's overflow flag, which says the same as 128.
  for (const Step& s : steps_) {
    bool over = false;
    switch (s.kind) {
      case StageKind::add: over = __builtin_add_overflow(i, whole(s.a, s), &i); break;
      case StageKind::mul: over = __builtin_mul_overflow(i, whole(s.a, s), &i); break;
      case StageKind::shl_sat: {
        const int64_t by = whole(s.a, s);
        if (by < 0 || by > 63) fail(s.index, s.kind, fmt::format("a shift by {}; 0 to 63 can be done", by));
        i = saturated(static_cast<i128>(i) * (static_cast<i128>(1) << by), s.low, s.high);
        break;
      }
      case StageKind::shr: {
        const int64_t by = whole(s.a, s);
        if (by >= 0 && by <= 63) [[likely]] {
          i = shift_right64(i, static_cast<int>(by), s.round);
        } else if (by < -63 || by > 126) {
          fail(s.index, s.kind, fmt::format("a shift by {}; -63 to 126 can be done", by));
        } else if (by > 63) {
          i = static_cast<int64_t>(shift_right(i, static_cast<int>(by), s.round));
        } else {
          const i128 wide = static_cast<i128>(i) * (static_cast<i128>(1) << -by);
          i = static_cast<int64_t>(wide);
          over = wide != i;
        }
        break;
      }
      case StageKind::clamp:
        if (s.floats) {
          const float low = real(s.a, s), high = real(s.b, s);
          f = f < low ? low : f > high ? high : f;  // NaN stays
        } else {
          const int64_t low = whole(s.a, s), high = whole(s.b, s);
          i = i < low ? low : i > high ? high : i;
        }
        break;
      case StageKind::i2f32: f = to_float(i); break;
      case StageKind::i2f16: f = from_half(to_half(to_float(i))); break;
      case StageKind::f32_f16: f = from_half(to_half(f)); break;
      case StageKind::fadd32: f = f + real(s.a, s); break;
      case StageKind::fmul32: f = f * real(s.a, s); break;
      case StageKind::ffma32: f = std::fma(real(s.a, s), real(s.b, s), f); break;
      case StageKind::fdiv32: f = f / real(s.a, s); break;
      case StageKind::f2i: {
        const int64_t low = whole(s.a, s), high = whole(s.b, s);
        i = to_integer(f, s.round);
        i = i < low ? low : i > high ? high : i;
        break;
      }
      case StageKind::pwl: i = pwl(i, s); break;
      case StageKind::lut: {
        const i128 at = static_cast<i128>(i) - whole(s.b, s);
        if (at < 0 || at >= static_cast<i128>(s.a.size))
          fail(s.index, s.kind, fmt::format("the value {} is outside the table of {} entries", i, s.a.size));
        const size_t entry = s.a.start + static_cast<size_t>(at);
        if (s.floats) f = floats[entry];
        else i = ints[entry];
        break;
      }
    }
    // The width holds for integers; low and high are wide open after stages that make f32.
    if (over || i < s.low || i > s.high) [[unlikely]] too_wide(s);
  }
  return ends_float_ ? StageValue{true, 0, f} : StageValue{false, i, 0};
}

}  // namespace quern
