// The gpu_opencl target: what it says without a device, how a device is chosen, its cache of programs, and the sums and divisions that OpenCL leaves
// to us. Bytes of every operator: simulated_test.cpp; the same under oclgrind, which watches every access of the kernels: here.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

namespace fs = std::filesystem;

Plugin& gpu() { return Plugin::get("gpu_opencl"); }

#define REQUIRE_DEVICE() \
  if (gpu().profiles().empty()) GTEST_SKIP() << "there is no OpenCL device: " << gpu().reason()

Unit product(int64_t depth, int64_t columns, const Quant& x, int64_t x_code, int64_t w_code) {
  Unit u;
  u.contract = "dot_float";
  u.operands = {flowing("input", {2, depth}, x)};
  u.operands[0].codes.assign(static_cast<size_t>(2 * depth), x_code);
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = {depth, columns};
  w.quant = Quant{true, {1.f}, 0, -1, true};
  w.codes.assign(static_cast<size_t>(depth * columns), w_code);
  w.constant = true;
  u.operands.push_back(w);
  u.output.role = "output";
  u.output.dtype = QUERN_DTYPE_F32;
  u.output.dims = {2, columns};
  u.nodes = {{"MatMul", {0, 1}, {}, 13}};
  return u;
}

// Sums beyond 2^24, where a sum in f32 would round: kept exact by moving parts of it to integers.
TEST(GpuOpencl, SumsBeyondFloatsAreExact) {
  REQUIRE_DEVICE();
  for (const int64_t depth : {517, 518, 519, 1036, 1037, 4608, 33001})
    for (const auto& [zero, code] : {std::pair<int64_t, int64_t>{0, 255}, {255, 0}, {128, 1}}) {
      Unit u = product(depth, 17, u8(1.f, zero), code, 127);
      u.operands[1].codes[static_cast<size_t>(depth / 2 * 17)] = 126;  // so that the sum of the first column is odd
      const Result r = gpu().run(u);
      ASSERT_EQ(r.error, "");
      const int64_t sum = (code - zero) * 127 * depth;
      EXPECT_EQ(r.floats[0], static_cast<float>(sum - (code - zero))) << depth;
      EXPECT_EQ(r.floats[16], static_cast<float>(sum)) << depth;
      EXPECT_EQ(r.floats[17], r.floats[0]);
    }
}

// OpenCL's division may be off in the last bits; ours is not. Every window size up to 400, sums over the whole range.
TEST(GpuOpencl, AveragesDivideAsIeeeDoes) {
  REQUIRE_DEVICE();
  std::mt19937 random(5);
  for (int64_t n = 1; n <= 400; n += n < 64 ? 1 : 7) {
    Unit u;
    const int64_t channels = 64;
    u.operands = {flowing("input", {1, channels, 1, n}, u8(0.1f, 3))};
    for (int64_t i = 0; i < channels * n; ++i) u.operands[0].codes.push_back(static_cast<int64_t>(random() % (i / n % 4 == 0 ? 256u : 8u)));
    u.output.role = "output";
    u.output.dtype = QUERN_DTYPE_F32;
    u.output.dims = {1, channels, 1, 1};
    u.nodes = {{"GlobalAveragePool", {0}, {}, 1}};
    u.contract = "average_float";
    const Result r = gpu().run(u);
    ASSERT_EQ(r.error, "");
    const float ratio = r.tables.at("ratio").floats[0];
    for (int64_t c = 0; c < channels; ++c) {
      int64_t sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += u.operands[0].codes[static_cast<size_t>(c * n + i)] - 3;
      ASSERT_EQ(r.floats[static_cast<size_t>(c)], static_cast<float>(sum) / static_cast<float>(n) * ratio) << sum << " / " << n;
    }
  }
}

// ---- in a process of its own, with other surroundings -----------------------------------------------------------------------
std::string output_of(const std::string& command, int* status = nullptr) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return "popen failed";
  std::string output;
  char buffer[512];
  while (size_t got = fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, got);
  const int code = pclose(pipe);
  if (status) *status = code;
  return output;
}

std::string run_self(const std::string& environment, const std::string& filter, int& status) {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
  return output_of(environment + " '" + std::string(path, n > 0 ? static_cast<size_t>(n) : 0) + "' --gtest_also_run_disabled_tests --gtest_filter='" + filter + "'", &status);
}

void expect_passes(const std::string& environment, const std::string& filter, bool ends_well = true) {
  int status = 1;
  const std::string output = run_self(environment, filter, status);
  EXPECT_TRUE(status == 0 || !ends_well) << environment << "\n" << output;
  EXPECT_EQ(output.find("[  FAILED  ]"), std::string::npos) << output;
  EXPECT_NE(output.find("[  PASSED  ]"), std::string::npos) << output;
  EXPECT_EQ(output.find("[  PASSED  ] 0"), std::string::npos) << output;
}

