// L4: a plugin among things that go wrong, and what it leaves behind.
#include <fmt/format.h>
#include <malloc.h>

#include <chrono>

#include "core/base/error.hpp"
#include "core/plugin/abi_op.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

// A unit of this kernel that the plugin takes, with its tables and the contract's word.
struct Ready { Trial trial; Tensor expected; };
std::optional<Ready> ready(const Bench& b, const Variant& v, Source& s, Outcome& otherwise) {
  for (int64_t i = 0; i < 8; ++i) {
    Source one(mixed(s.seed() + static_cast<uint64_t>(i)));
    std::string why;
    auto t = find_trial(*b.rules, v, types_for(v, i), {}, one, &why);
    otherwise = {Verdict::skipped, why, v.name()};
    if (!t) continue;
    if (auto early = derive_tables(b.target(), b.profile, *t, true)) {
      otherwise = *early;
      if (early->verdict == Verdict::fail) return std::nullopt;
      continue;
    }
    Tensor expected = interpret(*t);
    return Ready{std::move(*t), std::move(expected)};
  }
  return std::nullopt;
}

Outcome failed(const Ready& r, std::string text) { return {Verdict::fail, std::move(text), r.trial.text()}; }
Outcome passed(const Ready& r) { return {Verdict::pass, "", r.trial.text()}; }

// Guard pages on either side, three fillings of everything that is not the plugin's to read, inputs and surroundings looked at.
Outcome memory(const Bench& b, const Ready& r) {
  std::optional<Tensor> first;
  for (const bool last : {false, true})
    for (const auto side : {Guarded::Side::end, Guarded::Side::begin})
      for (const unsigned char fill : {0x00, 0xFF, 0x7F}) {
        Conditions c;
        c.guarded = true;
        c.side = side;
        c.fill = fill;
        c.channels_last = last;
        const Ran ran = execute(b.target(), b.profile, r.trial, c);
        if (!ran.complaint.empty()) return failed(r, ran.complaint);
        if (!first) first = ran.output;
        // Unwritten elements hold the filling; what is read outside of the tensors differs with it.
        if (const std::string d = difference(*first, ran.output); !d.empty())
          return failed(r, "its output depends on what lies in unwritten or foreign memory (or part of it is never written): " + d);
      }
  return passed(r);
}

// The process as it is when the first case of this level begins, with the plugin loaded.
const ProcessState& at_begin() {
  static const ProcessState state = ProcessState::now();
  return state;
}

Outcome manners(const Bench& b, const Ready& r) {
  execute(b.target(), b.profile, r.trial);  // threads and pools that are made once are there now
  std::fflush(nullptr);
  const size_t written = output_written();
  const ProcessState before = ProcessState::now();
  const int64_t live = probe().live.load();
  {
    std::string reason;
    b.target().supports(b.profile, *r.trial.unit, &reason);
    b.target().derive(b.profile, *r.trial.unit);
    auto kernel = b.target().compile(b.profile, *r.trial.unit, r.trial.input_dims(), r.trial.unit->output.dims, 2);
    auto context = kernel->make_context();
  }
  execute(b.target(), b.profile, r.trial);
  // Once more by hand, without the kit's own scope that puts the mode back.
  const ProcessState after = ProcessState::now();
  const std::string quiet = ProcessState::list(after.settings_changed(at_begin()), after.counts_changed(before));
  std::string loud;
  {
    Trial t = r.trial;
    auto kernel = b.target().compile(b.profile, *t.unit, t.input_dims(), t.unit->output.dims, 1);
    auto context = kernel->make_context();
    std::vector<TensorView> inputs;
    std::vector<Dims> strides;
    strides.reserve(t.inputs.size() + 1);
    std::vector<std::vector<unsigned char>> memory;
    const auto layouts = kernel->input_layouts();
    for (size_t i = 0; i < t.inputs.size(); ++i) {
      strides.push_back(layouts.at(i) == QUERN_LAYOUT_CHANNELS_LAST ? channels_last_strides(t.inputs[i].dims()) : row_major_strides(t.inputs[i].dims()));
      memory.emplace_back(t.inputs[i].bytes() + 192);
      void* at = memory.back().data();
      size_t room = memory.back().size();
      at = std::align(64, t.inputs[i].bytes(), at, room);
      inputs.push_back({at, t.inputs[i].type(), t.inputs[i].dims(), strides.back()});
      copy(TensorView{const_cast<void*>(t.inputs[i].data()), t.inputs[i].type(), t.inputs[i].dims(), row_major_strides(t.inputs[i].dims())}, inputs.back());
    }
    Tensor out(t.unit->output.dtype, Dims{element_count(t.unit->output.dims) + 64});
    strides.push_back(kernel->output_layout() == QUERN_LAYOUT_CHANNELS_LAST ? channels_last_strides(t.unit->output.dims) : row_major_strides(t.unit->output.dims));
    const TensorView view{out.mutable_bytes(), t.unit->output.dtype, t.unit->output.dims, strides.back()};
    Tensor workspace(DType::u8, Dims{static_cast<int64_t>(kernel->workspace_bytes()) + 64});
    kernel->execute(*context, inputs, {&view, 1}, workspace.mutable_bytes());
    loud = ProcessState::now().settings_changed(at_begin());
  }
  if (!quiet.empty() || !loud.empty()) return failed(r, "it changes " + (quiet.empty() ? loud : quiet) + " of the process");
  std::fflush(nullptr);
  if (output_written() != written) return failed(r, "it writes to standard output or standard error");
  if (probe().live.load() != live) return failed(r, fmt::format("it keeps {} blocks of the host's memory after its objects are destroyed", probe().live.load() - live));
  return passed(r);
}

