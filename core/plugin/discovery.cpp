#include "core/plugin/discovery.hpp"

#include <stdlib.h>  // secure_getenv

#include <algorithm>
#include <set>
#include <string_view>

#include "core/base/error.hpp"
#include "core/base/folders.hpp"

namespace quern {
namespace {

std::string variable(const char* name) {
  const char* value = ::secure_getenv(name);  // nothing in a program with raised rights
  return value ? value : "";
}

class Finder {
 public:
  std::vector<Candidate> found;

  void add(const fs::path& path, bool asked_for) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      add_folder(path, asked_for);
    } else if (fs::exists(fs::symlink_status(path, error))) {
      add_file(path, asked_for, "");
    } else if (asked_for) {
      found.push_back({path, true, false, "does not exist"});
    }
  }
  // "a:b:c"
  void add_list(std::string_view list) {
    for (size_t begin = 0; begin < list.size();) {
      const size_t end = std::min(list.find(':', begin), list.size());
      if (end > begin) add(fs::path(list.substr(begin, end - begin)), true);
      begin = end + 1;
    }
  }

 private:
  void add_folder(const fs::path& folder, bool asked_for) {
    std::vector<fs::path> files;
    std::error_code error;
    for (const std::string& name : names_in(folder, error))
      if (fs::path(name).extension() == ".so") files.push_back(folder / name);
    if (error) found.push_back({folder, asked_for, false, "can't be read: " + error.message()});
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add_file(file, asked_for, "");
  }
  void add_file(const fs::path& file, bool asked_for, std::string problem) {
    std::error_code error;
    const fs::path real = fs::canonical(file, error);
    if (!seen_.insert(error ? fs::absolute(file) : real).second) return;
    found.push_back({file, asked_for, false, std::move(problem)});
  }
  std::set<fs::path> seen_;
};

}  // namespace

std::vector<Candidate> find_candidates(const PluginOptions& options) {
  Finder finder;
  if (options.environment) {
    if (const std::string only = variable("QUERN_PLUGIN_ONLY"); !only.empty()) {
      finder.add_list(only);
      return finder.found;
    }
  }
  for (const fs::path& path : options.plugins) finder.add(path, true);
  if (options.environment) finder.add_list(variable("QUERN_PLUGIN_PATH"));
  if (options.standard_folders) {
    const std::string data = variable("XDG_DATA_HOME"), home = variable("HOME");
    if (!data.empty() && data[0] == '/') finder.add(fs::path(data) / "quern/plugins", false);
    else if (!home.empty()) finder.add(fs::path(home) / ".local/share/quern/plugins", false);
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    const size_t before = finder.found.size();
    if (!error) finder.add(program.parent_path().parent_path() / "lib/quern/plugins", false);
    for (size_t i = before; i < finder.found.size(); ++i) finder.found[i].bundled = true;
  }
  return finder.found;
}

}  // namespace quern
