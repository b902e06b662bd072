// The host's side of the plugin door: finding, checking, loading, and calling.
//
//   PluginRegistry registry({.plugins = {"mine.so"}});         // looks, checks, does not load
//   for (const PluginListing& p : registry.listing()) ...      // every file looked at, with state and reason
//   auto cpu = registry.target("cpu");                          // loads; Error(plugin) with near names otherwise
//   Rules rules = cpu->rules("vnni");
//
// Search order: `plugins` (--plugin), QUERN_PLUGIN_PATH, user folder ($XDG_DATA_HOME or ~/.local/share)/quern/plugins, and
// <prefix>/lib/quern/plugins found from the running executable. QUERN_PLUGIN_ONLY replaces all. First id wins, a later one is
// listed as shadowed. Nothing is loaded that fails the checks; a plugin is never unloaded.
// Threads: everything here may be called from several threads at once.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/base/json.hpp"
#include "core/rules/rules.hpp"
#include "core/rules/unit.hpp"
#include "quern/abi.h"

namespace quern {

struct PluginOptions {
  std::vector<fs::path> plugins;   // --plugin: files or folders
  bool environment = true;         // QUERN_PLUGIN_*
  bool standard_folders = true;
  bool isolated = false;           // target plugins run in a process of their own
  double deadline_seconds = 60;    // for one answer of such a process
};

// Of an isolated plugin: its process crashed, ended, did not answer in time, or gave what can't be used. Whoever can do without
// the answer goes on: a unit is left in float, or computed by the interpreter.
class PluginLost : public Error {
 public:
  explicit PluginLost(std::string message) : Error(ErrorCode::plugin, std::move(message)) {}
};

enum class PluginState { usable, loaded, rejected, shadowed };
struct PluginListing {
  fs::path path;
  PluginState state = PluginState::rejected;
  std::string reason;              // why rejected or shadowed; "" otherwise
  std::string id, kind, name, version, vendor, license;
  std::vector<std::string> provides;  // target names, estimators, stages
  json::value manifest;
};

// Compiled by a target for complete shapes. Immutable, shared by threads; contexts are per thread.
class TargetKernel {
 public:
  virtual ~TargetKernel() = default;
  virtual uint64_t workspace_bytes() const = 0;
  virtual std::string name() const = 0;
  virtual std::vector<uint32_t> input_layouts() const = 0;  // QUERN_LAYOUT_*
  virtual uint32_t output_layout() const = 0;
  struct Context { virtual ~Context() = default; };
  virtual std::unique_ptr<Context> make_context() const = 0;
  virtual void execute(Context& context, std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace) const = 0;
  virtual uint64_t saturations(Context& context) const = 0;
};

class Target {
 public:
  virtual ~Target() = default;
  virtual std::string name() const = 0;          // "cpu"
  virtual std::string id() const = 0;            // "org.quern.cpu"
  virtual std::string version() const = 0;
  virtual fs::path path() const = 0;
  virtual std::string rules_text() const = 0;
  virtual Rules rules(const std::string& profile) const = 0;   // "" = default; Error(plugin) lists the profiles
  virtual bool available(const std::string& profile, std::string* reason) const = 0;
  virtual bool supports(const std::string& profile, const IntegerUnit& unit, std::string* reason) const = 0;
  virtual std::map<std::string, Tensor> derive(const std::string& profile, const IntegerUnit& unit) const = 0;
  // `inputs`, `outputs`: complete dims, constants excluded, in the order of the unit's operands.
  virtual std::unique_ptr<TargetKernel> compile(const std::string& profile, const IntegerUnit& unit,
                                                const std::vector<Dims>& input_dims, const Dims& output_dims, int threads) const = 0;
  virtual bool cost(const std::string& profile, const IntegerUnit& unit, double* cycles, double* bytes) const = 0;  // false: no model
  // In a process of its own: any call may throw PluginLost, and what happened is kept for reports.
  virtual bool isolated() const { return false; }
  virtual std::vector<std::string> incidents() const { return {}; }
};

struct EstimatorHandle { std::string name, plugin; json::value parameters_schema; const quern_range_estimator* table = nullptr; };
struct ReaderHandle { std::string name, plugin; json::value parameters_schema; const quern_data_reader* table = nullptr; };
struct MetricHandle { std::string name, plugin; json::value parameters_schema; const quern_metric* table = nullptr; };
struct StageHandle { std::string name, plugin; json::value parameters_schema; const quern_graph_stage* table = nullptr; };

class PluginRegistry {
 public:
  explicit PluginRegistry(const PluginOptions& options = {});
  ~PluginRegistry();
  std::vector<PluginListing> listing() const;
  std::vector<std::string> target_names() const;             // from manifests, nothing loaded
  std::shared_ptr<const Target> target(const std::string& name);
  // What a configuration says, over PluginOptions. Targets that were loaded before stay as they are.
  void isolation(bool also_isolated, double deadline_seconds);
  EstimatorHandle estimator(const std::string& name);        // Error(config) with near names
  StageHandle stage(const std::string& name);
  ReaderHandle reader(const std::string& name);
  MetricHandle metric(const std::string& name);
  std::vector<std::string> reader_names() const;             // from manifests, nothing loaded
  std::vector<std::string> metric_names() const;
  std::vector<EstimatorHandle> estimators();                  // loads all algorithm plugins
  std::vector<StageHandle> stages();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Turns a status of the boundary into an Error(plugin) naming the plugin, and frees it. NULL: nothing.
void throw_if_failed(quern_status* status, const std::string& plugin, const std::string& doing);
// The host table given to plugins (one per plugin id, so that its log lines are prefixed).
const quern_host* host_table(const std::string& plugin_id);

// Threads for parallel_for of plugins (inside execute: as many as the kernel was compiled for), and the seed of `random`.
void set_plugin_threads(int threads);  // 1 until set
void set_plugin_seed(uint64_t seed);   // 0 until set
uint64_t plugin_seed();

}  // namespace quern
