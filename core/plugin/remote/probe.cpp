#include "core/plugin/remote/probe.hpp"

#include <fmt/format.h>
#include <stdlib.h>  // secure_getenv
#include <sys/stat.h>

#include "core/base/error.hpp"
#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/plugin/remote/process.hpp"

namespace quern::remote {
namespace {

constexpr auto patience = std::chrono::seconds(5);

// The file as it is now: another one under the same name is another plugin.
json::object identity(const fs::path& plugin) {
  struct stat s {};
  if (::stat(plugin.c_str(), &s) != 0) return {};
  return {{"size", s.st_size}, {"seconds", s.st_mtim.tv_sec}, {"nanoseconds", s.st_mtim.tv_nsec}, {"inode", s.st_ino}};
}

std::string key_of(const fs::path& plugin) {
  std::error_code error;
  const fs::path real = fs::canonical(plugin, error);
  return (error ? plugin : real).string();
}

json::object read_list() {
  const fs::path file = quarantine_file();
  std::error_code error;
  if (file.empty() || !fs::exists(file, error)) return {};
  try {
    json::value v = parse_json(read_text(file), file.string());
    if (v.is_object()) return std::move(v.as_object());
  } catch (const Error&) {  // damaged: as if it were not there
  }
  return {};
}

}  // namespace

std::string probe(const fs::path& plugin) {
  if (helper_program().empty()) return "";
  auto [ours, theirs] = socket_pair();
  Child child("--probe", plugin, std::move(theirs));
  Channel channel(std::move(ours));
  Message hello;
  switch (channel.receive(hello, Clock::now() + patience)) {
    case Transfer::done: return "";  // a refusal in words too: the host will find it itself
    case Transfer::late: return fmt::format("it did not come back within {} s when it was loaded", patience.count());
    case Transfer::cancelled: return "";
    case Transfer::closed: break;
  }
  return child.end() + " while it was loaded";
}

fs::path quarantine_file() {
  const char* cache = ::secure_getenv("XDG_CACHE_HOME");
  const char* home = ::secure_getenv("HOME");
  if (cache && cache[0] == '/') return fs::path(cache) / "quern/quarantine.json";
  if (home && home[0] == '/') return fs::path(home) / ".cache/quern/quarantine.json";
  return {};
}

std::string quarantined(const fs::path& plugin) {
  const json::object list = read_list();
  const json::value* entry = list.if_contains(key_of(plugin));
  if (!entry || !entry->is_object()) return "";
  const json::value *file = entry->get_object().if_contains("file"), *reason = entry->get_object().if_contains("reason");
  if (!file || !reason || !reason->is_string() || *file != json::value(identity(plugin))) return "";
  return std::string(reason->get_string());
}

void quarantine(const fs::path& plugin, const std::string& reason) {
  const fs::path file = quarantine_file();
  if (file.empty()) return;
  try {
    json::object list = read_list();
    list[key_of(plugin)] = json::object{{"file", identity(plugin)}, {"reason", reason}};
    fs::create_directories(file.parent_path());
    write_file(file, to_text(list, true) + "\n");
  } catch (const std::exception& e) {
    log::debug("{} can't be written: {}", file.string(), e.what());
  }
}

}  // namespace quern::remote
