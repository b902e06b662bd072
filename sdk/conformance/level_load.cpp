// L0: the file, and what happens when it is loaded. Every check runs in a process of its own.
#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "core/base/error.hpp"
#include "core/plugin/elf.hpp"
#include "core/plugin/host.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

std::string check_file(const fs::path& path) {
  inspect_plugin(path);
  const auto file = MappedFile::open(path);
  const auto symbols = ElfView(file->bytes()).exported_symbols();
  if (symbols.size() != 1) return fmt::format("it exports {} symbols ({}); a plugin exports quern_plugin_entry_v1 alone", symbols.size(), list_of(symbols));
  return "";
}

std::string check_loading(const fs::path& path) {
  const Manifest manifest = inspect_plugin(path);
  watch_host(manifest.id);
  const size_t written = output_written();
  const ProcessState before = ProcessState::now();
  load_plugin(path, manifest);
  const std::string changed = ProcessState::now().changes_since(before);
  if (!changed.empty()) return "loading it changes " + changed + " of the process";
  std::fflush(nullptr);
  if (output_written() != written) return "loading it writes to standard output or standard error";
  if (manifest.kind != "target") return "";
  const auto& table = load_plugin(path, manifest).target;
  if (table.extension) {
    static constexpr char name[] = "quern.no_such_thing/9";
    if (table.extension(table.self, {name, sizeof name - 1})) return "it has an extension that it can't know";
  }
  if (table.shutdown) table.shutdown(table.self);
  return "";
}

// A host of a later minor version: its structs are longer, and the plugin writes no more than it knows.
std::string check_entry(const fs::path& path) {
  const Manifest manifest = inspect_plugin(path);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) return fmt::format("it can't be loaded: {}", ::dlerror());
  using Entry = quern_status* (*)(const quern_host*, quern_plugin*);
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, "quern_plugin_entry_v1"));
  if (!entry) return "it has no quern_plugin_entry_v1";
  struct Longer { quern_host host; unsigned char more[128]; };
  static Longer longer{*host_table(manifest.id), {}};
  longer.host.h.struct_size = sizeof longer;
  longer.host.h.minor = QUERN_ABI_MINOR + 7;
  struct { quern_plugin plugin; unsigned char guard[512]; } out;
  std::memset(static_cast<void*>(&out), 0, sizeof out);
  std::memset(out.guard, 0xA5, sizeof out.guard);
  out.plugin.h = {static_cast<uint32_t>(sizeof(quern_plugin) + 256), QUERN_ABI_MAJOR, QUERN_ABI_MINOR + 7};
  quern_status* status = entry(&longer.host, &out.plugin);
  if (status) {
    const std::string text = text_of(longer.host.status_message(longer.host.self, status));
    return fmt::format("it refuses a host of a later minor version: {}", text.empty() ? "without a word" : text);
  }
  if (out.plugin.h.major != QUERN_ABI_MAJOR || out.plugin.h.struct_size > sizeof(quern_plugin) + 256)
    return fmt::format("its struct says version {}.{} and {} bytes", out.plugin.h.major, out.plugin.h.minor, out.plugin.h.struct_size);
  for (size_t i = std::max<size_t>(out.plugin.h.struct_size, sizeof(quern_plugin)) - sizeof(quern_plugin); i < sizeof out.guard; ++i)
    if (out.guard[i] != 0xA5) return "its entry writes beyond the struct that it says it has";
  if (out.plugin.kind != (manifest.kind == "target" ? QUERN_KIND_TARGET : QUERN_KIND_ALGORITHM)) return "its entry says another kind than its manifest";
  return "";
}

// What it says of itself without a device, twice, and then the end of the process.
std::string check_leaving(const fs::path& path) {
  const Manifest manifest = inspect_plugin(path);
  if (manifest.kind != "target") return "";
  const Subject s = load_subject(path, 1);
  const auto& t = s.table();
  quern_str a{}, b{};
  throw_if_failed(t.describe(t.self, &a), manifest.id, "its rules");
  throw_if_failed(t.describe(t.self, &b), manifest.id, "its rules");
  if (text_of(a) != text_of(b)) return "describe gives two texts";
  if (t.shutdown) t.shutdown(t.self);
  if (probe().live.load() != 0) return fmt::format("it keeps {} blocks of the host's memory after shutdown", probe().live.load());
  return "";
}

}  // namespace

std::vector<std::string> load_checks() { return {"file", "loading", "entry", "leaving"}; }

std::string run_load_check(const std::string& name, const fs::path& path) {
  try {
    if (name == "file") return check_file(path);
    if (name == "loading") return check_loading(path);
    if (name == "entry") return check_entry(path);
    if (name == "leaving") return check_leaving(path);
    return "there is no such check";
  } catch (const Error& e) {
    return e.what();
  }
}

size_t output_written() {
  struct stat info {};
  return ::fstat(STDERR_FILENO, &info) == 0 ? static_cast<size_t>(info.st_size) : 0;
}

}  // namespace quern::conform
