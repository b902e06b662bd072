#include "core/plugin/remote/target.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cmath>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/plugin/host.hpp"
#include "core/plugin/profiles.hpp"
#include "core/plugin/remote/codec.hpp"
#include "core/plugin/remote/process.hpp"
#include "core/plugin/remote/shared.hpp"

namespace quern::remote {
namespace {

size_t bytes_of(const TensorView& v) { return static_cast<size_t>(v.count()) * size_of(v.type); }

void write_views(Writer& w, std::span<const TensorView> views) {
  w.number(static_cast<uint32_t>(views.size()));
  for (const TensorView& v : views) w.number(static_cast<int32_t>(v.type)).numbers<int64_t>(v.dims).numbers<int64_t>(v.strides);
}

bool has_nan(std::span<const float> values) {
  for (const float v : values)
    if (std::isnan(v)) return true;
  return false;
}

// May a unit give NaN at all? Only a table with one in it can.
bool may_give_nan(const IntegerUnit& unit) {
  for (const auto& [name, t] : unit.tables)
    if (t.type() == DType::f32 && has_nan(t.values<float>())) return true;
  return false;
}

// What happened to a plugin, each thing once, for reports.
struct Diary {
  std::mutex mutex;
  std::vector<std::string> lines;
  void add(const std::string& line) {
    std::lock_guard lock(mutex);
    if (std::find(lines.begin(), lines.end(), line) != lines.end()) return;
    lines.push_back(line);
    log::warning("{}", line);
  }
};

class IsolatedKernel : public TargetKernel {
 public:
  IsolatedKernel(std::shared_ptr<PluginProcess> process, std::shared_ptr<Diary> diary, std::string unit, uint64_t number, std::string request,
                 bool may_give_nan)
      : process_(std::move(process)), diary_(std::move(diary)), unit_(std::move(unit)), number_(number),
        request_(std::move(request)), may_give_nan_(may_give_nan) {
    compile(process_->generation());
  }
  ~IsolatedKernel() override {
    try {
      if (!lost_) process_->call(forget_request, Writer().number(plugin_seed()).number(number_).bytes(), unit_);
    } catch (const Error&) {  // then it is forgotten anyway
    }
  }
  uint64_t workspace_bytes() const override { return 0; }  // lies in the shared memory
  std::string name() const override { return name_; }
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return output_layout_; }

  struct RemoteContext : Context {
    uint64_t generation = 0;
    Channel channel;
    SharedMemory memory;
    std::string places;  // types, dims and strides that the memory is made for
    uint64_t saturations = 0;
  };
  std::unique_ptr<Context> make_context() const override { return std::make_unique<RemoteContext>(); }
  uint64_t saturations(Context& context) const override { return static_cast<RemoteContext&>(context).saturations; }

  void execute(Context& context, std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*) const override {
    auto& c = static_cast<RemoteContext&>(context);
    try {
      // Twice: the process may have died of another kernel that ran at the same time.
      for (int attempt = 0;; ++attempt) {
        if (lost_) throw PluginLost("");
        const std::string failure = try_once(c, inputs, outputs, attempt > 0);
        if (failure.empty()) return;
      }
    } catch (const PluginLost& e) {
      if (lost_.exchange(true)) throw;  // told already
      diary_->add(e.message() + "; the host's interpreter computes this unit");
      throw;
    }
  }

 private:
  void compile(uint64_t generation) const {
    const Message m = process_->call(compile_request, request_, unit_);
    Reader r(m.bytes);
    workspace_ = r.number<uint64_t>();
    name_ = r.text();
    layouts_ = r.numbers<uint32_t>();
    output_layout_ = r.number<uint32_t>();
    generation_ = generation;
  }

  void open(RemoteContext& c, std::span<const TensorView> inputs, std::span<const TensorView> outputs) const {
    uint64_t generation = process_->generation();
    Writer views;
    write_views(views, inputs);
    write_views(views, outputs);
    if (c.generation == generation && c.places == views.bytes()) return;
    std::lock_guard lock(mutex_);
    if (generation_ != generation) compile(generation);
    // Another kernel may end the process at any moment, and it is started again by whoever asks next.
    for (int attempt = 0; !connect(c, inputs, outputs, views.bytes()); ++attempt) {
      if (attempt == most_restarts) throw PluginLost(fmt::format("plugin {}: {}: its process does not stay alive", process_->id(), unit_));
      generation = process_->generation();
      compile(generation);
    }
    c.generation = generation;
    c.places = views.bytes();
  }

  // A channel and memory for one context; false when the process does not know the kernel.
  bool connect(RemoteContext& c, std::span<const TensorView> inputs, std::span<const TensorView> outputs, const std::string& views) const {
    std::vector<SharedMemory::Place> places;
    for (const TensorView& v : inputs) places.push_back({bytes_of(v), false});
    for (const TensorView& v : outputs) places.push_back({bytes_of(v), true});
    places.push_back({static_cast<size_t>(workspace_), true});
    c.memory = SharedMemory::make(places);
    auto [ours, theirs] = socket_pair();
    const int files[] = {theirs.get(), c.memory.file()};
    const Message m = process_->call(context_request, Writer().number(plugin_seed()).number(number_).bytes() + views, unit_, files);
    if (m.what == stale) return false;
    c.channel = Channel(std::move(ours));
    return true;
  }

