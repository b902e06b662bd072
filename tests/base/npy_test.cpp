#include "core/base/npy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>

#include "core/base/error.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

fs::path temporary(const std::string& name) {
  const fs::path folder = fs::path(::testing::TempDir()) / ("quern_npy_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  return folder / name;
}
fs::path file_of(const std::string& name, const std::string& bytes) {
  const fs::path p = temporary(name);
  // Not write_file, and not over an existing file: both wait for the disk, thousands of times here.
  fs::remove(p);
  std::ofstream(p, std::ios::binary) << bytes;
  return p;
}
std::string npy(const std::string& header, const std::string& data, int major = 1) {
  std::string s = std::string("\x93NUMPY", 6) + static_cast<char>(major) + '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) s += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return s + header + data;
}
std::string floats(std::vector<float> v) { return {reinterpret_cast<const char*>(v.data()), v.size() * 4}; }
std::string error_of(const std::function<void()>& f) {
  try { f(); } catch (const Error& e) { EXPECT_EQ(e.code(), ErrorCode::data) << e.what(); return e.what(); }
  return "no error";
}
std::string npy_error(const std::string& bytes) {
  const fs::path p = file_of("bad.npy", bytes);
  const std::string text = error_of([&] { read_npy(p); });
  EXPECT_THAT(text, HasSubstr("bad.npy"));
  return text;
}

struct ZipClaim { int64_t size = -1, packed = -1, crc = -1, method = -1, offset = -1, flags = 0; };

// A zip archive by hand, so that every field can be wrong.
struct Zip {
  std::string out, central;
  int entries = 0;
  static void put(std::string& s, uint64_t v, int n) { for (int i = 0; i < n; ++i) s += static_cast<char>(i < 8 ? v >> (8 * i) & 0xff : 0); }
  void add(const std::string& name, const std::string& data, bool deflate, ZipClaim claim = {}) {
    std::string packed = data;
    if (deflate) {
      packed.resize(compressBound(data.size()) + 64);
      z_stream z{};
      deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY);
      z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
      z.avail_in = static_cast<uInt>(data.size());
      z.next_out = reinterpret_cast<Bytef*>(packed.data());
      z.avail_out = static_cast<uInt>(packed.size());
      ::deflate(&z, Z_FINISH);
      packed.resize(z.total_out);
      deflateEnd(&z);
    }
    const uint64_t crc = claim.crc >= 0 ? static_cast<uint64_t>(claim.crc) : crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size()));
    const uint64_t size = claim.size >= 0 ? static_cast<uint64_t>(claim.size) : data.size(), psize = claim.packed >= 0 ? static_cast<uint64_t>(claim.packed) : packed.size();
    const uint64_t method = claim.method >= 0 ? static_cast<uint64_t>(claim.method) : deflate ? 8 : 0, offset = claim.offset >= 0 ? static_cast<uint64_t>(claim.offset) : out.size();
    const auto common = [&](std::string& s) {
      put(s, 20, 2); put(s, static_cast<uint64_t>(claim.flags), 2); put(s, method, 2); put(s, 0, 4); put(s, crc, 4); put(s, psize, 4); put(s, size, 4); put(s, name.size(), 2);
    };
    put(out, 0x04034b50, 4); common(out); put(out, 0, 2);
    out += name + packed;
    put(central, 0x02014b50, 4); put(central, 20, 2); common(central); put(central, 0, 2); put(central, 0, 10); put(central, offset, 4);
    central += name;
    ++entries;
  }
  std::string bytes(int64_t claimed_entries = -1) const {
    std::string s = out + central;
    put(s, 0x06054b50, 4); put(s, 0, 4);
    const uint64_t n = claimed_entries >= 0 ? static_cast<uint64_t>(claimed_entries) : static_cast<uint64_t>(entries);
    put(s, n, 2); put(s, n, 2); put(s, central.size(), 4); put(s, out.size(), 4); put(s, 0, 2);
    return s;
  }
};
std::string npz_error(const std::string& bytes, const std::string& array = "x") {
  const fs::path p = file_of("bad.npz", bytes);
  const std::string text = error_of([&] { Npz(p).read(array); });
  EXPECT_THAT(text, HasSubstr("bad.npz"));
  return text;
}
const std::string good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", floats({1, 2, 3, 4, 5, 6}));

