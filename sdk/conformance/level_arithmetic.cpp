// L2: the arithmetic, at the places where wrong arithmetic shows. Inputs hold every code; sums are steered through the bias: by
// bisection with the contract as oracle, the least bias is found for which an output reaches a code, and the plugin is asked there and
// one to either side. Whatever a contract rounds with, a tie taken the wrong way moves one of these places.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/integer/integer.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

class Sums {
 public:
  Sums(const Bench& b, Trial& t, const Source& s) : b_(b), t_(t), s_(s) {}

  // `rounds` of ties found by bisection, and all the rest; 0: the sums nearest to a tie alone.
  Outcome run(int rounds) {
    const UnitOperand* bias = t_.operand("bias");
    if (!bias || !bias->constant || bias->constant->type() != DType::s32 || t_.unit->contract->form != KernelForm::dot) return {};
    channels_ = bias->constant->count();
    const Dims& out = t_.unit->output.dims;
    const std::string& op = t_.unit->members.front().op;
    const bool conv = op == "Conv" || op == "ConvTranspose";
    axis_ = conv ? 1 : out.size() - 1;
    if (out.at(axis_) != channels_) return {};
    if (rounds == 0) {
      t_.unit->tables = b_.target().derive(b_.profile, *t_.unit);
      return near_ties();
    }
    Outcome o;
    for (int round = 0; round < rounds && o.verdict != Verdict::fail; ++round) o = ties(static_cast<uint64_t>(round));
    if (o.verdict != Verdict::fail) o = near_ties();
    if (o.verdict != Verdict::fail) o = powers();
    if (o.verdict != Verdict::fail) o = breakpoints();
    return o;
  }

 private:
  void set_bias(const std::vector<int64_t>& values) {
    std::vector<int32_t> v;
    for (const int64_t b : values) v.push_back(static_cast<int32_t>(std::clamp(b, -bias_limit, bias_limit)));
    UnitOperand* bias = t_.operand("bias");
    bias->constant = std::make_shared<const Tensor>(Tensor::of<int32_t>(bias->constant->dims(), v));
  }
  Outcome prove_with(const std::vector<int64_t>& values, const char* what) {
    set_bias(values);
    Outcome o = prove(b_.target(), b_.profile, t_, true);
    if (o.verdict == Verdict::fail) o.text += fmt::format(" ({})", what);
    return o;
  }

  // Value of the output at a place of channel c that the round chooses.
  std::vector<double> outputs(const std::vector<int64_t>& values, uint64_t round) {
    set_bias(values);
    t_.unit->tables = b_.target().derive(b_.profile, *t_.unit);
    const Tensor y = interpret(t_);
    const auto all = y.to_floats();
    const Dims strides = row_major_strides(y.dims());
    const int64_t places = y.count() / channels_;
    std::vector<double> out;
    for (int64_t c = 0; c < channels_; ++c) {
      auto place = static_cast<int64_t>(s_.noise(11 + round, static_cast<uint64_t>(c)) % static_cast<uint64_t>(places));
      int64_t at = c * strides[axis_];
      for (size_t a = y.dims().size(); a-- > 0;) {
        if (a == axis_) continue;
        at += place % y.dims()[a] * strides[a];
        place /= y.dims()[a];
      }
      out.push_back(all[static_cast<size_t>(at)]);
    }
    return out;
  }

