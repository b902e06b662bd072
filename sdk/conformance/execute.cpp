#include "sdk/conformance/execute.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.hpp"

namespace quern::conform {
namespace {

constexpr size_t page = 4096;

// Memory of one tensor or of the workspace, plain or between guard pages.
class Memory {
 public:
  Memory(const std::string& what, size_t bytes, size_t tail, const Conditions& c) {
    if (c.guarded) {
      guarded_ = std::make_unique<Guarded>(what, bytes, tail, c.side, c.fill);
      return;
    }
    // Room beside the bytes, as much again as they are: going outside is found under guard, not here.
    const size_t margin = (bytes / page + 1) * page, total = (2 * margin + c.offset + bytes + 64 + page - 1) / page * page;
    plain_.reset(static_cast<unsigned char*>(std::aligned_alloc(page, total)));
    if (!plain_) throw std::bad_alloc();
    std::fill_n(plain_.get(), total, c.fill);
    data_ = plain_.get() + margin + c.offset;
  }
  void* data() const { return guarded_ ? guarded_->data() : data_; }
  bool untouched_around() const { return !guarded_ || guarded_->untouched_around(); }

 private:
  struct Free { void operator()(unsigned char* p) const { std::free(p); } };
  std::unique_ptr<Guarded> guarded_;
  std::unique_ptr<unsigned char, Free> plain_;
  unsigned char* data_ = nullptr;
};

struct Placed { std::unique_ptr<Memory> memory; Dims dims, strides; DType type; TensorView view() const { return {memory->data(), type, dims, strides}; } };

Dims strides_for(uint32_t layout, const Dims& dims, bool any_last) {
  const bool last = layout == QUERN_LAYOUT_CHANNELS_LAST || (layout == QUERN_LAYOUT_ANY && any_last);
  return last ? channels_last_strides(dims) : row_major_strides(dims);
}

// Names that a contract's stages, its accumulator and its form look up.
std::set<std::string> names_of(const Contract& c) {
  std::set<std::string> names{c.acc.init};
  const auto note = [&](const std::vector<Stage>& stages) {
    for (const Stage& s : stages) names.insert({s.a.name, s.b.name, s.when});
  };
  for (const auto& o : c.operands) note(o.pre);
  note(c.post);
  return names;
}

// "in0_shift" is what a contract calls "in*_shift"; taps_2 and weights_2 are places of a resample.
bool known_table(const Contract& c, const std::set<std::string>& names, const std::string& table) {
  if (names.count(table)) return true;
  const size_t end = table.compare(0, 2, "in") == 0 ? table.find_first_not_of("0123456789", 2) : 0;
  if (end != std::string::npos && end > 2 && names.count("in*" + table.substr(end))) return true;
  return c.form == KernelForm::resample && (table.rfind("taps_", 0) == 0 || table.rfind("weights_", 0) == 0);
}

Outcome failure(const Trial& t, std::string text) { return {Verdict::fail, std::move(text), t.text()}; }

}  // namespace

Prepared::Prepared(const Target& target, const std::string& profile, const Trial& trial, int threads)
    : kernel_(target.compile(profile, *trial.unit, trial.input_dims(), trial.unit->output.dims, threads)), context_(kernel_->make_context()) {}

void Prepared::renew_context() { context_ = kernel_->make_context(); }

Ran Prepared::run(const Trial& trial, const Conditions& c) {
  std::vector<Placed> inputs;
  const auto layouts = kernel_->input_layouts();
  const auto& unit = *trial.unit;
  const size_t rank = unit.output.dims.size();
  bool output_last = c.channels_last;
  bool matched = false;
  for (size_t i = 0; i < trial.inputs.size(); ++i) {
    const Tensor& t = trial.inputs[i];
    Placed p{nullptr, t.dims(), {}, t.type()};
    p.strides = strides_for(layouts.at(i), p.dims, c.channels_last);
    if (!matched && p.dims.size() == rank) {
      output_last = layouts[i] == QUERN_LAYOUT_CHANNELS_LAST || (layouts[i] == QUERN_LAYOUT_ANY && c.channels_last);
      matched = true;
    }
    p.memory = std::make_unique<Memory>(fmt::format("input '{}'", trial.flowing(i).role), t.bytes(), 64, c);
    copy(TensorView{const_cast<void*>(t.data()), t.type(), t.dims(), row_major_strides(t.dims())}, p.view());
    inputs.push_back(std::move(p));
  }
  Placed out{nullptr, unit.output.dims, strides_for(kernel_->output_layout(), unit.output.dims, output_last), unit.output.dtype};
  const size_t bytes = static_cast<size_t>(element_count(out.dims)) * size_of(out.type);
  out.memory = std::make_unique<Memory>("output", bytes, 64, c);
  const auto size = static_cast<size_t>(kernel_->workspace_bytes());
  std::optional<Memory> workspace;
  if (size > 0) workspace.emplace("workspace", size, 0, c);

  std::vector<TensorView> views;
  for (const auto& p : inputs) views.push_back(p.view());
  const TensorView result = out.view();
  Ran ran;
  {
    const KeepMode mode;
    kernel_->execute(*context_, views, {&result, 1}, workspace ? workspace->data() : nullptr);
    ran.saturations = kernel_->saturations(*context_);
  }
  ran.output = Tensor(out.type, out.dims);
  copy(result, TensorView{ran.output.mutable_bytes(), out.type, ran.output.dims(), row_major_strides(out.dims)});
  if (!c.guarded) return ran;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor after(inputs[i].type, inputs[i].dims);
    copy(inputs[i].view(), TensorView{after.mutable_bytes(), after.type(), after.dims(), row_major_strides(after.dims())});
    if (std::memcmp(after.data(), trial.inputs[i].data(), after.bytes()) != 0 || !inputs[i].memory->untouched_around())
      ran.complaint = fmt::format("it writes to its input '{}'", trial.flowing(i).role);
  }
  if (!out.memory->untouched_around()) ran.complaint = "it writes beside its output";
  if (workspace && !workspace->untouched_around()) ran.complaint = "it writes beside its workspace";
  return ran;
}

