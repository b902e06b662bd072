#include <cstdio>

#include <fmt/format.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/pipeline/pot_config.hpp"

namespace quern::cli {

int convert_config_verb(const ConvertConfigArguments& a) {
  const std::string text = read_text(a.file, size_t{1} << 20);
  std::vector<std::string> notes;
  const Document converted = parse_configuration(text, a.file, &notes);
  load_config_text(text, a.file, fs::absolute(a.file).parent_path());  // what it says is legal, or the error is told here
  const std::string yaml = to_yaml(converted.value);
  if (a.output.empty()) {
    print(yaml);
  } else {
    const fs::path from = fs::weakly_canonical(fs::absolute(a.file)).parent_path(), to = fs::weakly_canonical(fs::absolute(a.output)).parent_path();
    if (from != to)
      throw Error(ErrorCode::usage, fmt::format("paths in the configuration are relative to its folder; write into '{}'", from.string())).at_file(a.output);
    write_file(a.output, yaml);
  }
  for (const std::string& line : notes) fmt::print(stderr, "note: {}\n", line);
  return 0;
}

}  // namespace quern::cli
