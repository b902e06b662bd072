#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/plugin/discovery.hpp"
#include "core/plugin/library.hpp"
#include "core/plugin/remote/probe.hpp"
#include "core/plugin/remote/target.hpp"
#include "core/plugin/target.hpp"

namespace quern {

struct PluginRegistry::State {
  struct Entry {
    PluginListing listing;
    Manifest manifest;
    bool bundled = false;
  };
  bool isolated = false;
  double deadline_seconds = 60;
  mutable std::mutex mutex;
  std::vector<Entry> entries;
  std::map<std::string, std::shared_ptr<const Target>> targets;

  bool live(const Entry& e) const { return e.listing.state == PluginState::usable || e.listing.state == PluginState::loaded; }

  // What does not come with this program is loaded in another process first.
  static void try_out(const Entry& e) {
    if (e.bundled || e.listing.state == PluginState::loaded) return;
    const std::string failure = remote::probe(e.listing.path);
    if (failure.empty()) return;
    remote::quarantine(e.listing.path, failure);
    throw Error(ErrorCode::plugin, fmt::format("plugin {}: {}; the file is in quarantine until it changes", e.manifest.id, failure)).at_file(e.listing.path.string());
  }

  // Loads the plugin of an entry; a defect turns the entry into a rejected one and is thrown on.
  const LoadedPlugin& load(Entry& e) {
    try {
      try_out(e);
      const LoadedPlugin& plugin = load_plugin(e.listing.path, e.manifest);
      e.listing.state = PluginState::loaded;
      return plugin;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::memory) throw;
      e.listing.state = PluginState::rejected;
      e.listing.reason = error.message();
      throw;
    }
  }

  std::string rejected_hint() const {
    const auto n = std::count_if(entries.begin(), entries.end(), [](const Entry& e) { return e.listing.state == PluginState::rejected; });
    return n == 0 ? "" : fmt::format("{} {} rejected; `quern plugins` says why", n, n == 1 ? "file was" : "files were");
  }

  Error unknown(ErrorCode code, const char* what, const std::string& name, std::vector<std::string> there) const {
    std::sort(there.begin(), there.end());
    there.erase(std::unique(there.begin(), there.end()), there.end());
    Error e(code, fmt::format("there is no {} '{}'{}; {}", what, name, did_you_mean(name, there),
                              there.empty() ? fmt::format("no plugin with a {} was found", what) : "there are " + list_of(there)));
    const std::string hint = rejected_hint();
    return hint.empty() ? e : std::move(e).hint(hint);
  }

  // First live plugin whose manifest names it.
  Entry* find(std::vector<std::string> Manifest::* list, const std::string& name) {
    for (Entry& e : entries) {
      const auto& names = e.manifest.*list;
      if (live(e) && std::find(names.begin(), names.end(), name) != names.end()) return &e;
    }
    return nullptr;
  }
  const LoadedPlugin& load_named(std::vector<std::string> Manifest::* list, const char* what, const std::string& name) {
    Entry* e = find(list, name);
    if (!e) throw unknown(ErrorCode::config, what, name, all_names(list));
    return load(*e);
  }
  std::vector<std::string> all_names(std::vector<std::string> Manifest::* list) const {
    std::vector<std::string> out;
    for (const Entry& e : entries)
      if (live(e)) out.insert(out.end(), (e.manifest.*list).begin(), (e.manifest.*list).end());
    return out;
  }
};

namespace {

EstimatorHandle handle_of(const LoadedPlugin& p, const quern_range_estimator* t) {
  return {text_of(t->name), p.id, parse_json(text_of(t->parameters), p.id), t};
}
ReaderHandle handle_of(const LoadedPlugin& p, const quern_data_reader* t) {
  return {text_of(t->name), p.id, parse_json(text_of(t->parameters), p.id), t};
}
MetricHandle handle_of(const LoadedPlugin& p, const quern_metric* t) {
  return {text_of(t->name), p.id, parse_json(text_of(t->parameters), p.id), t};
}
StageHandle handle_of(const LoadedPlugin& p, const quern_graph_stage* t) {
  return {text_of(t->name), p.id, parse_json(text_of(t->parameters), p.id), t};
}

}  // namespace

