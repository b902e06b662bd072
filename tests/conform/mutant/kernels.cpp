#include "kernels.hpp"

#include "fault.hpp"

namespace mutant {

Params params_of(const quern_sdk::QuantView& q) {
  if (!q) throw Failure(QUERN_INVALID_ARGUMENT, "an operand without a quantizer");
  return {q.is_signed(), q.zero_point(), q.qmin(), q.qmax()};
}

Kernel::Kernel(const OpView& op, uint32_t threads) : name_(std::string(op.op())), threads_(threads), y_(params_of(op.output().quant())) {}

void Kernel::must_have(const OpView& op, const char* table, size_t elements, uint32_t dtype) {
  const quern_tensor* t = op.find_table(table);
  if (!t || t->dtype != dtype || static_cast<size_t>(quern_sdk::TensorView(*t).count()) != elements) {
    if (is("missing-table-crash")) return;
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the table '" + table + "' is missing or has another size");
  }
  const auto v = quern_sdk::TensorView(*t).values<const int32_t>();
  tables_.emplace_back(table, std::vector<int32_t>(v.begin(), v.end()));
}

int32_t Kernel::entry(const char* table, size_t channel) const {
  for (const auto& [name, values] : tables_)
    if (name == table) return values[values.size() == 1 ? 0 : channel];
  return *reinterpret_cast<const volatile int32_t*>(channel);  // never with must_have
}

int64_t shifted(int64_t v, int64_t by, Tie tie) {
  if (by <= 0) return by < -40 ? 0 : v * (int64_t{1} << -by);
  if (by > 62) return 0;
  const int64_t down = v >> by, rest = v - (down << by), half = int64_t{1} << (by - 1);
  if (is("floor")) return down;
  if (is("ceiling")) return down + (rest != 0);
  if (is("to-zero")) return down + (v < 0 && rest != 0);
  if (tie == Tie::even && is("even-as-up")) tie = Tie::up;
  if (tie == Tie::even && is("even-as-away")) tie = Tie::away;
  if (tie == Tie::even && is("even-as-down")) tie = Tie::down;
  if (tie == Tie::up && is("up-as-even")) tie = Tie::even;
  if (tie == Tie::away && is("away-as-up")) tie = Tie::up;
  if (rest != half) return down + (rest > half);
  switch (tie) {
    case Tie::even: return down + (down & 1);
    case Tie::up: return down + 1;
    case Tie::down: return down;
    case Tie::away: return down + (v >= 0);
  }
  return down;
}

int64_t clamped(int64_t v, int64_t low, int64_t high) {
  if (is("wraps")) return v;  // the store takes the low bits
  if (is("clamp-low-off")) low += 1;
  if (is("clamp-high-off")) high -= 1;
  return v < low ? low : v > high ? high : v;
}

}  // namespace mutant
