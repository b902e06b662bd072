// Reading a shared object and its manifest from bytes that nobody vouches for.
#include <sys/mman.h>
#include <zlib.h>

#include <random>

#include "core/plugin/elf.hpp"
#include "core/plugin/manifest.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// Memory that ends at an unmapped page: a read beyond the end is a crash of the test.
class Fenced {
 public:
  explicit Fenced(size_t capacity) : page_(static_cast<size_t>(::sysconf(_SC_PAGESIZE))), size_((capacity + page_ - 1) / page_ * page_) {
    base_ = static_cast<char*>(::mmap(nullptr, size_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || ::mprotect(base_ + size_, page_, PROT_NONE) != 0) throw std::runtime_error("no fenced memory");
  }
  ~Fenced() { ::munmap(base_, size_ + page_); }
  std::span<const std::byte> put(std::string_view text) {
    char* to = base_ + size_ - text.size();
    std::memcpy(to, text.data(), text.size());
    return {reinterpret_cast<const std::byte*>(to), text.size()};
  }

 private:
  size_t page_, size_;
  char* base_;
};

TEST(Elf, ReadsAGoodPlugin) {
  const std::string file = read_text(test_plugin("test_npu"));
  const ElfView elf(bytes_of(file));
  ASSERT_EQ(elf.problem(), "");
  EXPECT_THAT(elf.exported_symbols(), ElementsAre("quern_plugin_entry_v1"));
  const auto section = elf.section(".quern");
  ASSERT_TRUE(section);
  const Manifest m = parse_manifest(manifest_text(*section), "test");
  EXPECT_EQ(m.id, "test.npu");
  EXPECT_EQ(m.version, "1.2.3");
  EXPECT_THAT(m.targets, ElementsAre("npu"));
  EXPECT_FALSE(elf.section(".nothing"));
}

TEST(Elf, EveryTruncationIsToldApart) {
  const std::string file = read_text(test_plugin("test_npu"));
  Fenced fenced(file.size());
  for (size_t n = 0; n < file.size(); n += n < 4096 ? 1 : 97) {
    const ElfView elf(fenced.put(std::string_view(file).substr(0, n)));
    if (elf.problem().empty()) {  // only what follows the last segment may be missing
      EXPECT_GT(n, file.size() / 2);
      EXPECT_FALSE(elf.section(".quern")) << n;
    }
  }
}

// 4,000 damaged copies: numbers of the headers replaced by extremes, bytes flipped anywhere, pieces cut out.
TEST(Elf, MutatedPluginsNeverCrashTheReader) {
  const std::string good = read_text(test_plugin("test_npu"));
  Fenced fenced(good.size());
  std::mt19937_64 random(20240607);
  auto below = [&](uint64_t n) { return static_cast<size_t>(random() % n); };
  uint64_t section_headers = 0;
  std::memcpy(&section_headers, good.data() + 0x28, 8);
  const uint64_t extremes[] = {0, 1, 7, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, good.size() - 1, good.size(), good.size() + 1,
                               0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFC0};
  int refused = 0, read = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string copy = good;
    const int changes = 1 + static_cast<int>(below(4));
    for (int k = 0; k < changes; ++k) {
      // ELF and program headers, section headers, or anywhere.
      size_t at = below(3) == 0 ? below(copy.size()) : below(2) == 0 ? below(64 + 56 * 10) : section_headers + below(copy.size() - section_headers);
      at = std::min(at, copy.size() - 8);
      if (below(3) == 0) {
        copy[at] = static_cast<char>(random());
      } else {
        const uint64_t value = extremes[below(std::size(extremes))];
        const size_t width = size_t{1} << below(4);
        std::memcpy(copy.data() + at / width * width, &value, width);
      }
    }
    if (below(10) == 0) copy.resize(below(copy.size()) + 1);
    if (below(20) == 0) copy.erase(below(copy.size()), below(100));
    const ElfView elf(fenced.put(copy));
    if (!elf.problem().empty()) { ++refused; continue; }
    elf.exported_symbols();
    elf.run_paths();
    try {
      if (const auto section = elf.section(".quern")) {
        parse_manifest(manifest_text(*section), "mutant");
        ++read;
      }
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::plugin);
      EXPECT_STRNE(e.what(), "");
    }
  }
  EXPECT_GT(refused, 500);  // the mutations do reach the checks
  EXPECT_GT(read, 100);     // and do not all end at the first one
}

TEST(Elf, SaysWhatAFileIs) {
  EXPECT_EQ(ElfView(bytes_of("")).problem(), "is empty");
  EXPECT_THAT(ElfView(bytes_of("#!/bin/sh\n")).problem(), HasSubstr("not a shared object"));
  std::string file = read_text(test_plugin("test_npu"));
  file[4] = 1;
  EXPECT_THAT(ElfView(bytes_of(file)).problem(), HasSubstr("not a 64-bit"));
  file = read_text(test_plugin("test_npu"));
  file[18] = static_cast<char>(183);  // AArch64
  EXPECT_THAT(ElfView(bytes_of(file)).problem(), HasSubstr("another processor"));
  file = read_text("/proc/self/exe");
  EXPECT_THAT(ElfView(bytes_of(file)).problem(), HasSubstr("not a shared object"));
}

std::string section_with(const std::string& json, uint32_t crc_change = 0, uint32_t length_change = 0) {
  std::string s = "QUERNMF1";
  const auto length = static_cast<uint32_t>(json.size()) + length_change;
  const auto crc = static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(json.data()), static_cast<uInt>(json.size()))) ^ crc_change;
  s.append(reinterpret_cast<const char*>(&length), 4);
  s.append(reinterpret_cast<const char*>(&crc), 4);
  return s + json;
}

TEST(Manifest, SectionIsChecked) {
  EXPECT_EQ(manifest_text(bytes_of(section_with("{}"))), "{}");
  EXPECT_EQ(manifest_text(bytes_of(section_with("{}") + std::string(6, '\0'))), "{}");  // padding may follow
  EXPECT_THAT(error_of([] { manifest_text(bytes_of("short")); }), HasSubstr("is not one"));
  EXPECT_THAT(error_of([] { manifest_text(bytes_of("QUERNMF2" + section_with("{}").substr(8))); }), HasSubstr("is not one"));
  EXPECT_THAT(error_of([] { manifest_text(bytes_of(section_with("{}", 1))); }), HasSubstr("checksum"));
  EXPECT_THAT(error_of([] { manifest_text(bytes_of(section_with("{}", 0, 1))); }), HasSubstr("claims 3 bytes"));
  EXPECT_THAT(error_of([] { manifest_text(bytes_of(section_with("{}", 0, 0xFFFFFF00))); }), HasSubstr("claims"));
}

}  // namespace
}  // namespace quern