PluginRegistry::PluginRegistry(const PluginOptions& options) : state_(std::make_unique<State>()) {
  state_->isolated = options.isolated;
  state_->deadline_seconds = options.deadline_seconds;
  std::map<std::string, fs::path> id_at, target_at;
  for (const Candidate& candidate : find_candidates(options)) {
    State::Entry e;
    PluginListing& l = e.listing;
    l.path = candidate.path;
    try {
      if (!candidate.problem.empty()) throw Error(ErrorCode::plugin, candidate.problem);
      e.manifest = inspect_plugin(candidate.path);
      e.bundled = candidate.bundled;
      if (const std::string reason = candidate.bundled ? "" : remote::quarantined(candidate.path); !reason.empty())
        throw Error(ErrorCode::plugin, fmt::format("is in quarantine until it changes: {}", reason)).hint("to try again: rm " + remote::quarantine_file().string());
      const Manifest& m = e.manifest;
      l.id = m.id;
      l.kind = m.kind;
      l.name = m.name;
      l.version = m.version;
      l.vendor = m.vendor;
      l.license = m.license;
      for (const auto* names : {&m.targets, &m.estimators, &m.stages, &m.readers, &m.metrics}) l.provides.insert(l.provides.end(), names->begin(), names->end());
      l.manifest = m.json;
      if (const auto [at, first] = id_at.emplace(m.id, l.path); !first) {
        l.state = PluginState::shadowed;
        l.reason = fmt::format("{} was found before and has the same id", at->second.string());
      } else if (!m.targets.empty() && target_at.count(m.targets[0])) {
        l.state = PluginState::shadowed;
        l.reason = fmt::format("{} was found before and has a target '{}' as well", target_at[m.targets[0]].string(), m.targets[0]);
      } else {
        l.state = PluginState::usable;
        if (!m.targets.empty()) target_at.emplace(m.targets[0], l.path);
      }
    } catch (const std::bad_alloc&) {  // says nothing about the plugin
      throw;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::memory) throw;
      l.state = PluginState::rejected;
      l.reason = error.message();
      if (!error.hint_text().empty()) l.reason += " (" + error.hint_text() + ")";
    } catch (const std::exception& error) {  // a hostile file may be odd in ways we do not know; it is listed, not fatal
      l.state = PluginState::rejected;
      l.reason = error.what();
    }
    if (l.state == PluginState::rejected && candidate.asked_for) log::warning("plugin {} is not used: {}", l.path.string(), l.reason);
    state_->entries.push_back(std::move(e));
  }
}

PluginRegistry::~PluginRegistry() = default;

std::vector<PluginListing> PluginRegistry::listing() const {
  std::lock_guard lock(state_->mutex);
  std::vector<PluginListing> out;
  for (const auto& e : state_->entries) out.push_back(e.listing);
  return out;
}

std::vector<std::string> PluginRegistry::target_names() const {
  std::lock_guard lock(state_->mutex);
  auto names = state_->all_names(&Manifest::targets);
  std::sort(names.begin(), names.end());
  return names;
}

std::shared_ptr<const Target> PluginRegistry::target(const std::string& name) {
  std::lock_guard lock(state_->mutex);
  if (auto at = state_->targets.find(name); at != state_->targets.end()) return at->second;
  State::Entry* e = state_->find(&Manifest::targets, name);
  if (!e) throw state_->unknown(ErrorCode::plugin, "target", name, state_->all_names(&Manifest::targets));
  if (state_->isolated) return state_->targets[name] = remote::make_isolated_target(e->listing.path, e->manifest, state_->deadline_seconds);
  return state_->targets[name] = make_target(state_->load(*e), e->manifest);
}

