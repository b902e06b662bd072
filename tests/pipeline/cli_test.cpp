// The command as users and scripts meet it: exit codes, messages, and that nothing half-written is left behind.
#include <gtest/gtest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <set>
#include <cmath>
#include <thread>

#include "core/base/json.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

using namespace testing_tiny;

struct Outcome { int code = -1; std::string out, err; };

// Starts the built command with its output in files; `interrupt_on`: SIGINT as soon as this text stands in its stderr.
Outcome quern_command(const std::vector<std::string>& arguments, const fs::path& folder, const std::vector<std::string>& environment = {},
                      const std::string& interrupt_on = "", int signal = SIGINT) {
  const fs::path out = folder / ".stdout", err = folder / ".stderr";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const std::string program = (build_folder() / "bin" / "quern").string();
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv, envp;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  std::vector<std::string> variables = environment;
  for (char** e = environ; *e; ++e) variables.emplace_back(*e);  // the first of a name wins
  for (auto& v : variables) envp.push_back(v.data());
  envp.push_back(nullptr);
  pid_t pid = 0;
  const int started = posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  Outcome result;
  if (started != 0) { ADD_FAILURE() << "can't start " << program; return result; }
  if (!interrupt_on.empty()) {
    for (int i = 0; i < 20000 && read_text(err).find(interrupt_on) == std::string::npos; ++i) {
      siginfo_t ended{};
      if (::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == pid) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ::kill(pid, signal);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  result.out = read_text(out);
  result.err = read_text(err);
  fs::remove(out);
  fs::remove(err);
  return result;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& e : fs::recursive_directory_iterator(folder)) names.insert(e.path().lexically_relative(folder).string());
  return names;
}

class Cli : public ::testing::Test {
 protected:
  Folder folder;
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(folder.path);
  }
  std::string at(const std::string& name) const { return (folder.path / name).string(); }
  void replace(const std::string& from, const std::string& to) {
    std::string text = read_text(folder.path / "c.yaml");
    const size_t p = text.find(from);
    ASSERT_NE(p, std::string::npos);
    write_file(folder.path / "c.yaml", std::string_view(text.replace(p, from.size(), to)));
  }
  // Fails with the code, says all the words, and leaves the folder as it was.
  void expect_failure(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& words,
                      const std::vector<std::string>& environment = {}) {
    const auto before = names_in(folder.path);
    const Outcome r = quern_command(arguments, folder.path, environment);
    EXPECT_EQ(r.code, code) << r.err;
    for (const auto& w : words) EXPECT_NE(r.err.find(w), std::string::npos) << "no '" << w << "' in: " << r.err;
    EXPECT_EQ(r.err.find("internal"), std::string::npos) << r.err;
    EXPECT_EQ(names_in(folder.path), before);
  }
};

TEST_F(Cli, HelpVersionAndUnknownWords) {
  EXPECT_EQ(quern_command({"--help"}, folder.path).code, 0);
  EXPECT_EQ(quern_command({"--version"}, folder.path).out, "0.1.0\n");
  expect_failure({"quantise"}, 2, {"no verb 'quantise'", "did you mean 'quantize'"});
  expect_failure({}, 2, {"subcommand is required"});
  expect_failure({"quantize"}, 2, {"config is required"});
  expect_failure({"quantize", at("c.yaml"), "--thread", "x"}, 2, {"no option '--thread'", "did you mean '--threads'", "quern quantize --help"});
  expect_failure({"run", at("model.onnx"), "--inputs", at("data.npz"), "--outputs", at("o.npz"), "--as", "flaot"}, 2, {"did you mean 'float'"});
  expect_failure({"schema", "rule"}, 2, {"did you mean 'rules'"});
}

TEST_F(Cli, TheHelpIsQuick) {
  quern_command({"--help"}, folder.path);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    quern_command({"--help"}, folder.path);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  if (std::getenv("QUERN_SANITIZED")) GTEST_SKIP() << "a sanitizer's own start takes longer";
  EXPECT_LT(best, 0.3);  // 0.02 s on a quiet machine; room for a busy one
}