  // The least bias for which each channel's place reaches a code of its own.
  Outcome ties(uint64_t round) {
    if (!t_.unit->output.params) return {};
    const QuantParams& p = *t_.unit->output.params;
    const auto n = static_cast<size_t>(channels_);
    std::vector<double> wanted;
    for (size_t c = 0; c < n; ++c) {
      const int64_t z = p.zero_point[0], codes[] = {p.format.qmin + 1, p.format.qmax, z, z + 1, z - 1};
      const int64_t code = c < 5 && round == 0 ? codes[c] : p.format.qmin + 1 + static_cast<int64_t>(s_.noise(23 + round, c) % static_cast<uint64_t>(p.format.levels() - 1));
      wanted.push_back(static_cast<double>(std::clamp(code, p.format.qmin + 1, p.format.qmax)));
    }
    std::vector<int64_t> low(n, -bias_limit), high(n, bias_limit);
    const auto at_low = outputs(low, round), at_high = outputs(high, round);
    for (size_t c = 0; c < n; ++c)
      if (at_low[c] >= wanted[c] || at_high[c] < wanted[c]) low[c] = high[c] - 1;  // never reached: this channel stays at the end
    while (true) {
      std::vector<int64_t> middle(n);
      bool done = true;
      for (size_t c = 0; c < n; ++c) {
        middle[c] = low[c] + (high[c] - low[c]) / 2;
        done = done && high[c] - low[c] <= 1;
      }
      if (done) break;
      const auto y = outputs(middle, round);
      for (size_t c = 0; c < n; ++c)
        if (high[c] - low[c] > 1) (y[c] >= wanted[c] ? high : low)[c] = middle[c];
    }
    Outcome o;
    for (const int64_t by : {0, -1, 1}) {
      auto at = high;
      for (auto& b : at) b += by;
      o = prove_with(at, by == 0 ? "the least sums that round to a code" : "one beside the least sums that round to a code");
      if (o.verdict == Verdict::fail) return o;
    }
    return o;
  }

  // Where a multiplication is followed by a rounding shift: the sums whose product lies on a tie, or as near to one as can be. Found by
  // the inverse of the multiplier modulo a power of two; no search and no chance would hit them.
  Outcome near_ties() {
    const auto& post = t_.unit->contract->post;
    for (size_t i = 0; i + 1 < post.size(); ++i) {
      if (post[i].kind != StageKind::mul || post[i + 1].kind != StageKind::shr) continue;
      std::vector<std::vector<int64_t>> sums(static_cast<size_t>(channels_));
      for (int64_t c = 0; c < channels_; ++c) sums[static_cast<size_t>(c)] = tie_sums(number(post[i].a, c), number(post[i + 1].a, c));
      for (size_t round = 0; round < 6; ++round) {
        std::vector<int64_t> at;
        for (const auto& list : sums) at.push_back(list.empty() ? 0 : list[round % list.size()]);
        const Outcome o = prove_with(at, "sums whose product with the multiplier is nearest to a tie");
        if (o.verdict == Verdict::fail) return o;
      }
    }
    return {};
  }
  // Sums s with s * m = 2^by / 2 + d modulo 2^by for the smallest d, as far as s * m / 2^by is a code of the output.
  std::vector<int64_t> tie_sums(int64_t m, int64_t by) const {
    std::vector<int64_t> sums;
    if (m <= 0 || by < 2 || by > 62 || !t_.unit->output.params) return sums;
    const double codes = static_cast<double>(t_.unit->output.params->format.levels()), most = codes * std::ldexp(1, static_cast<int>(by)) / static_cast<double>(m);
    while (m % 2 == 0 && by > 2) { m /= 2; --by; }
    const uint64_t mask = (uint64_t{1} << by) - 1;
    uint64_t inverse = 1;  // Newton's iteration: every step doubles the bits that are right
    for (int step = 0; step < 6; ++step) inverse *= 2 - static_cast<uint64_t>(m) * inverse;
    for (int64_t n = 0; n < 400 && sums.size() < 6; ++n) {
      const int64_t d = n % 2 ? -(n + 1) / 2 : n / 2;
      const auto sum = static_cast<int64_t>(((uint64_t{1} << (by - 1)) + static_cast<uint64_t>(d)) * inverse & mask);
      for (const int64_t s : {sum, sum - static_cast<int64_t>(mask) - 1})
        if (std::abs(static_cast<double>(s)) < most) sums.push_back(s);
    }
    return sums;
  }
  int64_t number(const StageOperand& o, int64_t channel) const {
    if (o.kind == StageOperand::Kind::integer) return o.integer;
    const auto table = t_.unit->tables.find(o.name);
    if (o.kind != StageOperand::Kind::table || table == t_.unit->tables.end() || table->second.count() == 0) return 0;
    const auto values = table->second.to_ints();
    const int64_t v = values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
    return o.negate ? -v : v;
  }

  Outcome powers() {
    Outcome o;
    for (const int64_t sign : {1, -1})
      for (const int64_t by : {-1, 0, 1}) {
        std::vector<int64_t> at(static_cast<size_t>(channels_));
        for (size_t c = 0; c < at.size(); ++c) at[c] = sign * ((int64_t{1} << (30 - c % 31)) + by);
        o = prove_with(at, "accumulators at a power of two and beside it");
        if (o.verdict == Verdict::fail) return o;
      }
    return o;
  }

