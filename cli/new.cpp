// `quern new target|algorithm NAME`: a folder that builds, loads and passes the first levels of the conformance kit at once.
#include <fmt/format.h>

#include <algorithm>

#include "cli/templates.hpp"
#include "cli/verbs.hpp"
#include "core/base/error.hpp"

namespace quern::cli {
namespace {

struct TemplateFile { const char* name; std::string_view text; };

std::vector<TemplateFile> files_of(const std::string& kind) {
  if (kind == "target")
    return {{"CMakeLists.txt", new_target_cmake()}, {"manifest.json", new_target_manifest()}, {"rules.json", new_target_rules()},
            {"@NAME@.cpp", new_target_source()}, {"README.md", new_target_readme()}};
  if (kind == "algorithm")
    return {{"CMakeLists.txt", new_algorithm_cmake()}, {"manifest.json", new_algorithm_manifest()}, {"@NAME@.cpp", new_algorithm_source()},
            {"README.md", new_algorithm_readme()}};
  throw Error(ErrorCode::usage, fmt::format("there is nothing to make that is called '{}'{}; there are target and algorithm", kind,
                                            did_you_mean(kind, {"target", "algorithm"})));
}

std::string filled(std::string text, const std::string& name) {
  for (size_t at = 0; (at = text.find("@NAME@", at)) != std::string::npos; at += name.size()) text.replace(at, 6, name);
  return text;
}

void check_name(const std::string& name) {
  const bool fits = !name.empty() && name.size() <= 64 && name[0] >= 'a' && name[0] <= 'z' &&
                    std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
  if (!fits) throw Error(ErrorCode::usage, fmt::format("'{}' can't be a name here: up to 64 lower-case letters, digits and _, a letter first", name));
}

}  // namespace

int new_verb(const NewArguments& a) {
  const auto files = files_of(a.kind);
  check_name(a.name);
  const fs::path folder = a.folder.empty() ? fs::path(a.name) : fs::path(a.folder);
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(folder, ignored))) throw Error(ErrorCode::usage, "is there already; give another folder").at_file(folder.string());
  StagedFolder out(folder);
  std::string list;
  for (const TemplateFile& f : files) {
    const std::string name = filled(f.name, a.name);
    write_file(out.path() / name, filled(std::string(f.text), a.name));
    list += "  " + (folder / name).string() + "\n";
  }
  out.commit();
  print(fmt::format("{0}\nnext\n  cmake -S {1} -B {1}/build -DCMAKE_PREFIX_PATH=PREFIX    # where Quern is installed\n  cmake --build {1}/build\n"
                    "  quern plugins --plugin {1}/build/{2}.so\n", list, folder.string(), a.name));
  return 0;
}

}  // namespace quern::cli
