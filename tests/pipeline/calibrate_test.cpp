// Statistics by way of files give the bytes of one run: whole, in shards, over several rounds, for several targets.
#include "core/pipeline/calibrate.hpp"

#include <gmock/gmock.h>

#include "core/report/report.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {
using namespace testing_tiny;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(e.what()) + " | " + e.hint_text();
  }
  return "no error";
}

// Every file of a result, but what may differ between two runs.
std::map<std::string, std::string> written(std::vector<Config>& configs, const std::vector<RunResult>& results, const fs::path& to) {
  std::map<std::string, std::string> out;
  for (size_t i = 0; i < configs.size(); ++i) {
    OutputFolder folder(to);
    write_output(configs[i], results[i], folder);
    for (const auto& entry : fs::recursive_directory_iterator(to)) {
      if (!entry.is_regular_file()) continue;
      std::string text = read_text(entry.path());
      if (entry.path().filename() == "report.json") {
        json::value report = parse_json(text, "report");
        report.as_object().erase("timing");
        text = to_text(report);
      }
      out[std::to_string(i) + fs::relative(entry.path(), to).string()] = text;
    }
    fs::remove_all(to);
  }
  return out;
}

struct Calibrating : ::testing::Test {
  Folder f;
  std::vector<std::string> set;
  std::string target;
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(f.path, 40, 6);
  }
  std::vector<Config> configs(const std::vector<std::string>& more = {}) {
    std::vector<std::string> all = set;
    all.insert(all.end(), more.begin(), more.end());
    return load_configs(f.path / "c.yaml", {.target = target, .output = f.path / "out", .set = all});
  }
  std::map<std::string, std::string> quantized(StatisticsJob* job, int threads = 1) {
    auto c = configs();
    PluginRegistry registry(built_plugins());
    const auto results = quantize(c, registry, {.threads = threads, .statistics = job});
    return written(c, results, f.path / "written");
  }
  Calibration shard(int64_t i, int64_t n, const StatisticsJob* before = nullptr) {
    auto c = configs();
    PluginRegistry registry(built_plugins());
    return calibrate(c, registry, {.threads = 1 + static_cast<int>(i % 2)}, {i, n}, before);
  }
  // As many rounds as it takes.
  StatisticsFile by_shards(int64_t n, int& rounds) {
    std::optional<StatisticsJob> before;
    for (rounds = 1;; ++rounds) {
      std::optional<StatisticsFile> all;
      bool complete = true;
      for (int64_t k = 0; k < n; ++k) {
        Calibration c = shard((k * 7 + 3) % n, n, before ? &*before : nullptr);
        complete = complete && c.complete;
        if (all) all->merge(std::move(c.file), "shard");
        else all = std::move(c.file);
      }
      if (complete) return std::move(*all);
      before.emplace(std::move(*all), "round");
    }
  }
  void same_bytes() {
    const auto one_run = quantized(nullptr);
    ASSERT_FALSE(one_run.empty());
    const std::string whole = shard(0, 1).file.serialize();
    StatisticsJob job(StatisticsFile::deserialize(whole, "whole"), "whole");
    fs::rename(f.path / "data.npz", f.path / "all.npz");  // no calibration data here any more
    {
      const Npz all(f.path / "all.npz");
      write_npz(f.path / "data.npz", {{"x_eval", all.read("x_eval")}, {"y_eval", all.read("y_eval")}});
    }
    EXPECT_EQ(quantized(&job, 2), one_run);
    fs::rename(f.path / "all.npz", f.path / "data.npz");
    for (int64_t n : {2, 5}) {
      int rounds = 0;
      EXPECT_EQ(by_shards(n, rounds).serialize(), whole) << n;
      EXPECT_LE(rounds, 2);
    }
  }
};

TEST_F(Calibrating, TheDefaultPipeline) { same_bytes(); }

TEST_F(Calibrating, FullBiasCorrectionWithOtherSamples) {
  set = {"pipeline.bias_correction={mode: full, samples: 7}"};
  same_bytes();
}

TEST_F(Calibrating, RangesOfSamplesAndAFileForARuntime) {
  set = {"pipeline.quantize.activations.range={estimator: pot, max: {type: quantile, aggregator: mean, outlier_prob: 1.0e-3}}", "export.qdq=[plain, ort]"};
  same_bytes();
}

TEST_F(Calibrating, SeveralTargetsFromOneFile) {
  target = "cpu,vpu_sim";
  const auto one_run = quantized(nullptr);
  StatisticsJob job(shard(0, 1).file, "both");
  EXPECT_EQ(quantized(&job), one_run);
  target = "vpu_sim";
  const auto alone = quantized(nullptr);
  StatisticsJob again(job);
  EXPECT_EQ(quantized(&again), alone);
}

TEST_F(Calibrating, NoDataIsNeeded) {
  const auto c = shard(0, 1);
  ASSERT_TRUE(c.complete);
  StatisticsJob job(c.file, "s.qstat");
  const std::string text = read_text(f.path / "c.yaml");
  const size_t from = text.find("  calibration:"), to = text.find("  evaluation:");
  write_file(f.path / "c.yaml", std::string_view(text.substr(0, from) + text.substr(to)));
  const auto files = quantized(&job);
  EXPECT_TRUE(files.count("0model.onnx"));
}

TEST_F(Calibrating, WhatDoesNotFitIsNamed) {
  const StatisticsFile whole = shard(0, 1).file;
  const auto with = [&](StatisticsFile file) {
    StatisticsJob job(std::move(file), "s.qstat");
    return error_of([&] { quantized(&job); });
  };
  EXPECT_EQ(with(whole), "no error");
  StatisticsFile other = whole;
  other.provenance["model"] = "abc";
  EXPECT_THAT(with(other), AllOf(HasSubstr("s.qstat"), HasSubstr("another model"), HasSubstr("abc")));
  other = whole;
  other.provenance["preprocessing"] = "{\"mean\":3}";
  EXPECT_THAT(with(other), AllOf(HasSubstr("another preprocessing"), HasSubstr("mean")));
  other = whole;
  other.kept.erase(5);
  EXPECT_THAT(with(other), AllOf(HasSubstr("lacks sample 5"), HasSubstr("merge")));
  other = whole;
  other.passes.pop_back();
  EXPECT_THAT(with(other), AnyOf(HasSubstr("has no pass over the network"), HasSubstr("lacks what statistics needs")));
  EXPECT_THAT(with(shard(0, 2).file), HasSubstr("20 of 40 samples"));
  set = {"pipeline.quantize.activations.range={estimator: pot, max: {type: quantile, outlier_prob: 1.0e-3}}"};
  EXPECT_THAT(with(whole), AllOf(HasSubstr("lacks what"), HasSubstr("sample_")));
  set = {};
  EXPECT_THAT(error_of([&] { shard(0, 41); }), HasSubstr("41 shards of 40 samples"));
}

TEST_F(Calibrating, ARoundOfAnotherModelIsRefused) {
  StatisticsFile first = shard(0, 2).file;
  first.merge(shard(1, 2).file, "second");
  first.provenance["data"] = "abc";
  const StatisticsJob before(std::move(first), "round1.qstat");
  EXPECT_THAT(error_of([&] { shard(0, 2, &before); }), AllOf(HasSubstr("round1.qstat"), HasSubstr("abc")));
}

}  // namespace
}  // namespace quern