TEST(Npy, WritesAndReadsEveryType) {
  std::mt19937 random(1);
  for (DType type : {DType::f32, DType::f64, DType::f16, DType::u8, DType::s8, DType::u16, DType::s16, DType::u32, DType::s32, DType::u64, DType::s64, DType::boolean})
    for (const Dims& dims : {Dims{}, Dims{5}, Dims{2, 3, 4}, Dims{0, 3}, Dims{1, 0}}) {
      Tensor t(type, dims);
      for (size_t i = 0; i < t.bytes(); ++i) static_cast<char*>(t.mutable_bytes())[i] = static_cast<char>(type == DType::boolean ? random() % 2 : random());
      const Tensor back = read_npy(file_of("t.npy", npy_bytes(t)));
      EXPECT_EQ(back.type(), type);
      EXPECT_EQ(back.dims(), dims);
      if (t.bytes()) { EXPECT_EQ(std::memcmp(back.data(), t.data(), t.bytes()), 0); }
      EXPECT_EQ(reinterpret_cast<uintptr_t>(back.data()) % 64, 0u);
    }
}

TEST(Npy, HeadersAsPeopleWriteThem) {
  const auto values = [](const std::string& bytes) { return read_npy(file_of("h.npy", bytes)).to_floats(); };
  const std::vector<float> expected{1, 2, 3, 4, 5, 6};
  EXPECT_EQ(values(good), expected);
  EXPECT_EQ(values(npy("{'shape': (2, 3), \"descr\": \"<f4\", 'fortran_order': False}", floats({1, 2, 3, 4, 5, 6}), 2)), expected);
  EXPECT_EQ(values(npy("{'descr':'<f4','fortran_order':False,'shape':(6L,)}\n", floats({1, 2, 3, 4, 5, 6}), 3)), expected);
  EXPECT_EQ(values(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", floats({1, 4, 2, 5, 3, 6}))), expected);
  EXPECT_EQ(read_npy(file_of("h.npy", npy("{'descr': '>u1', 'fortran_order': False, 'shape': (1,), }", "a"))).type(), DType::u8);
}

TEST(Npy, BadFilesAreNamed) {
  EXPECT_THAT(npy_error(""), HasSubstr("not a numpy array"));
  EXPECT_THAT(npy_error("just text, and a bit more of it"), HasSubstr("not a numpy array"));
  EXPECT_THAT(npy_error(good.substr(0, 30)), HasSubstr("cut off in its header"));
  EXPECT_THAT(npy_error(good.substr(0, 11)), HasSubstr("cut off"));
  EXPECT_THAT(npy_error(good.substr(0, good.size() - 1)), AllOf(HasSubstr("f32 [2,3] (24 bytes)"), HasSubstr("holds 23")));
  EXPECT_THAT(npy_error(good + "x"), HasSubstr("holds 25"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000000), }", "")), HasSubstr("declares f32"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "")), HasSubstr("too large"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "")), HasSubstr("whole numbers"));
  EXPECT_THAT(npy_error(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "x")), HasSubstr("Python objects (dtype object)"));
  EXPECT_THAT(npy_error(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "x")), HasSubstr("structured dtype"));
  EXPECT_THAT(npy_error(npy("{'descr': '<U5', 'fortran_order': False, 'shape': (1,), }", "x")), HasSubstr("'<U5'"));
  EXPECT_THAT(npy_error(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "xxxx")), HasSubstr("big-endian"));
  EXPECT_THAT(npy_error(npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "xxxxxxxx")), HasSubstr("'<c8'"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }", "xxxx")), HasSubstr("fortran_order"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'shape': (1,), }", "xxxx")), HasSubstr("without descr"));
  EXPECT_THAT(npy_error(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "xxxx")), HasSubstr("unknown key 'x'"));
  EXPECT_THAT(npy_error(npy("{", "")), HasSubstr("can't be read"));
  EXPECT_THAT(npy_error(npy(std::string("{'descr': '<f4', 'fortran_order': False, 'shape': (") + [] { std::string s; for (int i = 0; i < 40; ++i) s += "1,"; return s; }() + ")}", "xxxx")), HasSubstr("more than 32"));
  EXPECT_THAT(npy_error(npy("{}", "", 9)), HasSubstr("format 9"));
  try { read_npy(temporary("absent.npy")); FAIL(); } catch (const Error& e) { EXPECT_EQ(e.code(), ErrorCode::io); }
}

TEST(Npy, MutatedFilesNeverCrash) {
  std::mt19937 random(2);
  for (int i = 0; i < 3000; ++i) {
    std::string s = good;
    for (int k = 0; k < 1 + i % 4; ++k) s[random() % s.size()] = static_cast<char>(random());
    if (i % 3 == 0) s.resize(random() % s.size());
    try { read_npy(file_of("fuzz.npy", s)); } catch (const Error&) {}
  }
}

