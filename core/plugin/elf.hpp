// What the host wants to know of a shared object before it lets the loader touch it. A truncated file kills the process
// inside dlopen (SIGBUS), so everything here is read from the bytes, every offset checked, nothing trusted.
//
//   auto file = MappedFile::open(path);
//   ElfView elf(file->bytes());
//   if (!elf.problem().empty()) ...                        // "is truncated: a segment ends at byte 9000, the file at 3000"
//   auto manifest = elf.section(".quern");
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quern {

class ElfView {
 public:
  explicit ElfView(std::span<const std::byte> bytes);
  // Why this is not a shared object for this machine; "" when it is one. Nothing else may be asked then.
  const std::string& problem() const { return problem_; }
  std::optional<std::span<const std::byte>> section(std::string_view name) const;
  std::vector<std::string> exported_symbols() const;   // defined, global or weak, default visibility
  std::vector<std::string> run_paths() const;          // DT_RPATH and DT_RUNPATH, split at ':'

 private:
  struct Section { uint32_t name = 0, type = 0, link = 0; uint64_t offset = 0, size = 0, entry_size = 0; };
  template <class T> bool read(uint64_t offset, T& out) const;
  std::string check();
  void read_sections();
  std::optional<std::span<const std::byte>> bytes_of(const Section& section) const;
  std::optional<std::string_view> text_at(std::span<const std::byte> table, uint64_t offset) const;

  std::span<const std::byte> bytes_;
  std::string problem_;
  std::vector<Section> sections_;
  std::span<const std::byte> names_;
};

}  // namespace quern