  // Where a piecewise linear table changes from one piece to the next.
  Outcome breakpoints() {
    Outcome o;
    for (const Stage& stage : t_.unit->contract->post) {
      if (stage.kind != StageKind::pwl) continue;
      const auto table = t_.unit->tables.find(stage.a.name);
      if (table == t_.unit->tables.end() || table->second.rank() != 2) continue;
      const auto rows = table->second.to_ints();
      const size_t segments = rows.size() / 3;
      for (size_t first = 0; first < segments; first += static_cast<size_t>(channels_))
        for (const int64_t by : {-1, 0, 1}) {
          std::vector<int64_t> at;
          for (size_t c = 0; c < static_cast<size_t>(channels_); ++c) at.push_back((rows[3 * std::min(first + c, segments - 1)] & ~int64_t{3}) + by);
          o = prove_with(at, "sums at the breakpoints of its table");
          if (o.verdict == Verdict::fail) return o;
        }
    }
    return o;
  }

  const Bench& b_;
  Trial& t_;
  const Source& s_;
  int64_t channels_ = 0;
  size_t axis_ = 0;
};

bool multiplies_and_shifts(const Contract& c) {
  for (size_t i = 0; i + 1 < c.post.size(); ++i)
    if (c.post[i].kind == StageKind::mul && c.post[i + 1].kind == StageKind::shr) return true;
  return false;
}

Outcome arithmetic(const Bench& b, const Variant& v, int64_t index, int rounds, Source s) {
  std::string why;
  auto trial = find_trial(*b.rules, v, types_for(v, index), {Style::arithmetic, nullptr, 1}, s, &why);
  if (!trial) return {Verdict::skipped, why, v.name()};
  Outcome o = prove(b.target(), b.profile, *trial, true);
  if (o.verdict != Verdict::pass && o.verdict != Verdict::approximate) return o;
  const Outcome sums = Sums(b, *trial, s).run(rounds);
  if (sums.verdict == Verdict::fail || v.pattern || !multiplies_and_shifts(*trial->unit->contract)) return sums.verdict == Verdict::fail ? sums : o;
  // Few multipliers have a sum that is near to a tie and whose code is not at an end: more of them.
  for (uint64_t more = 1; more <= 12; ++more) {
    Source other(mixed(s.seed() + more));
    auto next = find_trial(*b.rules, v, types_for(v, index), {Style::arithmetic, nullptr, 1}, other, &why);
    if (!next || derive_tables(b.target(), b.profile, *next, true)) continue;
    const Outcome near = Sums(b, *next, other).run(0);
    if (near.verdict == Verdict::fail) return near;
  }
  return o;
}

Outcome deep(const Bench& b, const Variant& v, int64_t index, Source s) {
  Outcome last{Verdict::skipped, "no sum of a sensible length leaves this accumulator", v.name()};
  for (const int64_t depth : long_depths(b, v, index)) {
    std::string why;
    auto trial = long_trial(b, v, index, depth, s, &why);
    if (!trial) return {Verdict::skipped, why, v.name()};
    Outcome o = prove(b.target(), b.profile, *trial, true);
    if (o.verdict == Verdict::fail) return o;
    if (last.verdict == Verdict::skipped || o.verdict == Verdict::pass) last = o;
  }
  return last;
}

}  // namespace

void arithmetic_cases(const Bench& bench, std::vector<Case>& out) {
  const auto rules = bench.rules;
  for (const Variant& v : distinct_kernels(*rules, true)) {
    const KernelForm form = rules->contracts.at(v.config->contract)->form;
    const int count = v.pattern ? 3 : form == KernelForm::dot ? 8 : 6;
    for (int i = 0; i < count; ++i)
      out.push_back({fmt::format("L2/{}/{}/{}", bench.profile, v.name(), i),
                     [bench, v, i](const Source& s) { return arithmetic(bench, v, i, v.pattern ? 1 : 2, s); }});
    if (form != KernelForm::dot || v.pattern) continue;
    for (int i = 0; i < 2; ++i)
      out.push_back({fmt::format("L2/{}/{}/long{}", bench.profile, v.name(), i), [bench, v, i](const Source& s) { return deep(bench, v, i, s); }});
  }
}

}  // namespace quern::conform
