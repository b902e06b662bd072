#include "core/plugin/library.hpp"

#define BOOST_DLL_USE_STD_FS
#include <dlfcn.h>
#include <fmt/format.h>
#include <immintrin.h>

#include <boost/dll/shared_library.hpp>
#include <algorithm>
#include <clocale>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>

#include "core/base/error.hpp"

namespace quern {
namespace {

// What a plugin must not change while it is loaded. crtfastmath.o, linked by -ffast-math, sets flush-to-zero in a
// constructor: every float result of the process would change.
class ProcessState {
 public:
  ProcessState() : mxcsr_(_mm_getcsr() & ~flags), locale_(std::setlocale(LC_ALL, nullptr)) {}
  // Puts things back and says what was changed.
  std::string restore() const {
    std::string changed;
    if ((_mm_getcsr() & ~flags) != mxcsr_) {
      _mm_setcsr(mxcsr_);
      changed = "it changes the floating-point mode of the process (linked with -ffast-math?)";
    }
    if (locale_ != std::setlocale(LC_ALL, nullptr)) {
      std::setlocale(LC_ALL, locale_.c_str());
      changed = "it changes the locale of the process";
    }
    return changed;
  }

 private:
  static constexpr unsigned flags = 0x3F;  // exceptions that have occurred
  unsigned mxcsr_;
  std::string locale_;
};

[[noreturn]] void refuse(const std::string& id, const std::string& text) {
  throw Error(ErrorCode::plugin, fmt::format("plugin {}: {}", id, text));
}

template <class T>
void check_struct(const std::string& id, const char* what, const T* table, size_t needed) {
  if (!table) refuse(id, fmt::format("its {} is missing", what));
  if (table->h.major != QUERN_ABI_MAJOR)
    refuse(id, fmt::format("its {} is of plugin interface {}.{}; this Quern has {}.{}", what, table->h.major, table->h.minor,
                           QUERN_ABI_MAJOR, QUERN_ABI_MINOR));
  if (table->h.struct_size < needed)
    refuse(id, fmt::format("its {} has {} bytes; interface 1.0 has {}", what, table->h.struct_size, needed));
}

void check_names(const std::string& id, const char* what, std::vector<std::string> said, std::vector<std::string> there) {
  std::sort(said.begin(), said.end());
  std::sort(there.begin(), there.end());
  if (said != there)
    refuse(id, fmt::format("its manifest promises {} {}; the plugin has {}", what, said.empty() ? "none" : list_of(said),
                           there.empty() ? "none" : list_of(there)));
}

void check_target(LoadedPlugin& p) {
  const quern_target* t = p.plugin.target;
  check_struct(p.id, "target table", t, offsetof(quern_target, cost));
  std::memset(static_cast<void*>(&p.target), 0, sizeof p.target);
  std::memcpy(static_cast<void*>(&p.target), t, std::min<size_t>(t->h.struct_size, sizeof p.target));
  const std::pair<const char*, bool> needed[] = {
      {"describe", p.target.describe},       {"available", p.target.available},
      {"derive", p.target.derive},           {"compile", p.target.compile},
      {"kernel_info", p.target.kernel_info}, {"create_context", p.target.create_context},
      {"execute", p.target.execute},         {"destroy_context", p.target.destroy_context},
      {"destroy_kernel", p.target.destroy_kernel}};
  for (const auto& [name, present] : needed)
    if (!present) refuse(p.id, fmt::format("its target table lacks {}", name));
}

template <class T>
std::vector<std::string> table_names(const LoadedPlugin& p, const char* what, const T* const* list, uint32_t count) {
  if (count > 0 && !list) refuse(p.id, fmt::format("it counts {} {}s and has no list of them", count, what));
  std::vector<std::string> names;
  for (uint32_t i = 0; i < count; ++i) {
    check_struct(p.id, what, list[i], sizeof(T));
    names.push_back(text_of(list[i]->name));
    try {
      const std::string schema = text_of(list[i]->parameters);
      if (!parse_json(schema, what).is_object()) refuse(p.id, "not an object");
    } catch (const Error& e) {
      refuse(p.id, fmt::format("the parameter schema of {} {} can't be read: {}", what, names.back(), e.message()));
    }
  }
  return names;
}

void check_algorithms(const LoadedPlugin& p, const Manifest& manifest) {
  const quern_plugin& q = p.plugin;
  check_names(p.id, "estimators", manifest.estimators, table_names(p, "range estimator", q.range_estimators, q.n_range_estimators));
  check_names(p.id, "stages", manifest.stages, table_names(p, "graph stage", q.graph_stages, q.n_graph_stages));
  check_names(p.id, "readers", manifest.readers, table_names(p, "data reader", q.data_readers, q.n_data_readers));
  check_names(p.id, "metrics", manifest.metrics, table_names(p, "metric", q.metrics, q.n_metrics));
  for (const std::string& own : {"npz", "npy", "raw"})
    if (std::find(manifest.readers.begin(), manifest.readers.end(), own) != manifest.readers.end())
      refuse(p.id, fmt::format("it has a data reader '{}', which is a name of the host's own", own));
  for (uint32_t i = 0; i < q.n_data_readers; ++i)
    if (!q.data_readers[i]->open || !q.data_readers[i]->size || !q.data_readers[i]->sample || !q.data_readers[i]->close)
      refuse(p.id, fmt::format("data reader {} lacks a function", text_of(q.data_readers[i]->name)));
  for (uint32_t i = 0; i < q.n_metrics; ++i)
    if (!q.metrics[i]->create || !q.metrics[i]->update || !q.metrics[i]->result || !q.metrics[i]->destroy)
      refuse(p.id, fmt::format("metric {} lacks a function", text_of(q.metrics[i]->name)));
  for (uint32_t i = 0; i < q.n_range_estimators; ++i)
    if (!q.range_estimators[i]->requires_statistics || !q.range_estimators[i]->estimate)
      refuse(p.id, fmt::format("range estimator {} lacks a function", text_of(q.range_estimators[i]->name)));
  for (uint32_t i = 0; i < q.n_graph_stages; ++i)
    if (!q.graph_stages[i]->plan || !q.graph_stages[i]->run)
      refuse(p.id, fmt::format("graph stage {} lacks a function", text_of(q.graph_stages[i]->name)));
}

using Entry = quern_status*(const quern_host*, quern_plugin*);

std::unique_ptr<LoadedPlugin> load(const fs::path& path, const Manifest& manifest) {
  const ProcessState before;
  auto* library = new boost::dll::shared_library;  // never deleted: a plugin is never unloaded
  boost::dll::fs::error_code error;
  ::dlerror();
  library->load(path.string(), static_cast<boost::dll::load_mode::type>(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), error);
  if (error) {
    const char* text = ::dlerror();  // Boost's own text is always "Bad file descriptor"
    refuse(manifest.id, fmt::format("can't be loaded: {}", text ? text : error.message().c_str()));
  }
  auto p = std::make_unique<LoadedPlugin>();
  p->id = manifest.id;
  p->path = path;
  if (!library->has("quern_plugin_entry_v1")) refuse(manifest.id, "has no quern_plugin_entry_v1");

  // Guard bytes behind the struct show a plugin that writes more than the host knows.
  struct Guarded { quern_plugin plugin; unsigned char guard[256]; } out;
  std::memset(static_cast<void*>(&out), 0, sizeof out);
  std::memset(out.guard, 0xA5, sizeof out.guard);
  out.plugin.h = abi_struct<quern_plugin>().h;
  call_plugin(manifest.id, "entry", [&] { return library->get<Entry>("quern_plugin_entry_v1")(host_table(manifest.id), &out.plugin); });
  if (const std::string changed = before.restore(); !changed.empty()) refuse(manifest.id, changed);
  for (const unsigned char c : out.guard)
    if (c != 0xA5) refuse(manifest.id, "its entry writes beyond the struct it is given");
  p->plugin = out.plugin;
  check_struct(p->id, "plugin struct", &p->plugin, offsetof(quern_plugin, data_readers));
  // What a plugin of an earlier minor version does not know is not there.
  if (p->plugin.h.struct_size < sizeof(quern_plugin))
    std::memset(reinterpret_cast<char*>(&p->plugin) + p->plugin.h.struct_size, 0, sizeof(quern_plugin) - p->plugin.h.struct_size);
  const uint32_t kind = manifest.kind == "target" ? QUERN_KIND_TARGET : QUERN_KIND_ALGORITHM;
  if (p->plugin.kind != kind) refuse(p->id, fmt::format("its manifest says {}, its entry says kind {}", manifest.kind, p->plugin.kind));
  if (kind == QUERN_KIND_TARGET) check_target(*p);
  else check_algorithms(*p, manifest);
  return p;
}

struct Outcome { std::unique_ptr<LoadedPlugin> plugin; std::string failure; };

}  // namespace

const LoadedPlugin& load_plugin(const fs::path& path, const Manifest& manifest) {
  static std::mutex mutex;
  static auto* loaded = new std::map<std::string, Outcome>;
  std::lock_guard lock(mutex);
  const std::string key = fs::canonical(path).string();
  auto at = loaded->find(key);
  if (at == loaded->end()) {
    Outcome outcome;
    try {
      outcome.plugin = load(key, manifest);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::plugin) throw;
      outcome.failure = e.message();
    }
    at = loaded->emplace(key, std::move(outcome)).first;
  }
  if (!at->second.plugin) throw Error(ErrorCode::plugin, at->second.failure).at_file(path.string());
  return *at->second.plugin;
}

}  // namespace quern
