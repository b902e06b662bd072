// numpy's files: the bytes as an array, and as an archive.
#include <cstring>

#include "core/base/npy.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {

std::vector<Seed> seeds() {
  std::vector<Seed> out;
  const std::vector<std::pair<std::string, Tensor>> arrays{{"f", Tensor::of<float>({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6})},
                                                           {"i", Tensor::of<int64_t>({1}, std::vector<int64_t>{-1})},
                                                           {"s", Tensor::scalar<double>(0.5)},
                                                           {"e", Tensor(DType::u8, {0, 4})}};
  for (const auto& [name, tensor] : arrays) out.push_back({name + ".npy", npy_bytes(tensor)});
  const std::string path = memory_folder() + "/seed.npz";
  write_npz(path, arrays);
  out.push_back({"all.npz", std::string(MappedFile::open(path)->text())});
  write_npz(path, {arrays[1]});
  out.push_back({"one.npz", std::string(MappedFile::open(path)->text())});
  std::filesystem::remove_all(memory_folder());
  std::string fortran = out[0].bytes;
  fortran.replace(fortran.find("False"), 6, "True, ");
  out.push_back({"fortran.npy", fortran});
  const std::string digits = source_file("examples/digits/data.npz");  // deflated
  out.push_back({"digits.npz", digits});
  return out;
}

namespace {
void touch(const Tensor& t) {
  // Every byte can be read, and what is written reads as the same.
  unsigned sum = 0;
  for (size_t i = 0; i < t.bytes(); ++i) sum += static_cast<const unsigned char*>(t.data())[i];
  static MemoryFile file;
  file.set(npy_bytes(t));
  const Tensor again = read_npy(file.path());
  expect(again.type() == t.type() && again.dims() == t.dims() && (t.bytes() == 0 || std::memcmp(again.data(), t.data(), t.bytes()) == 0),
         "a written array reads as the same");
  expect(sum != 1u << 31, "");
}
}  // namespace
}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  static fuzz::MemoryFile file;
  file.set(fuzz::text_of(data, size));
  fuzz::tolerate([&] { fuzz::touch(read_npy(file.path())); });
  fuzz::tolerate([&] {
    const Npz archive{fs::path(file.path())};
    size_t most = 64;
    for (const auto& name : archive.names()) {
      if (most-- == 0) break;
      fuzz::tolerate([&] { fuzz::touch(archive.read(name)); });
    }
  });
  return 0;
}