TEST(Npz, WritesAndReads) {
  const fs::path p = temporary("a.npz");
  const Tensor a = Tensor::of<float>({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}), b = Tensor::of<int64_t>({3}, std::vector<int64_t>{7, 8, 9});
  write_npz(p, {{"b", b}, {"a", a}, {"empty", Tensor(DType::u8, {0, 4})}, {"with/slash and ä", b}});
  const Npz z(p);
  EXPECT_EQ(z.names(), (std::vector<std::string>{"b", "a", "empty", "with/slash and ä"}));
  EXPECT_TRUE(z.has("a"));
  EXPECT_FALSE(z.has("c"));
  EXPECT_EQ(z.read("a").to_floats(), a.to_floats());
  EXPECT_EQ(z.read("b").to_ints(), b.to_ints());
  EXPECT_EQ(z.read("empty").dims(), (Dims{0, 4}));
  EXPECT_THAT(error_of([&] { z.read("c"); }), AllOf(HasSubstr("no array 'c'"), HasSubstr("b, a, empty")));
  const std::string once = read_text(p);
  write_npz(p, {{"b", b}, {"a", a}, {"empty", Tensor(DType::u8, {0, 4})}, {"with/slash and ä", b}});
  EXPECT_EQ(read_text(p), once);
  EXPECT_THAT(error_of([&] { write_npz(p, {{"a", a}, {"a", b}}); }), HasSubstr("given twice"));
  write_npz(p, {});
  EXPECT_TRUE(Npz(p).names().empty());
}