TEST_F(Cli, ModelsThatAreNotThere) {
  expect_failure({"quantize", at("absent.yaml")}, 7, {"absent.yaml"});
  expect_failure({"quantize", folder.path.string()}, 3, {"is a folder"});
  replace("model: model.onnx", "model: absent.onnx");
  expect_failure({"quantize", at("c.yaml")}, 3, {"c.yaml:2:8", "absent.onnx"});
  expect_failure({"inspect", at("absent.onnx")}, 4, {"no such model"});
}

TEST_F(Cli, BrokenModels) {
  const std::string whole = read_text(folder.path / "model.onnx");
  write_file(folder.path / "model.onnx", std::string_view(whole).substr(0, whole.size() / 2));
  expect_failure({"quantize", at("c.yaml")}, 4, {"model.onnx"});
  std::string noise(5000, '\0');
  Noise n{3};
  for (char& c : noise) c = static_cast<char>(n.next() * 127);
  write_file(folder.path / "model.onnx", std::string_view(noise));
  expect_failure({"quantize", at("c.yaml")}, 4, {"model.onnx"});
  write_file(folder.path / "model.onnx", std::string_view(""));
  expect_failure({"quantize", at("c.yaml")}, 4, {"model.onnx"});
}

TEST_F(Cli, BadData) {
  const auto with = [&](Tensor x) { write_npz(folder.path / "data.npz", {{"x_calib", x}, {"x_eval", x}, {"y_eval", labels(x.dims()[0])}}); };
  Noise n{1};
  Tensor t = n.tensor({6, 3, 8, 8});
  t.mutable_values<float>()[static_cast<size_t>(2 * 192 + 5)] = NAN;
  with(t);
  expect_failure({"quantize", at("c.yaml")}, 5, {"x", "2"});
  t = n.tensor({6, 3, 8, 8});
  t.mutable_values<float>()[static_cast<size_t>(4 * 192)] = INFINITY;
  with(t);
  expect_failure({"quantize", at("c.yaml")}, 5, {"4"});
  with(n.tensor({0, 3, 8, 8}));
  expect_failure({"quantize", at("c.yaml")}, 5, {});
  with(n.tensor({6, 3, 8, 9}));
  expect_failure({"quantize", at("c.yaml")}, 5, {"x"});
  with(n.tensor({6, 8, 8}));
  expect_failure({"quantize", at("c.yaml")}, 5, {"x"});
  write_file(folder.path / "data.npz", std::string_view("not a zip"));
  expect_failure({"quantize", at("c.yaml")}, 5, {"data.npz"});
  fs::remove(folder.path / "data.npz");
  expect_failure({"quantize", at("c.yaml")}, 7, {"data.npz"});
}

TEST_F(Cli, RawDataOfAnUnknownType) {
  write_file(folder.path / "x.raw", std::string_view("0123456789"));
  replace("{reader: npz, path: data.npz, inputs: {x: x_calib}}", "{reader: raw, inputs: {x: {path: x.raw, dtype: int7, shape: [3, 8, 8]}}}");
  const Outcome r = quern_command({"quantize", at("c.yaml")}, folder.path);
  EXPECT_TRUE(r.code == 3 || r.code == 5) << r.code << r.err;
  EXPECT_NE(r.err.find("int7"), std::string::npos) << r.err;
  replace("int7", "float32");
  expect_failure({"quantize", at("c.yaml")}, 5, {"x.raw"});  // 10 bytes are no whole sample
}

TEST_F(Cli, WrongNamesInTheDataSection) {
  replace("inputs: {x: x_calib}", "inputs: {input: x_calib}");
  const Outcome r = quern_command({"quantize", at("c.yaml")}, folder.path);
  EXPECT_TRUE(r.code == 3 || r.code == 5) << r.code << r.err;
  EXPECT_NE(r.err.find("input"), std::string::npos) << r.err;
  replace("inputs: {input: x_calib}", "inputs: {x: x_cailb}");
  const Outcome s = quern_command({"quantize", at("c.yaml")}, folder.path);
  EXPECT_TRUE(s.code == 3 || s.code == 5) << s.code << s.err;
  EXPECT_NE(s.err.find("x_calib"), std::string::npos) << s.err;
}

