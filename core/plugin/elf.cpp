#include "core/plugin/elf.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>

namespace quern {
namespace {
constexpr size_t max_sections = 4096;  // a plugin has some thirty
constexpr size_t max_symbols = size_t{1} << 20;
}  // namespace

template <class T>
bool ElfView::read(uint64_t offset, T& out) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return false;
  std::memcpy(&out, bytes_.data() + offset, sizeof(T));
  return true;
}

ElfView::ElfView(std::span<const std::byte> bytes) : bytes_(bytes) {
  problem_ = check();
  if (problem_.empty()) read_sections();
}

std::string ElfView::check() {
  if (bytes_.empty()) return "is empty";
  Elf64_Ehdr h;
  if (bytes_.size() < SELFMAG || std::memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) return "is not a shared object (no ELF header)";
  if (!read(0, h)) return "is truncated: the ELF header is not complete";
  if (h.e_ident[EI_CLASS] != ELFCLASS64) return "is not a 64-bit shared object";
  if (h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64)
    return fmt::format("is built for another processor (ELF machine {}); x86-64 is needed", h.e_machine);
  if (h.e_type != ET_DYN) return "is not a shared object (ELF type " + std::to_string(h.e_type) + ")";
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum == 0) return "has no program headers";
  bool dynamic = false;
  for (unsigned i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    // The multiplication can't overflow: 16 bits times 56.
    if (h.e_phoff > bytes_.size() || !read(h.e_phoff + uint64_t{i} * sizeof p, p))
      return fmt::format("is truncated: program header {} lies outside the file of {} bytes", i, bytes_.size());
    if (p.p_type == PT_INTERP) return "is a program, not a shared object";
    if (p.p_type == PT_DYNAMIC) dynamic = true;
    if (p.p_type != PT_LOAD && p.p_type != PT_DYNAMIC && p.p_type != PT_NOTE && p.p_type != PT_TLS) continue;
    if (p.p_offset > bytes_.size() || p.p_filesz > bytes_.size() - p.p_offset)
      return fmt::format("is truncated: segment {} reaches beyond the file of {} bytes", i, bytes_.size());
    if (p.p_type == PT_LOAD && p.p_filesz > p.p_memsz) return fmt::format("is damaged: segment {} is larger in the file than in memory", i);
  }
  if (!dynamic) return "has no dynamic section";
  return "";
}

void ElfView::read_sections() {
  Elf64_Ehdr h;
  if (!read(0, h) || h.e_shentsize != sizeof(Elf64_Shdr) || h.e_shnum > max_sections || h.e_shoff > bytes_.size()) return;
  for (unsigned i = 0; i < h.e_shnum; ++i) {
    Elf64_Shdr s;
    if (!read(h.e_shoff + uint64_t{i} * sizeof s, s)) break;
    sections_.push_back({s.sh_name, s.sh_type, s.sh_link, s.sh_offset, s.sh_size, s.sh_entsize});
  }
  if (h.e_shstrndx < sections_.size())
    if (auto names = bytes_of(sections_[h.e_shstrndx])) names_ = *names;
}

std::optional<std::span<const std::byte>> ElfView::bytes_of(const Section& s) const {
  if (s.type == SHT_NOBITS || s.offset > bytes_.size() || s.size > bytes_.size() - s.offset) return std::nullopt;
  return bytes_.subspan(s.offset, s.size);
}

std::optional<std::string_view> ElfView::text_at(std::span<const std::byte> table, uint64_t offset) const {
  if (offset >= table.size()) return std::nullopt;
  const char* begin = reinterpret_cast<const char*>(table.data()) + offset;
  const void* end = std::memchr(begin, 0, table.size() - offset);
  if (!end) return std::nullopt;
  return std::string_view(begin, static_cast<size_t>(static_cast<const char*>(end) - begin));
}

std::optional<std::span<const std::byte>> ElfView::section(std::string_view name) const {
  for (const Section& s : sections_)
    if (text_at(names_, s.name) == name) return bytes_of(s);
  return std::nullopt;
}

std::vector<std::string> ElfView::exported_symbols() const {
  std::vector<std::string> out;
  for (const Section& s : sections_) {
    if (s.type != SHT_DYNSYM || s.link >= sections_.size()) continue;
    auto symbols = bytes_of(s);
    auto names = bytes_of(sections_[s.link]);
    if (!symbols || !names) continue;
    const size_t count = std::min(symbols->size() / sizeof(Elf64_Sym), max_symbols);
    for (size_t i = 0; i < count; ++i) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, symbols->data() + i * sizeof symbol, sizeof symbol);
      const auto binding = ELF64_ST_BIND(symbol.st_info);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || ELF64_ST_VISIBILITY(symbol.st_other) != STV_DEFAULT) continue;
      if (binding != STB_GLOBAL && binding != STB_WEAK && binding != STB_GNU_UNIQUE) continue;
      if (auto name = text_at(*names, symbol.st_name)) out.emplace_back(*name);
    }
  }
  return out;
}

std::vector<std::string> ElfView::run_paths() const {
  std::vector<std::string> out;
  for (const Section& s : sections_) {
    if (s.type != SHT_DYNAMIC || s.link >= sections_.size()) continue;
    auto entries = bytes_of(s);
    auto names = bytes_of(sections_[s.link]);
    if (!entries || !names) continue;
    for (size_t at = 0; at + sizeof(Elf64_Dyn) <= entries->size(); at += sizeof(Elf64_Dyn)) {
      Elf64_Dyn entry;
      std::memcpy(&entry, entries->data() + at, sizeof entry);
      if (entry.d_tag == DT_NULL) break;
      if (entry.d_tag != DT_RPATH && entry.d_tag != DT_RUNPATH) continue;
      auto text = text_at(*names, entry.d_un.d_val);
      if (!text) continue;
      for (size_t begin = 0; begin <= text->size();) {
        const size_t end = std::min(text->find(':', begin), text->size());
        out.emplace_back(text->substr(begin, end - begin));
        begin = end + 1;
      }
    }
  }
  return out;
}

}  // namespace quern