struct Folder {
  Folder() {
    char name[] = "/tmp/quern-gpu-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

// Inside: QUERN_TEST_WORDS is what the refusal must say. Rules, supports and derive work all the same.
TEST(GpuOpencl, DISABLED_WithoutDevice) {
  const char* words = std::getenv("QUERN_TEST_WORDS");
  ASSERT_NE(words, nullptr);
  EXPECT_TRUE(gpu().profiles().empty());
  EXPECT_NE(gpu().reason().find(words), std::string::npos) << gpu().reason();
  const Unit u = product(5, 3, u8(0.5f, 7), 9, 2);
  std::map<std::string, Table> tables;
  EXPECT_EQ(gpu().derive(u, tables), "");
  EXPECT_EQ(tables.at("multiplier").floats.at(0), 0.5f);
  std::string why;
  EXPECT_TRUE(gpu().supports(u, why)) << why;
  const Result r = gpu().run(u, {}, "opencl12");
  EXPECT_EQ(r.code, QUERN_UNAVAILABLE);
  EXPECT_NE(r.error.find(words), std::string::npos) << r.error;
}

TEST(GpuOpencl, RulesAndDeriveNeedNoDevice) {
  Folder folder;
  expect_passes("QUERN_TEST_WORDS='no OpenCL device' OCL_ICD_VENDORS=" + folder.path.string(), "GpuOpencl.DISABLED_WithoutDevice");
}

// The plugin has to load where libOpenCL.so.1 is missing. (This program has it through oneDNN, so its absence can't be tried from here.)
TEST(GpuOpencl, DoesNotLinkToOpenCl) {
  const char* build = std::getenv("QUERN_BUILD_DIR");
  const std::string needed = output_of("readelf -d '" + std::string(build ? build : ".") + "/lib/quern/plugins/gpu_opencl.so'");
  if (needed.find("NEEDED") == std::string::npos) GTEST_SKIP() << "readelf does not run here";
  EXPECT_EQ(needed.find("libOpenCL"), std::string::npos) << needed;
}

TEST(GpuOpencl, TheDeviceIsChosenByNameOrIndex) {
  REQUIRE_DEVICE();
  expect_passes("QUERN_OPENCL_DEVICE=0", "GpuOpencl.DISABLED_Runs");
  expect_passes("QUERN_OPENCL_DEVICE='" + gpu().reason().substr(0, 6) + "'", "GpuOpencl.DISABLED_Runs");
  for (const char* wrong : {"99", "99999999999999999999", "no such device"})
    expect_passes(std::string("QUERN_TEST_WORDS='the devices are: 0: ' QUERN_OPENCL_DEVICE='") + wrong + "'", "GpuOpencl.DISABLED_WithoutDevice");
}

TEST(GpuOpencl, UnknownProfilesAreRefused) {
  const auto& t = gpu().target();
  int32_t yes = 1;
  EXPECT_NE(t.available(t.self, {"opencl9", 7}, &yes, nullptr), nullptr);
}

TEST(GpuOpencl, DISABLED_Runs) {
  const Result r = gpu().run(product(5, 3, u8(0.5f, 7), 9, 2));
  EXPECT_EQ(r.error, "");
  EXPECT_EQ(r.floats, std::vector<float>(6, 10.f));
}

TEST(GpuOpencl, ProgramsAreCachedAndDamageIsNoHarm) {
  REQUIRE_DEVICE();
  Folder folder;
  const std::string environment = "QUERN_CACHE_DIR=" + folder.path.string();
  const auto files = [&] {
    std::vector<fs::path> all;
    for (const auto& e : fs::recursive_directory_iterator(folder.path))
      if (e.is_regular_file()) all.push_back(e.path());
    return all;
  };
  const auto content = [](const fs::path& p) {
    std::ifstream f(p, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(f), {});
  };
  expect_passes(environment, "GpuOpencl.DISABLED_Runs");
  ASSERT_EQ(files().size(), 1u);
  const fs::path file = files()[0];
  const std::string good = content(file);
  const auto time = fs::last_write_time(file);
  expect_passes(environment, "GpuOpencl.DISABLED_Runs");
  EXPECT_EQ(fs::last_write_time(file), time) << "the second process wrote it again";
  std::string flipped = good, header = good;
  flipped[flipped.size() - 7] ^= 1;
  header[3] ^= 1;
  for (const std::string& damaged : {flipped, header, good.substr(0, good.size() / 2), std::string(), std::string(100, 'x')}) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << damaged;
    expect_passes(environment, "GpuOpencl.DISABLED_Runs");
    EXPECT_EQ(content(file).size(), good.size()) << "a damaged file was not replaced";
  }
  // What others may write is not run, and replaced.
  fs::permissions(file, fs::perms::all);
  expect_passes(environment, "GpuOpencl.DISABLED_Runs");
  EXPECT_EQ(fs::status(file).permissions() & fs::perms::others_write, fs::perms::none);
  // No place to write: only the cache is lost.
  expect_passes("QUERN_CACHE_DIR=/dev/full/cache", "GpuOpencl.DISABLED_Runs");
  EXPECT_EQ(files().size(), 1u);
}

// Every access and every race of the kernels, on small shapes. oclgrind 21.10 may crash in its own destructors at the end of the process, so the
// exit status says nothing.
TEST(GpuOpencl, OclgrindFindsNothing) {
  std::string library;
  for (const char* place : {"/usr/lib/oclgrind/liboclgrind-rt-icd.so", "/usr/lib/x86_64-linux-gnu/oclgrind/liboclgrind-rt-icd.so"})
    if (fs::exists(place)) library = place;
  if (library.empty()) GTEST_SKIP() << "oclgrind is not installed";
  Folder folder;
  const fs::path log = folder.path / "log";
  expect_passes("OCL_ICD_VENDORS=" + library + " OCLGRIND_DATA_RACES=1 OCLGRIND_LOG=" + log.string() + " QUERN_CACHE_DIR=" + folder.path.string() + " QUERN_TEST_ROUNDS=3",
                "Targets/Simulated.*/gpu_opencl:-*ProductsOfTwo*", false);
  ASSERT_TRUE(fs::exists(log));  // oclgrind was there
  std::ifstream found(log);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(found), {}), "");
}

}  // namespace
}  // namespace cpu_test
