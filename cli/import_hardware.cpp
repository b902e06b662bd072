#include <cstdio>

#include <fmt/format.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/rules/pot/import.hpp"

namespace quern::cli {

int import_hardware_verb(const ImportHardwareArguments& a) {
  const ImportedRules imported = import_pot_hardware(read_text(a.file, size_t{1} << 20), a.file);
  const std::string text = to_text(imported.rules) + "\n";
  if (a.output.empty()) print(text);
  else write_file(a.output, text);
  for (const std::string& line : imported.not_imported) fmt::print(stderr, "not imported: {}\n", line);
  return 0;
}

}  // namespace quern::cli