TEST_F(Cli, ConfigurationErrorsHaveAPlaceAndASuggestion) {
  replace("metric: top1", "metrik: top1");
  expect_failure({"quantize", at("c.yaml")}, 3, {"c.yaml:7:1", "did you mean 'metric'"});
  replace("metrik: top1", "metric: top1\npipeline: [quantize, bias_corection]");
  expect_failure({"quantize", at("c.yaml")}, 3, {"c.yaml:8:", "bias_corection", "did you mean 'bias_correction'"});
  replace("bias_corection", "bias_correction: {mod: fast}");
  expect_failure({"quantize", at("c.yaml")}, 3, {"c.yaml:8:", "did you mean 'mode'"});
  replace("bias_correction: {mod: fast}", "bias_correction");
  expect_failure({"quantize", at("c.yaml"), "--preset", "mixd"}, 3, {"did you mean 'mixed'"});
  expect_failure({"quantize", at("c.yaml"), "--set", "pipeline.quantize.activations.range=min_mx"}, 3, {"min_mx", "did you mean 'min_max'"});
  expect_failure({"quantize", at("c.yaml"), "--set", "pipeline.quantize.pin=[nowhere]"}, 3, {"nowhere"});
  expect_failure({"evaluate", at("c.yaml"), "--as", "float", "--model", at("absent.onnx")}, 4, {"absent.onnx"});
}

TEST_F(Cli, MissingAndBrokenPlugins) {
  expect_failure({"quantize", at("c.yaml"), "--target", "cpv"}, 6, {"cpv", "did you mean 'cpu'"});
  write_file(folder.path / "broken.so", std::string_view("text"));
  expect_failure({"quantize", at("c.yaml")}, 6, {}, {"QUERN_PLUGIN_ONLY=" + at("broken.so")});
  const Outcome r = quern_command({"plugins", "--json"}, folder.path, {"QUERN_PLUGIN_ONLY=" + at("broken.so")});
  EXPECT_EQ(r.code, 0) << r.err;
  const json::value list = parse_json(r.out, "stdout");
  ASSERT_EQ(list.as_array().size(), 1u) << r.out;
  EXPECT_EQ(list.at(0).at("state"), "rejected");
  EXPECT_FALSE(list.at(0).at("reason").as_string().empty());
}

TEST_F(Cli, PlacesThatCantBeWritten) {
  write_file(folder.path / "file", std::string_view("x"));
  expect_failure({"quantize", at("c.yaml"), "-o", at("file")}, 7, {"file"});
  expect_failure({"quantize", at("c.yaml"), "-o", at("file") + "/deeper/out"}, 7, {"file"});
  expect_failure({"quantize", at("c.yaml"), "-o", "/proc/quern-out"}, 7, {"/proc"});
  expect_failure({"run", at("model.onnx"), "--inputs", at("absent.npz"), "--outputs", at("o.npz")}, 7, {"absent.npz"});
}

TEST_F(Cli, AFailureLeavesNoParentFoldersAndKeepsAnOldResult) {
  replace("metric: top1", "metric: top1\npipeline: [{quantize: {pin: [nowhere]}}]");
  expect_failure({"quantize", at("c.yaml"), "-o", at("new/deep/out")}, 3, {});
  fs::create_directory(folder.path / "out");
  write_file(folder.path / "out" / "report.json", std::string_view("kept"));
  expect_failure({"quantize", at("c.yaml")}, 7, {"report.json", "no result of Quern"});
  EXPECT_EQ(read_text(folder.path / "out" / "report.json"), "kept");
}

TEST_F(Cli, SomebodysOwnFilesStay) {
  fs::create_directory(folder.path / "out");
  write_file(folder.path / "out" / "thesis.tex", std::string_view("years of work"));
  for (int round = 0; round < 2; ++round) {  // the second replaces the result of the first
    const Outcome r = quern_command({"quantize", at("c.yaml")}, folder.path);
    EXPECT_EQ(r.code, 0) << r.err;
  }
  EXPECT_EQ(read_text(folder.path / "out" / "thesis.tex"), "years of work");
  EXPECT_EQ(names_in(folder.path / "out").size(), 7u);  // four results, two files of the package, the thesis
  // The float model would be replaced by the quantized one.
  expect_failure({"quantize", at("c.yaml"), "-o", folder.path.string()}, 7, {"model.onnx", "no result of Quern"});
}

