#include <fmt/format.h>

#include "cli/templates.hpp"
#include "cli/verbs.hpp"
#include "core/base/error.hpp"

namespace quern::cli {

int schema_verb(const SchemaArguments& a) {
  if (a.name == "config") print(std::string(config_schema()));
  else if (a.name == "rules") print(std::string(rules_schema()));
  else if (a.name == "manifest") print(std::string(manifest_schema()));
  else throw Error(ErrorCode::usage, fmt::format("there is no schema '{}'{}; there are config, rules and manifest", a.name,
                                                 did_you_mean(a.name, {"config", "rules", "manifest"})));
  return 0;
}

}  // namespace quern::cli
