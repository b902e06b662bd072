#include <fmt/format.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"

namespace quern::cli {

int schema_verb(const SchemaArguments& a) {
  if (a.name == "config") print(std::string(config_schema()));
  else if (a.name == "rules") print(std::string(rules_schema()));
  else throw Error(ErrorCode::usage, fmt::format("there is no schema '{}'{}; there are config and rules", a.name, did_you_mean(a.name, {"config", "rules"})));
  return 0;
}

}  // namespace quern::cli