Outcome leaks(const Bench& b, const Ready& r) {
  const auto cycle = [&] {
    std::string reason;
    b.target().supports(b.profile, *r.trial.unit, &reason);
    b.target().derive(b.profile, *r.trial.unit);
    Prepared p(b.target(), b.profile, r.trial, 1);
    p.run(r.trial, {});
    p.run(r.trial, {});
  };
  constexpr int64_t times = 24;
  const auto grown = [&] {
    const auto before = static_cast<int64_t>(::mallinfo2().uordblks);
    for (int64_t i = 0; i < times; ++i) cycle();
    return static_cast<int64_t>(::mallinfo2().uordblks) - before;
  };
  for (int i = 0; i < 4; ++i) cycle();
  grown();
  const int64_t first = grown(), second = grown(), third = grown();
  // Caches grow once and stop; a leak goes on.
  if (std::min({first, second, third}) >= times * 16)
    return failed(r, fmt::format("memory grows by {} bytes with every unit that is derived, compiled, run and destroyed", std::min({first, second, third}) / times));
  return passed(r);
}

// Every allocation on the way fails once: what follows is an error or the right result, and then all works again.
Outcome short_of_memory(const Bench& b, const Ready& r) {
  const auto attempt = [&](int64_t fail_at, bool* any, std::string* wrong) {
    probe().failed = 0;
    probe().fail_at = fail_at;
    Tensor got;
    bool refused = false;
    try {
      const auto tables = b.target().derive(b.profile, *r.trial.unit);
      auto kernel = b.target().compile(b.profile, *r.trial.unit, r.trial.input_dims(), r.trial.unit->output.dims, 1);
      auto context = kernel->make_context();
      probe().fail_at = std::max<int64_t>(0, probe().fail_at);
    } catch (const Error& e) {
      refused = true;
      probe().fail_at = 0;
      if (e.message().empty()) *wrong = "it fails without a word";
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    probe().fail_at = 0;
    *any = probe().failed.load() > 0;
    (void)refused;
  };
  int64_t n = 1;
  for (int tries = 0; tries < 160; ++tries, n += n < 48 ? 1 : n / 8) {
    bool any = false;
    std::string wrong;
    attempt(n, &any, &wrong);
    if (!wrong.empty()) return failed(r, fmt::format("when allocation {} fails, {}", n, wrong));
    if (!any) break;
    if (tries % 8 == 0)
      if (const std::string d = difference(r.expected, execute(b.target(), b.profile, r.trial).output); !d.empty())
        return failed(r, fmt::format("after allocation {} failed once, the next run is wrong: {}", n, d));
  }
  // And inside of execute.
  Prepared p(b.target(), b.profile, r.trial, 1);
  p.run(r.trial, {});
  for (n = 1; n <= 32; ++n) {
    probe().failed = 0;
    probe().fail_at = n;
    std::string d;
    try {
      const Ran ran = p.run(r.trial, {});
      probe().fail_at = 0;
      d = difference(r.expected, ran.output);
    } catch (const Error&) {
    } catch (const std::bad_alloc&) {
    }
    probe().fail_at = 0;
    if (!d.empty()) return failed(r, fmt::format("when allocation {} of a run fails, it says all is well and its output is wrong: {}", n, d));
    if (probe().failed.load() == 0) break;
  }
  if (const std::string d = difference(r.expected, p.run(r.trial, {}).output); !d.empty()) return failed(r, "after a run short of memory, the next is wrong: " + d);
  return passed(r);
}

// The host's loop refuses, or the run is cancelled: an error, or the right result. Never a wrong one that is called well.
Outcome interrupted(const Bench& b, const Ready& r) {
  struct Calm { ~Calm() { probe().cancel = false; probe().refuse_parallel = false; } } calm;
  Prepared p(b.target(), b.profile, r.trial, 2);
  for (const bool cancel : {true, false}) {
    (cancel ? probe().cancel : probe().refuse_parallel) = true;
    const auto begin = std::chrono::steady_clock::now();
    std::string d;
    try {
      d = difference(r.expected, p.run(r.trial, {.threads = 2}).output);
    } catch (const Error& e) {
      if (e.message().empty()) return failed(r, "it stops without a word");
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    probe().cancel = probe().refuse_parallel = false;
    if (!d.empty())
      return failed(r, fmt::format("{}, it says all is well and its output is wrong: {}", cancel ? "cancelled" : "when the host's parallel_for fails", d));
    if (seconds > 2) return failed(r, fmt::format("it goes on for {:.1f} s after it was cancelled", seconds));
  }
  p.renew_context();
  if (const std::string d = difference(r.expected, p.run(r.trial, {}).output); !d.empty()) return failed(r, "after a run that was stopped, the next is wrong: " + d);
  return passed(r);
}

// Calls that make no sense are refused in words. Each is made on the table itself.
class Nonsense {
 public:
  Nonsense(const Bench& b, const Ready& r) : b_(b), r_(r), t_(b.subject.table()), host_(host_table(b.subject.manifest.id)) {}

  Outcome run() {
    static const std::string profile = "a-profile-that-nobody-has";
    const AbiOp op(*r_.trial.unit, r_.trial.input_dims(), r_.trial.unit->output.dims);
    quern_kernel* kernel = nullptr;
    if (auto f = expect(t_.compile(t_.self, str_of(profile), op.get(), 1, &kernel), fmt::format("compile for the profile '{}'", profile))) return destroy(kernel), *f;
    auto changed = [&](auto&& change) {
      Trial t = r_.trial;
      t.unit = std::make_shared<IntegerUnit>(*r_.trial.unit);
      change(*t.unit);
      return t;
    };
    const Trial unknown = changed([](IntegerUnit& u) {
      u.members.front().op = "NoSuchOperator";
      auto c = std::make_shared<Contract>(*u.contract);
      c->id = "no_such_contract";
      u.contract = c;
    });
    if (auto f = compile_of(unknown, "compile of an operator that there is not", true)) return *f;
    if (auto f = derive_of(unknown)) return *f;
    // Without its tables, or with tables of a wrong size, a kernel can't be right.
    for (const auto& [name, table] : r_.trial.unit->tables) {
      const std::string key = name;
      if (auto f = compile_of(changed([&](IntegerUnit& u) { u.tables.erase(key); }), fmt::format("compile without its table '{}'", key), false)) return *f;
      if (table.count() > 1 && table.rank() == 1)
        if (auto f = compile_of(changed([&](IntegerUnit& u) { u.tables[key] = Tensor(table.type(), {1}); }), fmt::format("compile with a table '{}' of one element", key), false)) return *f;
    }
    if (t_.extension) {
      static constexpr char name[] = "quern.no_such_thing/9";
      if (t_.extension(t_.self, {name, sizeof name - 1})) return failed(r_, "it has an extension that it can't know");
    }
    return passed(r_);
  }

 private:
  void destroy(quern_kernel* kernel) { if (kernel) t_.destroy_kernel(t_.self, kernel); }
  std::optional<Outcome> expect(quern_status* status, const std::string& what) {
    if (!status) return failed(r_, fmt::format("{} succeeds", what));
    const std::string text = text_of(host_->status_message(host_->self, status));
    host_->release_status(host_->self, status);
    if (text.empty()) return failed(r_, fmt::format("{} is refused without a word", what));
    return std::nullopt;
  }
  // `must`: has to be refused. Else it may succeed (a stage that the table is for does not apply, say), and then runs without a crash.
  std::optional<Outcome> compile_of(const Trial& t, const std::string& what, bool must) {
    const AbiOp op(*t.unit, t.input_dims(), t.unit->output.dims);
    quern_kernel* kernel = nullptr;
    quern_status* status = t_.compile(t_.self, str_of(b_.profile), op.get(), 1, &kernel);
    if (!status && !must) {
      destroy(kernel);
      try {
        Prepared(b_.target(), b_.profile, t, 1).run(t, {});
      } catch (const Error&) {  // in words, and later than it could
      }
      return std::nullopt;
    }
    auto f = expect(status, what);
    destroy(kernel);
    return f;
  }
  std::optional<Outcome> derive_of(const Trial& t) {
    const AbiOp op(*t.unit);
    std::map<std::string, Tensor> tables;
    auto sink = abi_struct<quern_table_sink>();
    const quern_host* host = host_;
    sink.self = const_cast<quern_host*>(host);
    sink.emit = [](void* self, quern_str, uint32_t, uint32_t, const int64_t*, const void*) -> quern_status* {
      static constexpr char full[] = "the host takes no more tables";
      auto* h = static_cast<quern_host*>(self);
      return h->make_status(h->self, QUERN_RESOURCE_EXHAUSTED, {full, sizeof full - 1});
    };
    quern_status* status = t_.derive(t_.self, str_of(b_.profile), op.get(), &sink);
    if (status) host_->release_status(host_->self, status);  // none: it emitted nothing
    // Of the true unit: a sink that refuses has to stop it.
    const AbiOp good(*r_.trial.unit);
    status = t_.derive(t_.self, str_of(b_.profile), good.get(), &sink);
    if (r_.trial.unit->tables.empty()) {
      if (status) host_->release_status(host_->self, status);
      return std::nullopt;
    }
    return expect(status, "derive into a sink that refuses");
  }

  const Bench& b_;
  const Ready& r_;
  const quern_target& t_;
  const quern_host* host_;
};

// Kernels that can be saved are the same after they are loaded again, and damaged ones are refused.
Outcome saved(const Bench& b, const Ready& r) {
  const auto& t = b.subject.table();
  if (!t.save_kernel || !t.load_kernel) return {Verdict::skipped, "it does not save kernels", r.trial.text()};
  const quern_host* host = host_table(b.subject.manifest.id);
  const AbiOp op(*r.trial.unit, r.trial.input_dims(), r.trial.unit->output.dims);
  quern_kernel* kernel = nullptr;
  throw_if_failed(t.compile(t.self, str_of(b.profile), op.get(), 1, &kernel), b.subject.manifest.id, "compile");
  std::string blob;
  auto sink = abi_struct<quern_blob_sink>();
  sink.self = &blob;
  sink.write = [](void* self, const void* data, uint64_t size) -> quern_status* {
    static_cast<std::string*>(self)->append(static_cast<const char*>(data), size);
    return nullptr;
  };
  quern_status* status = t.save_kernel(t.self, kernel, &sink);
  t.destroy_kernel(t.self, kernel);
  if (status) {
    const bool not_there = host->status_code(host->self, status) == QUERN_UNIMPLEMENTED;
    host->release_status(host->self, status);
    return not_there ? Outcome{Verdict::skipped, "it does not save this kernel", r.trial.text()} : failed(r, "it can't save a kernel that it has compiled");
  }
  const auto load = [&](const std::string& bytes) {
    kernel = nullptr;
    quern_status* s = t.load_kernel(t.self, bytes.data(), bytes.size(), &kernel);
    const bool ok = s == nullptr && kernel;
    if (s) host->release_status(host->self, s);
    if (kernel) t.destroy_kernel(t.self, kernel);
    return ok;
  };
  if (!load(blob)) return failed(r, "it can't load a kernel that it has saved");
  if (load("") || load(blob.substr(0, blob.size() / 2))) return failed(r, "it loads half a kernel");
  for (size_t i = 0; i < 16 && !blob.empty(); ++i) {
    std::string damaged = blob;
    damaged[i * blob.size() / 16] = static_cast<char>(damaged[i * blob.size() / 16] ^ 0x55);
    load(damaged);  // refused or not, but alive
  }
  return passed(r);
}

}  // namespace

void robustness_cases(const Bench& bench, std::vector<Case>& out) {
  at_begin();
  using Check = std::function<Outcome(const Bench&, const Ready&)>;
  const std::vector<std::pair<std::string, Check>> checks = {
      {"memory", memory}, {"manners", manners}, {"leaks", leaks}, {"out-of-memory", short_of_memory}, {"interrupted", interrupted},
      {"nonsense", [](const Bench& b, const Ready& r) { return Nonsense(b, r).run(); }}, {"saved", saved}};
  for (const auto& [name, check] : checks)
    for (const Variant& v : distinct_kernels(*bench.rules, false)) {
      const int count = name == "memory" ? 3 : 1;
      for (int i = 0; i < count; ++i)
        out.push_back({fmt::format("L4/{}/{}/{}{}", bench.profile, v.name(), name, count > 1 ? std::to_string(i) : ""), [bench, v, check](const Source& source) {
                         Source s = source;
                         Outcome otherwise;
                         const auto r = ready(bench, v, s, otherwise);
                         return r ? check(bench, *r) : otherwise;
                       }});
    }
}

}  // namespace quern::conform
