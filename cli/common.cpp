#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/npy.hpp"
#include "core/base/parallel.hpp"

namespace quern::cli {

PluginOptions Common::plugin_options() const {
  PluginOptions options;
  for (const auto& p : plugins) options.plugins.emplace_back(p);
  options.isolated = isolated;
  return options;
}

int Common::thread_count(int fallback) const {
  if (threads == 0) return usable_cores();
  return threads > 0 ? threads : fallback;
}

void print(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) return;
    if (n < 0) throw Error(ErrorCode::io, std::string("standard output can't be written: ") + std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

json::value number(double value) {
  if (std::isfinite(value)) return value;
  return value > 0 ? json::value("infinity") : value < 0 ? json::value("-infinity") : json::value("not a number");
}

NamedTensors read_inputs(const std::string& path, const std::vector<InputSpec>& specs) {
  Npz archive{fs::path(path)};
  std::vector<std::string> wanted;
  for (const auto& s : specs) wanted.push_back(s.name);
  for (const auto& name : archive.names())
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end())
      throw Error(ErrorCode::data, fmt::format("the model has no input '{}'{}; its inputs are {}", name, did_you_mean(name, wanted), list_of(wanted)))
          .at_file(path);
  NamedTensors out;
  for (const auto& s : specs) {
    if (!archive.has(s.name)) throw Error(ErrorCode::data, fmt::format("lacks an array '{}' for the input of that name", s.name)).at_file(path);
    out.emplace_back(s.name, archive.read(s.name));
  }
  return out;
}

}  // namespace quern::cli