TEST(Npz, ReadsStoredAndDeflated) {
  Zip zip;
  zip.add("x.npy", good, true);
  zip.add("readme.txt", "no array", false);
  zip.add("y.npy", good, false);
  const Npz z(file_of("d.npz", zip.bytes()));
  EXPECT_EQ(z.names(), (std::vector<std::string>{"x", "y"}));
  for (const char* name : {"x", "y"}) EXPECT_EQ(z.read(name).to_floats(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  // A large one, over several blocks of deflate.
  std::string data(300000, '\0');
  std::mt19937 random(3);
  for (size_t i = 0; i < data.size(); i += 7) data[i] = static_cast<char>(random());
  Zip large;
  large.add("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (300000,), }", data), true);
  const Tensor t = Npz(file_of("l.npz", large.bytes())).read("x");
  EXPECT_EQ(std::memcmp(t.data(), data.data(), data.size()), 0);
}

TEST(Npz, BadArchivesAreNamed) {
  Zip zip;
  zip.add("x.npy", good, true);
  const std::string whole = zip.bytes();
  EXPECT_THAT(npz_error(""), HasSubstr("too short"));
  EXPECT_THAT(npz_error(good), HasSubstr("not an .npz archive"));
  EXPECT_THAT(npz_error(whole.substr(0, whole.size() - 5)), HasSubstr("cut off"));
  EXPECT_THAT(npz_error(whole.substr(20)), HasSubstr("damaged"));
  EXPECT_THAT(npz_error(zip.bytes(500)), HasSubstr("directory"));
  const auto with = [&](bool deflate, ZipClaim claim) { Zip z; z.add("x.npy", good, deflate, claim); return npz_error(z.bytes()); };
  EXPECT_THAT(with(true, {.size = 4000000000}), HasSubstr("more than its"));
  EXPECT_THAT(with(true, {.size = static_cast<int64_t>(good.size()) + 1}), HasSubstr("instead of"));
  EXPECT_THAT(with(true, {.size = static_cast<int64_t>(good.size()) - 1}), HasSubstr("unpacked"));
  EXPECT_THAT(with(false, {.size = 3}), HasSubstr("two different sizes"));
  EXPECT_THAT(with(true, {.crc = 12345}), HasSubstr("CRC-32"));
  EXPECT_THAT(with(false, {.crc = 12345}), HasSubstr("CRC-32"));
  EXPECT_THAT(with(false, {.packed = 100000}), HasSubstr("within the file"));
  EXPECT_THAT(with(false, {.offset = 100000}), HasSubstr("within the file"));
  EXPECT_THAT(with(false, {.offset = 5}), HasSubstr("local header"));
  EXPECT_THAT(with(false, {.method = 12}), HasSubstr("zip method 12"));
  EXPECT_THAT(with(false, {.flags = 1}), HasSubstr("encrypted"));
  Zip twice;
  twice.add("x.npy", good, false);
  twice.add("x.npy", good, false);
  EXPECT_THAT(npz_error(twice.bytes()), HasSubstr("twice"));
  std::string flipped = whole;
  flipped[45] = static_cast<char>(flipped[45] ^ 0x55);
  EXPECT_NE(npz_error(flipped), "no error");
  Zip object;
  object.add("x.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "x"), false);
  EXPECT_THAT(npz_error(object.bytes()), AllOf(HasSubstr("bad.npz:x"), HasSubstr("dtype object")));
}

TEST(Npz, Zip64FieldsAreRead) {
  // One entry whose central sizes stand in the zip64 field, and a zip64 end record.
  Zip zip;
  zip.add("x.npy", good, false);
  std::string s = zip.out;
  std::string c;
  Zip::put(c, 0x02014b50, 4); Zip::put(c, 45, 2); Zip::put(c, 45, 2); Zip::put(c, 0, 2); Zip::put(c, 0, 2); Zip::put(c, 0, 4);
  Zip::put(c, crc32(0, reinterpret_cast<const Bytef*>(good.data()), static_cast<uInt>(good.size())), 4);
  Zip::put(c, 0xffffffff, 4); Zip::put(c, 0xffffffff, 4); Zip::put(c, 5, 2); Zip::put(c, 28, 2); Zip::put(c, 0, 10); Zip::put(c, 0xffffffff, 4);
  c += "x.npy";
  Zip::put(c, 1, 2); Zip::put(c, 24, 2); Zip::put(c, good.size(), 8); Zip::put(c, good.size(), 8); Zip::put(c, 0, 8);
  const size_t at = s.size();
  s += c;
  const size_t end64 = s.size();
  Zip::put(s, 0x06064b50, 4); Zip::put(s, 44, 8); Zip::put(s, 45, 4); Zip::put(s, 0, 8); Zip::put(s, 1, 8); Zip::put(s, 1, 8); Zip::put(s, c.size(), 8); Zip::put(s, at, 8);
  Zip::put(s, 0x07064b50, 4); Zip::put(s, 0, 4); Zip::put(s, end64, 8); Zip::put(s, 1, 4);
  Zip::put(s, 0x06054b50, 4); Zip::put(s, 0, 4); Zip::put(s, 0xffff, 2); Zip::put(s, 0xffff, 2); Zip::put(s, 0xffffffff, 4); Zip::put(s, 0xffffffff, 4); Zip::put(s, 0, 2);
  EXPECT_EQ(Npz(file_of("z64.npz", s)).read("x").to_floats(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

TEST(Npz, NumpyAgrees) {
  const char* python = std::getenv("QUERN_PYTHON");
  if (!python) GTEST_SKIP() << "QUERN_PYTHON is not set: no numpy to compare with";
  const fs::path ours = temporary("ours.npz"), theirs = temporary("theirs.npz"), single = temporary("single.npy");
  const Tensor a = Tensor::of<float>({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}), b = Tensor::of<int16_t>({}, std::vector<int16_t>{-7});
  write_npz(ours, {{"a", a}, {"b", b}, {"none", Tensor(DType::u8, {0, 4})}});
  write_file(single, npy_bytes(a));
  const std::string script = "import sys, numpy as np\n"
                             "z = np.load(sys.argv[1])\n"
                             "assert z.files == ['a', 'b', 'none'] and z['a'].dtype == np.float32\n"
                             "assert (z['a'] == [[1, 2, 3], [4, 5, 6]]).all() and z['b'] == -7 and z['none'].shape == (0, 4)\n"
                             "assert (np.load(sys.argv[3]) == z['a']).all()\n"
                             "np.savez_compressed(sys.argv[2], x=np.arange(100000, dtype='i4').reshape(100, 1000), y=np.asfortranarray(z['a']), w=np.float16([1.5]))\n";
  const fs::path program = file_of("compare.py", script);
  const std::string command = std::string("'") + python + "' '" + program.string() + "' '" + ours.string() + "' '" + theirs.string() + "' '" + single.string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const Npz z(theirs);
  const Tensor x = z.read("x");
  EXPECT_EQ(x.dims(), (Dims{100, 1000}));
  for (int i = 0; i < 100000; ++i) ASSERT_EQ(x.values<int32_t>()[static_cast<size_t>(i)], i);
  EXPECT_EQ(z.read("y").to_floats(), a.to_floats());
  EXPECT_EQ(z.read("w").values<uint16_t>()[0], 0x3e00);
}

TEST(Npz, MutatedArchivesNeverCrash) {
  Zip zip;
  zip.add("x.npy", good, true);
  zip.add("y.npy", good, false);
  const std::string whole = zip.bytes();
  std::mt19937 random(4);
  for (int i = 0; i < 3000; ++i) {
    std::string s = whole;
    for (int k = 0; k < 1 + i % 5; ++k) s[random() % s.size()] = static_cast<char>(random());
    if (i % 4 == 0) s.resize(random() % s.size());
    try {
      const Npz z(file_of("fuzz.npz", s));
      for (const auto& n : z.names()) z.read(n);
    } catch (const Error&) {}
  }
}

}  // namespace
}  // namespace quern
