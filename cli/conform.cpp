// `quern conform` is the program quern-conform beside this one: it starts itself again for every batch of cases, and replaces operator
// new, which has no place in here.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"

namespace quern::cli {

int conform_verb(const ConformArguments& arguments) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path() / "quern-conform";
  if (error || !fs::exists(program))
    throw Error(ErrorCode::usage, fmt::format("there is no {}", program.string())).hint("it is installed with the SDK (cmake --install ... --component sdk)");
  std::vector<char*> list{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments.rest) list.push_back(const_cast<char*>(a.c_str()));
  list.push_back(nullptr);
  ::execv(program.c_str(), list.data());
  throw Error(ErrorCode::io, fmt::format("{} can't be started: {}", program.string(), std::strerror(errno)));
}

}  // namespace quern::cli