  // "": done; a text: its process died, which may not be its own fault (`last`: it is believed now).
  std::string try_once(RemoteContext& c, std::span<const TensorView> inputs, std::span<const TensorView> outputs, bool last) const {
    const auto lose = [&](const std::string& why) -> PluginLost { return PluginLost(fmt::format("plugin {}: {}: {}", process_->id(), unit_, why)); };
    open(c, inputs, outputs);
    for (size_t i = 0; i < inputs.size(); ++i) std::memcpy(c.memory.data(i), inputs[i].data, bytes_of(inputs[i]));
    const auto until = process_->deadline();
    Message m;
    Transfer t = c.channel.send(execute_request, {}, until);
    if (t == Transfer::done) t = c.channel.receive(m, until);
    if (t != Transfer::done) {
      const std::string why = process_->lost(c.generation, t);
      c.generation = 0;
      if (t == Transfer::late || last) throw lose(why);
      return why;
    }
    if (!c.memory.whole()) throw lose("it wrote outside of its buffers");
    if (m.what == failed) {
      try {
        throw_if_failed(m, process_->id(), unit_);
      } catch (const Error& e) {
        throw PluginLost(e.message());
      }
    }
    c.saturations = Reader(m.bytes).number<uint64_t>();
    for (size_t i = 0; i < outputs.size(); ++i) {
      const void* data = c.memory.data(inputs.size() + i);
      if (outputs[i].type == DType::f32 && !may_give_nan_ && has_nan({static_cast<const float*>(data), static_cast<size_t>(outputs[i].count())}))
        throw lose("it gives NaN, which this unit can't");
      std::memcpy(outputs[i].data, data, bytes_of(outputs[i]));
    }
    return {};
  }

  std::shared_ptr<PluginProcess> process_;
  std::shared_ptr<Diary> diary_;
  std::string unit_;
  uint64_t number_;  // never used again, so that a process that was started later can't mistake it
  std::string request_;
  bool may_give_nan_;
  mutable std::atomic<bool> lost_{false};
  mutable std::mutex mutex_;
  mutable uint64_t generation_ = 0, workspace_ = 0;
  mutable std::string name_;
  mutable std::vector<uint32_t> layouts_;
  mutable uint32_t output_layout_ = 0;
};

class IsolatedTarget : public ProfiledTarget {
 public:
  IsolatedTarget(fs::path path, const Manifest& manifest, double deadline_seconds)
      : ProfiledTarget(manifest.id), path_(std::move(path)), name_(manifest.targets.front()), version_(manifest.version),
        process_(std::make_shared<PluginProcess>(path_, manifest.id, deadline_seconds)), diary_(std::make_shared<Diary>()) {}

  std::string name() const override { return name_; }
  std::string version() const override { return version_; }
  fs::path path() const override { return path_; }
  bool isolated() const override { return true; }
  std::vector<std::string> incidents() const override {
    std::lock_guard lock(diary_->mutex);
    return diary_->lines;
  }

  std::string rules_text() const override { return Reader(process_->call(rules_request, start(), "its rules").bytes).text(); }
  bool available(const std::string& profile, std::string* reason) const override {
    return yes_or_no(available_request, begin(profile).bytes(), "available", reason);
  }
  bool supports(const std::string& profile, const IntegerUnit& unit, std::string* reason) const override {
    return yes_or_no(supports_request, begin(profile).unit(unit).bytes(), unit.name, reason);
  }
  std::map<std::string, Tensor> derive(const std::string& profile, const IntegerUnit& unit) const override {
    return noted([&] { return Reader(process_->call(derive_request, begin(profile).unit(unit).bytes(), unit.name).bytes).tables(); });
  }
  std::unique_ptr<TargetKernel> compile(const std::string& profile, const IntegerUnit& unit, const std::vector<Dims>& input_dims,
                                        const Dims& output_dims, int threads) const override {
    static std::atomic<uint64_t> numbers{0};
    const uint64_t number = ++numbers;
    Writer w = begin(profile);
    w.number(number).number<int32_t>(threads).number(static_cast<uint32_t>(input_dims.size()));
    for (const Dims& d : input_dims) w.dims(d);
    w.dims(output_dims).unit(unit);
    return noted([&] { return std::make_unique<IsolatedKernel>(process_, diary_, unit.name, number, w.bytes(), may_give_nan(unit)); });
  }
  bool cost(const std::string& profile, const IntegerUnit& unit, double* cycles, double* bytes) const override {
    try {
      const Message m = process_->call(cost_request, begin(profile).unit(unit).bytes(), unit.name);
      Reader r(m.bytes);
      if (!r.number<uint8_t>()) return false;
      *cycles = r.number<double>();
      *bytes = r.number<double>();
      return true;
    } catch (const PluginLost& e) {
      diary_->add(e.message());
      return false;
    }
  }

 private:
  static std::string start() { return Writer().number(plugin_seed()).bytes(); }
  Writer begin(const std::string& profile) const {
    Writer w;
    w.number(plugin_seed()).text(resolved(profile));
    return w;
  }
  template <class F> auto noted(F&& f) const -> decltype(f()) {
    try {
      return f();
    } catch (const PluginLost& e) {
      diary_->add(e.message());
      throw;
    }
  }
  // A plugin that dies of the question says no.
  bool yes_or_no(Request what, const std::string& request, const std::string& doing, std::string* reason) const {
    try {
      const Message m = process_->call(what, request, doing);
      Reader r(m.bytes);
      const bool yes = r.number<uint8_t>() != 0;
      if (reason) *reason = r.text();
      return yes;
    } catch (const PluginLost& e) {
      diary_->add(e.message());
      if (reason) *reason = e.message();
      return false;
    }
  }

  fs::path path_;
  std::string name_, version_;
  std::shared_ptr<PluginProcess> process_;
  std::shared_ptr<Diary> diary_;
};

}  // namespace

std::shared_ptr<const Target> make_isolated_target(const fs::path& path, const Manifest& manifest, double deadline_seconds) {
  return std::make_shared<IsolatedTarget>(path, manifest, deadline_seconds);
}

}  // namespace quern::remote