void PluginRegistry::isolation(bool also_isolated, double deadline_seconds) {
  std::lock_guard lock(state_->mutex);
  state_->isolated = state_->isolated || also_isolated;
  state_->deadline_seconds = deadline_seconds;
}

namespace {

// The entry of a loaded plugin's list with this name.
template <class T>
auto named(const LoadedPlugin& p, const T* const* list, uint32_t count, const std::string& name, const char* what) {
  for (uint32_t i = 0; i < count; ++i)
    if (text_of(list[i]->name) == name) return handle_of(p, list[i]);
  throw Error(ErrorCode::internal, fmt::format("{} {} is not in {}", what, name, p.id));
}

}  // namespace

EstimatorHandle PluginRegistry::estimator(const std::string& name) {
  std::lock_guard lock(state_->mutex);
  const LoadedPlugin& p = state_->load_named(&Manifest::estimators, "range estimator", name);
  return named(p, p.plugin.range_estimators, p.plugin.n_range_estimators, name, "range estimator");
}

StageHandle PluginRegistry::stage(const std::string& name) {
  std::lock_guard lock(state_->mutex);
  const LoadedPlugin& p = state_->load_named(&Manifest::stages, "stage", name);
  return named(p, p.plugin.graph_stages, p.plugin.n_graph_stages, name, "stage");
}

ReaderHandle PluginRegistry::reader(const std::string& name) {
  std::lock_guard lock(state_->mutex);
  const LoadedPlugin& p = state_->load_named(&Manifest::readers, "data reader", name);
  return named(p, p.plugin.data_readers, p.plugin.n_data_readers, name, "data reader");
}

MetricHandle PluginRegistry::metric(const std::string& name) {
  std::lock_guard lock(state_->mutex);
  const LoadedPlugin& p = state_->load_named(&Manifest::metrics, "metric", name);
  return named(p, p.plugin.metrics, p.plugin.n_metrics, name, "metric");
}

std::vector<std::string> PluginRegistry::reader_names() const {
  std::lock_guard lock(state_->mutex);
  return state_->all_names(&Manifest::readers);
}

std::vector<std::string> PluginRegistry::metric_names() const {
  std::lock_guard lock(state_->mutex);
  return state_->all_names(&Manifest::metrics);
}

// All of them: the first plugin with a name wins, as in estimator(). A plugin that can't be loaded is listed as rejected.
std::vector<EstimatorHandle> PluginRegistry::estimators() {
  std::lock_guard lock(state_->mutex);
  std::map<std::string, EstimatorHandle> out;
  for (auto& e : state_->entries) {
    if (!state_->live(e) || e.manifest.estimators.empty()) continue;
    try {
      const LoadedPlugin& p = state_->load(e);
      for (uint32_t i = 0; i < p.plugin.n_range_estimators; ++i) {
        auto handle = handle_of(p, p.plugin.range_estimators[i]);
        out.try_emplace(handle.name, handle);
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::memory) throw;
      log::warning("{}", error.what());
    }
  }
  std::vector<EstimatorHandle> list;
  for (auto& [name, handle] : out) list.push_back(std::move(handle));
  return list;
}

std::vector<StageHandle> PluginRegistry::stages() {
  std::lock_guard lock(state_->mutex);
  std::map<std::string, StageHandle> out;
  for (auto& e : state_->entries) {
    if (!state_->live(e) || e.manifest.stages.empty()) continue;
    try {
      const LoadedPlugin& p = state_->load(e);
      for (uint32_t i = 0; i < p.plugin.n_graph_stages; ++i) {
        auto handle = handle_of(p, p.plugin.graph_stages[i]);
        out.try_emplace(handle.name, handle);
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::memory) throw;
      log::warning("{}", error.what());
    }
  }
  std::vector<StageHandle> list;
  for (auto& [name, handle] : out) list.push_back(std::move(handle));
  return list;
}

}  // namespace quern
