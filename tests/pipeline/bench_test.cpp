// `quern bench`: paced runs and the profile.
#include <cstdio>

#include "core/base/json.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

using namespace testing_tiny;

struct Outcome { int code = -1; std::string out; };

Outcome shell(const std::string& command) {
  Outcome r;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return r;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) r.out.append(buffer, n);
  const int status = ::pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return r;
}

class Bench : public ::testing::Test {
 protected:
  Folder folder;
  std::string quern, model;
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(folder.path);
    quern = (build_folder() / "bin" / "quern").string() + " bench ";
    model = (folder.path / "model.onnx").string();
  }
};

TEST_F(Bench, PacedRunsWhenTold) {
  const Outcome r = shell("printf '3\n1\n' | " + quern + model + " --paced");
  ASSERT_EQ(r.code, 0) << r.out;
  std::vector<json::value> lines;
  for (size_t at = 0; at < r.out.size();) {
    const size_t end = r.out.find('\n', at);
    lines.push_back(parse_json(r.out.substr(at, end - at), "stdout"));
    at = end + 1;
  }
  ASSERT_EQ(lines.size(), 3u) << r.out;
  EXPECT_GT(lines[0].at("first_ms").to_number<double>(), 0);
  EXPECT_EQ(lines[1].at("ms").as_array().size(), 3u);
  EXPECT_EQ(lines[2].at("ms").as_array().size(), 1u);
  for (size_t i : {1u, 2u}) EXPECT_GT(lines[i].at("cpu_ms").to_number<double>(), 0);
}

TEST_F(Bench, PacedRefusesWhatIsNoNumber) {
  for (const char* word : {"0", "-1", "two", "3 ", "1000001", ""}) {
    const Outcome r = shell("printf '%s\n' '" + std::string(word) + "' | " + quern + model + " --paced");
    EXPECT_EQ(r.code, 2) << word;
    EXPECT_NE(r.out.find("'" + std::string(word) + "' is no number of runs"), std::string::npos) << r.out;
  }
  EXPECT_EQ(shell(quern + model + " --paced --profile").code, 2);
}

TEST_F(Bench, InputsAreThoseOfTheFile) {
  write_npz(folder.path / "in.npz", {{"x", Noise{1}.tensor({2, 3, 8, 8})}});
  const std::string in = (folder.path / "in.npz").string();
  EXPECT_EQ(shell(quern + model + " --inputs " + in + " --seconds 0.02 --json").code, 0);
  const Outcome missing = shell(quern + model + " --inputs " + (folder.path / "no.npz").string());
  EXPECT_NE(missing.code, 0);
  EXPECT_NE(missing.out.find("no.npz"), std::string::npos) << missing.out;
}

TEST_F(Bench, ProfileAddsUp) {
  const Outcome r = shell(quern + model + " --profile --seconds 0.1 --json");
  ASSERT_EQ(r.code, 0) << r.out;
  const json::value v = parse_json(r.out, "stdout");
  double steps = v.at("outputs_ms").to_number<double>() + v.at("between_ms").to_number<double>();
  int64_t macs = 0;
  bool turned = false;
  for (const auto& s : v.at("steps").as_array()) {
    steps += s.at("ms").to_number<double>() + s.at("copy_ms").to_number<double>();
    macs += s.at("macs").as_int64();
    for (const auto& c : s.at("copies").as_array()) turned = turned || c.at("turns").as_bool();
  }
  const double total = v.at("total_ms").to_number<double>();
  EXPECT_NEAR(steps, total, 1e-6 * total);
  EXPECT_EQ(macs, 64 * 8 * 27 + 64 * 8 * 9 + 4 * 8);
  EXPECT_TRUE(turned) << "the input has to become channels last";
  EXPECT_GT(v.at("peak").at("f32_gops").to_number<double>(), 1);
  EXPECT_GT(v.at("peak").at("int8_gops").to_number<double>(), 1);

  const Outcome text = shell(quern + model + " --profile --seconds 0.05");
  ASSERT_EQ(text.code, 0);
  for (const char* word : {"peak of 1 thread", "layout copy", "copy of results", "onednn.conv", "Conv_node", "us in all"})
    EXPECT_NE(text.out.find(word), std::string::npos) << word << " is not in " << text.out;
}

}  // namespace
}  // namespace quern