Ran execute(const Target& target, const std::string& profile, const Trial& trial, const Conditions& c) {
  return Prepared(target, profile, trial, c.threads).run(trial, c);
}

std::string difference(const Tensor& expected, const Tensor& got, double* largest) {
  if (largest) *largest = 0;
  if (expected.type() != got.type() || expected.dims() != got.dims())
    return fmt::format("{} {} where the contract gives {} {}", name_of(got.type()), to_string(got.dims()), name_of(expected.type()), to_string(expected.dims()));
  const size_t size = size_of(got.type());
  std::string first;
  int64_t count = 0;
  std::vector<float> e, g;
  for (int64_t i = 0; i < got.count(); ++i) {
    const auto at = static_cast<size_t>(i);
    if (std::memcmp(static_cast<const char*>(expected.data()) + at * size, static_cast<const char*>(got.data()) + at * size, size) == 0) continue;
    if (e.empty()) e = expected.to_floats(), g = got.to_floats();
    const double apart = std::abs(static_cast<double>(e[at]) - g[at]);
    if (largest) *largest = std::max(*largest, std::isnan(apart) ? 1e30 : apart);
    if (++count > 1) continue;
    Dims index;
    int64_t rest = i;
    for (size_t a = got.dims().size(); a-- > 0;) { index.insert(index.begin(), rest % got.dims()[a]); rest /= got.dims()[a]; }
    first = fmt::format("element {}: contract {}, plugin {}", to_string(index), e[at], g[at]);
  }
  return count == 0 ? "" : fmt::format("{} of {} elements differ; {}", count, got.count(), first);
}

std::optional<Outcome> derive_tables(const Target& target, const std::string& profile, Trial& trial, bool offered) {
  std::string reason;
  trial.unit->tables.clear();
  try {
    if (!target.supports(profile, *trial.unit, &reason)) {
      if (reason.empty()) return failure(trial, "it refuses this unit without a reason");
      return Outcome{Verdict::refused, reason, trial.text()};
    }
  } catch (const Error& e) {
    return failure(trial, fmt::format("asked whether it supports this unit, it fails: {}", e.what()));
  }
  try {
    const KeepMode mode;
    trial.unit->tables = target.derive(profile, *trial.unit);
  } catch (const Error& e) {
    if (!offered) return Outcome{Verdict::refused, e.what(), trial.text()};
    return failure(trial, fmt::format("it says it supports this unit, and does not derive its tables: {}", e.what()));
  }
  const auto names = names_of(*trial.unit->contract);
  for (const auto& [name, table] : trial.unit->tables)
    if (!known_table(*trial.unit->contract, names, name))
      return failure(trial, fmt::format("it derives a table '{}', which the contract '{}' does not name", name, trial.unit->contract->id));
  return std::nullopt;
}

Outcome prove(const Target& target, const std::string& profile, Trial& trial, bool offered, const Conditions& conditions) {
  if (auto early = derive_tables(target, profile, trial, offered)) return *early;
  Tensor expected;
  std::string contract_fails;
  try {
    expected = interpret(trial);
  } catch (const Error& e) {
    contract_fails = e.what();
    if (offered) return failure(trial, fmt::format("its contract does not compute what its rules and `supports` allow: {}", contract_fails));
  }
  Ran ran;
  try {
    ran = execute(target, profile, trial, conditions);
  } catch (const Error& e) {
    if (!offered) return {Verdict::refused, e.what(), trial.text()};
    return failure(trial, fmt::format("it says it supports this unit, and does not run it: {}", e.what()));
  }
  if (!contract_fails.empty())
    return failure(trial, fmt::format("it takes a unit outside of its rules that its contract can't compute: {}", contract_fails));
  if (!ran.complaint.empty()) return failure(trial, ran.complaint);
  double largest = 0;
  const std::string differs = difference(expected, ran.output, &largest);
  if (differs.empty()) return {trial.unit->contract->exact ? Verdict::pass : Verdict::approximate, "", trial.text()};
  if (!trial.unit->contract->exact && largest <= trial.unit->contract->max_error_lsb) return {Verdict::approximate, differs, trial.text()};
  return failure(trial, differs);
}

}  // namespace quern::conform
