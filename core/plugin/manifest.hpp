// The manifest of a plugin: JSON in the section .quern of the file (sdk/schemas/manifest.schema.json), preceded by
// "QUERNMF1", its length and its CRC-32. Read from the bytes; the plugin is not loaded.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/base/files.hpp"
#include "core/base/json.hpp"

namespace quern {

struct Manifest {
  std::string id, kind, name, version, vendor, license;
  int abi_major = 0, abi_minor = 0;
  std::vector<std::string> targets, estimators, stages, readers, metrics;
  json::value json;
};

// The JSON text of the section; Error(plugin) says what is wrong with it.
std::string manifest_text(std::span<const std::byte> section);
// Checks the text against the schema. Error(plugin) with `file`.
Manifest parse_manifest(std::string_view text, const std::string& file);

// Every check that needs no loading: kind of file, owner and permissions, ELF, exported symbol, run paths, manifest, ABI
// version. Error(plugin) with the reason.
Manifest inspect_plugin(const fs::path& path);

// May this file be loaded: a regular file that nobody but root and the user could have changed. Error(plugin) otherwise.
void check_ownership(const fs::path& path);

}  // namespace quern