TEST_F(Cli, CtrlCLeavesNothing) {
  write_tiny(folder.path, 3000, 4, 24, 48);
  const auto before = names_in(folder.path);
  for (const int signal : {SIGINT, SIGTERM}) {
    const Outcome r = quern_command({"quantize", at("c.yaml"), "-o", at("new/out"), "--threads", "2"}, folder.path, {}, "check rewrite", signal);
    EXPECT_EQ(r.code, 130) << r.err;
    EXPECT_NE(r.err.find("interrupted"), std::string::npos) << r.err;
    EXPECT_EQ(names_in(folder.path), before);
  }
}

TEST_F(Cli, DryRunRunsNothingAndWritesNothing) {
  const auto before = names_in(folder.path);
  const Outcome r = quern_command({"quantize", at("c.yaml"), "--dry-run", "--json"}, folder.path);
  ASSERT_EQ(r.code, 0) << r.err;
  const json::value plan = parse_json(r.out, "stdout");
  EXPECT_EQ(plan.at("target"), "cpu");
  EXPECT_GT(plan.at("units").as_int64(), 0);
  EXPECT_EQ(plan.at("stages").as_array().size(), 3u);
  EXPECT_EQ(names_in(folder.path), before);
}

TEST_F(Cli, TheWholeWayInJson) {
  Outcome r = quern_command({"quantize", at("c.yaml"), "--json"}, folder.path);
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(std::string(parse_json(r.out, "stdout").at("output").as_string()), at("out"));
  for (const char* name : {"model.onnx", "package/index.json", "report.json", "effective.yaml"}) EXPECT_TRUE(fs::exists(folder.path / "out" / name)) << name;
  r = quern_command({"evaluate", at("c.yaml"), "--model", at("out"), "--as", "simulated", "--json"}, folder.path);
  ASSERT_EQ(r.code, 0) << r.err;
  json::value v = parse_json(r.out, "stdout");
  for (const char* key : {"metric", "value", "samples", "seconds"}) EXPECT_TRUE(v.as_object().contains(key)) << r.out;
  EXPECT_EQ(v.at("samples"), 6);
  r = quern_command({"explain", at("c.yaml")}, folder.path);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_NE(r.out.find("Conv_node"), std::string::npos);
  r = quern_command({"inspect", at("out"), "--json"}, folder.path);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(parse_json(r.out, "stdout").at("target"), "cpu");
  r = quern_command({"schema", "config"}, folder.path);
  EXPECT_EQ(parse_json(r.out, "stdout").at("type"), "object");

  r = quern_command({"verify", at("out"), "--json"}, folder.path);
  if (r.code == 6) GTEST_SKIP() << "this machine can't run the cpu target: " << r.err;
  ASSERT_EQ(r.code, 0) << r.err;
  v = parse_json(r.out, "stdout");
  for (const char* key : {"tensors", "elements", "mismatches", "coverage_nodes", "coverage_macs", "first"}) EXPECT_TRUE(v.as_object().contains(key)) << r.out;
  EXPECT_EQ(v.at("mismatches"), 0);
  EXPECT_TRUE(v.at("first").is_null());
  r = quern_command({"bench", at("out"), "--as", "integer", "--seconds", "0.05", "--json"}, folder.path);
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_GT(parse_json(r.out, "stdout").at("median_ms").to_number<double>(), 0);
}

