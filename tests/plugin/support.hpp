// Where the test plugins are, and folders to put copies in.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/plugin/plugin.hpp"

namespace quern::testing {

inline fs::path build_folder() {
  const char* folder = std::getenv("QUERN_BUILD_DIR");
  if (!folder) throw std::runtime_error("QUERN_BUILD_DIR is not set; run the tests through ctest");
  return folder;
}
inline fs::path source_folder() {
  const char* folder = std::getenv("QUERN_SOURCE_DIR");
  if (!folder) throw std::runtime_error("QUERN_SOURCE_DIR is not set; run the tests through ctest");
  return folder;
}
inline fs::path test_plugin(const std::string& name) { return build_folder() / "tests/plugins" / name / (name + ".so"); }
inline fs::path own_plugin(const std::string& name) { return build_folder() / "lib/quern/plugins" / (name + ".so"); }

// A new folder that nobody else may write to; removed at the end.
class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> counter{0};
    path_ = fs::path(::testing::TempDir()) / ("quern_plugin_" + std::to_string(::getpid()) + "_" + std::to_string(counter++));
    fs::remove_all(path_);
    fs::create_directories(path_);
    ::chmod(path_.c_str(), 0755);
  }
  ~TempFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }
  fs::path put(const std::string& name, std::string_view bytes) const {
    write_file(path_ / name, bytes);
    ::chmod((path_ / name).c_str(), 0755);
    return path_ / name;
  }

 private:
  fs::path path_;
};

inline PluginOptions only(std::vector<fs::path> plugins) { return {.plugins = std::move(plugins), .environment = false, .standard_folders = false}; }

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(e.what()) + (e.hint_text().empty() ? "" : " | " + e.hint_text());
  }
  return "no error";
}

class Environment {  // a variable for the length of a test
 public:
  Environment(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Environment() { ::unsetenv(name_); }

 private:
  const char* name_;
};

}  // namespace quern::testing
