// What is read of a plugin before it is loaded: the bytes as a shared object, as a manifest section, as the text of a manifest.
#include <zlib.h>

#include <cstring>

#include "core/plugin/elf.hpp"
#include "core/plugin/manifest.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {
namespace {

std::string section_of(std::string_view text) {
  const auto size = static_cast<uint32_t>(text.size());
  const auto crc = static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(text.data()), size));
  std::string out = "QUERNMF1";
  out.append(reinterpret_cast<const char*>(&size), 4).append(reinterpret_cast<const char*>(&crc), 4);
  return out.append(text);
}

void read_section(std::span<const std::byte> section) {
  tolerate([&] { parse_manifest(manifest_text(section), "fuzz"); });
}

}  // namespace

std::vector<Seed> seeds() {
  std::vector<Seed> out;
  for (const char* path : {"plugins/cpu/manifest.json"}) {
    const std::string text = source_file(path);
    out.push_back({"manifest", text});
    out.push_back({"section", section_of(text)});
  }
  // A plugin cut to its headers, tables and manifest would have other offsets; the whole one serves, without its code.
  if (const char* plugin = std::getenv("QUERN_FUZZ_PLUGIN")) {
    const std::string elf(MappedFile::open(plugin)->text());
    if (elf.size() < (size_t{1} << 20)) out.push_back({"plugin.so", elf});
  }
  return out;
}

}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const ElfView elf(bytes);
  if (elf.problem().empty()) {
    elf.exported_symbols();
    elf.run_paths();
    if (const auto section = elf.section(".quern")) fuzz::read_section(*section);
  }
  fuzz::read_section(bytes);
  // With the check sum put right, so that changes get past it.
  std::string_view text = fuzz::text_of(data, size);
  if (text.starts_with("QUERNMF1")) text.remove_prefix(std::min<size_t>(text.size(), 16));
  const std::string section = fuzz::section_of(text);
  fuzz::read_section(std::as_bytes(std::span(section.data(), section.size())));
  return 0;
}