TEST_F(Cli, TooLittleCoverageFailsTheVerification) {
  ASSERT_EQ(quern_command({"quantize", at("c.yaml"), "--set", "pipeline=[quantize]", "--set", "pipeline.quantize.ignored={operations: [Conv]}"}, folder.path).code, 0);
  const Outcome r = quern_command({"verify", at("out")}, folder.path);
  if (r.code == 6) GTEST_SKIP() << "this machine can't run the cpu target: " << r.err;
  EXPECT_EQ(r.code, 8) << r.err;
  EXPECT_NE(r.err.find("--min-coverage"), std::string::npos) << r.err;
  EXPECT_EQ(quern_command({"verify", at("out"), "--min-coverage", "0"}, folder.path).code, 0);
}

TEST_F(Cli, DamagedResults) {
  ASSERT_EQ(quern_command({"quantize", at("c.yaml")}, folder.path).code, 0);
  const fs::path data = folder.path / "out" / "package" / "data.bin";
  std::string bytes = read_text(data);
  bytes[bytes.size() / 2] ^= 1;
  write_file(data, std::string_view(bytes));
  expect_failure({"verify", at("out")}, 4, {"package"});
  fs::remove_all(folder.path / "out" / "package");
  expect_failure({"verify", at("out")}, 2, {"no package"});
  expect_failure({"evaluate", at("c.yaml"), "--model", at("model.onnx"), "--as", "integer"}, 2, {"only a folder"});
}

TEST_F(Cli, RunFeedsNamedArrays) {
  Noise n{5};
  const Tensor x = n.tensor({4, 3, 8, 8});
  const auto inputs = [&](const std::string& name, const Tensor& t) { write_npz(folder.path / "in.npz", {{name, t}}); };
  const std::vector<std::string> base{"run", at("model.onnx"), "--inputs", at("in.npz"), "--outputs", at("o.npz")};
  const auto with = [&](std::vector<std::string> more) { auto all = base; all.insert(all.end(), more.begin(), more.end()); return all; };
  inputs("x", x);
  ASSERT_EQ(quern_command(base, folder.path).code, 0);
  const Tensor batch = Npz(folder.path / "o.npz").read("Gemm_node_out");
  ASSERT_EQ(batch.dims(), (Dims{4, 4}));
  ASSERT_EQ(quern_command(with({"--each", "--tap", "Add_node_out", "--tap", "Conv_node_out"}), folder.path).code, 0);
  Npz each(folder.path / "o.npz");
  ASSERT_EQ(each.read("Gemm_node_out").dims(), (Dims{4, 4}));
  EXPECT_EQ(each.read("Add_node_out").dims(), (Dims{4, 8, 8, 8}));
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(each.read("Gemm_node_out").values<float>()[i], batch.values<float>()[i], 1e-5);
  // A row of the input's whole rank is fed as it is, and its outputs keep their axes.
  inputs("x", x.reshaped({4, 1, 3, 8, 8}));
  ASSERT_EQ(quern_command(with({"--each"}), folder.path).code, 0);
  EXPECT_EQ(Npz(folder.path / "o.npz").read("Gemm_node_out").dims(), (Dims{4, 1, 4}));
  fs::remove(folder.path / "o.npz");

  expect_failure(with({"--tap", "Add_node_ou"}), 2, {"did you mean 'Add_node_out'"});
  inputs("y", x);
  expect_failure(base, 5, {"no input 'y'"});
  inputs("x", n.tensor({4, 3, 8}));
  expect_failure(base, 5, {"x"});
  inputs("x", Tensor(DType::s64, {4, 3, 8, 8}));
  expect_failure(base, 5, {"x"});
}

TEST_F(Cli, ALocaleWithDecimalCommasChangesNothing) {
  ASSERT_EQ(quern_command({"quantize", at("c.yaml")}, folder.path).code, 0);
  const std::string model = read_text(folder.path / "out" / "model.onnx"), index = read_text(folder.path / "out" / "package" / "index.json");
  ASSERT_EQ(quern_command({"quantize", at("c.yaml")}, folder.path, {"LC_ALL=de_DE.UTF-8", "LANG=de_DE.UTF-8", "LC_NUMERIC=de_DE.UTF-8"}).code, 0);
  EXPECT_EQ(read_text(folder.path / "out" / "model.onnx"), model);
  EXPECT_EQ(read_text(folder.path / "out" / "package" / "index.json"), index);
}

}  // namespace
}  // namespace quern
