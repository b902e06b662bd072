#include "core/pipeline/pot_config.hpp"

#include <gtest/gtest.h>

#include "core/pipeline/config.hpp"

namespace quern {
namespace {

const char* const smallest = R"({ "model": {"model_name": "m", "model": "m.xml", "weights": "m.bin"},   // paths
  "engine": {"type": "simplified", "data_source": "imgs", "layout": "NCHW"},
  "compression": { "target_device": "CPU",
    "algorithms": [ {"name": "DefaultQuantization", "params": {
        "preset": "mixed", "stat_subset_size": 300, "use_fast_bias": true,
        "ignored": {"scope": ["conv7"], "operations": [{"type": "Add"}]},
        "weights": {"bits": 8, "mode": "symmetric", "granularity": "perchannel"},
        "activations": {"range_estimator": {"max": {"aggregator": "mean", "type": "quantile", "outlier_prob": 0.0001}}},
    } } ] } }   /* trailing comma above is accepted */
)";

Config load(const std::string& text, const std::string& name = "pot.json") { return load_config_text(text, name, "/data/net"); }

// A file of one algorithm with these parameters.
std::string with(const std::string& params, const std::string& algorithm = "DefaultQuantization") {
  return R"({"model": {"model": "m.onnx"}, "engine": {"type": "simplified", "data_source": "imgs"},
"compression": {"algorithms": [{"name": ")" + algorithm + R"(", "params": {
)" + params + "\n}}]}}";
}
std::string with_parts(const std::string& model, const std::string& engine, const std::string& compression) {
  return "{\"model\": {" + model + "},\n\"engine\": {" + engine + "},\n\"compression\": {" + compression + "}}";
}
const char* const a_model = R"("model": "m.onnx")";
const char* const an_engine = R"("type": "simplified", "data_source": "imgs")";
const char* const an_algorithm = R"("algorithms": [{"name": "DefaultQuantization"}])";

std::string failure(const std::string& text, const std::string& name = "pot.json") {
  try {
    load(text, name);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config) << e.what();
    EXPECT_GT(e.line(), 0) << e.what();
    EXPECT_GT(e.column(), 0) << e.what();
    return e.what();
  }
  return "accepted";
}

TEST(PotConfig, TheSmallestFile) {
  std::string text = smallest;
  const Config c = load(text);
  EXPECT_EQ(c.model, "/data/net/m.onnx");
  EXPECT_EQ(c.output, "/data/net/results/m");
  EXPECT_EQ(c.device, "CPU");
  EXPECT_EQ(c.preset, "mixed");
  ASSERT_EQ(c.stages.size(), 3u);
  EXPECT_EQ(c.stages[0].name, "channel_alignment");
  EXPECT_EQ(c.stages[1].name, "quantize");
  EXPECT_EQ(c.stages[2].parameters.at("mode"), "fast");
  EXPECT_EQ(c.calibration->at("reader"), "images");
  EXPECT_EQ(c.calibration->at("samples"), 300);
  EXPECT_EQ(c.activation_range.estimator, "pot");
  EXPECT_EQ(c.activation_range.parameters.at("max").at("outlier_prob"), 1e-4);
  EXPECT_EQ(c.weight_range.estimator, "pot");
  EXPECT_EQ(c.placement.ignored_nodes, std::vector<std::string>{"conv7"});
  EXPECT_EQ(c.placement.ignored_ops, std::vector<std::string>{"Add"});
  ASSERT_EQ(c.placement.narrowing.weights.size(), 1u);
  EXPECT_EQ(c.placement.narrowing.weights[0].bits, 8);
}

// The native file that is written says the same, to the last default.
TEST(PotConfig, TheConvertedFileIsTheSameConfiguration) {
  for (const std::string& text : {std::string(smallest), with(R"("use_fast_bias": false, "stat_subset_size": 60, "seed": 4)"),
                                  with(R"("preset": "accuracy", "weights": {"range_estimator": {"max": {"type": "abs_quantile"}}})", "MinMaxQuantization")}) {
    const Config direct = load(text);
    const std::string yaml = to_yaml(parse_configuration(text, "pot.json").value);
    EXPECT_EQ(load(yaml, "quern.yaml").effective, direct.effective) << yaml;
  }
}

TEST(PotConfig, Accepted) {
  const struct { std::string text; const char *key, *value; } cases[] = {
      {with(""), "target.preset", "performance"},
      {with(R"("preset": "symmetric")"), "target.preset", "performance"},
      {with(R"("preset": "asymmetric")"), "target.preset", "mixed"},
      {with(R"("preset": "accuracy")"), "target.preset", "mixed"},
      {with_parts(a_model, an_engine, R"("target_device": "VPU", "algorithms": [{"name": "DefaultQuantization", "params": {"preset": "accuracy"}}])"), "target.preset", "accuracy"},
      {with_parts(a_model, an_engine, R"("target_device": "GNA3.5", "algorithms": [{"name": "DefaultQuantization", "params": {"preset": "mixed"}}])"), "target.preset", "accuracy"},
      {with_parts(a_model, an_engine, an_algorithm), "target.device", "ANY"},
      {with_parts(a_model, an_engine, R"("inplace_statistics": true, "model_type": null, "dump_intermediate_model": false, "algorithms": [{"name": "DefaultQuantization"}])"), "target.device", "ANY"},
      {with_parts(R"("model": "a/net.xml", "weights": "a/net.bin")", an_engine, an_algorithm), "model", "a/net.onnx"},
      {with_parts(R"("model": "a/net.xml")", an_engine, an_algorithm), "output", "results/net"},
      {with_parts(R"("model": "m.onnx", "output_dir": "o", "direct_dump": true)", an_engine, an_algorithm), "output", "o"},
      {with_parts(R"("cascade": [{"name": "one", "model": "n.xml", "weights": "n.bin"}])", an_engine, an_algorithm), "output", "results/one"},
      {with_parts(a_model, R"("type": "simplified", "data_source": "d", "stat_requests_number": 1, "eval_requests_number": 0)", an_algorithm), "threads", "1"},
      {with_parts(a_model, R"("type": "simplified", "data_source": "d", "central_fraction": 0.5)", an_algorithm), "data.calibration.central_fraction", "0.5"},
      {with_parts(a_model, R"("type": "quern", "data": {"calibration": {"reader": "npz", "path": "d.npz"}}, "metric": "top1")", an_algorithm), "metric", "top1"},
      {with(R"("seed": 7, "shuffle_data": false, "stat_batch_size": 1)"), "seed", "7"},
      {with(R"("stat_subset_size": 100, "use_fast_bias": false)"), "pipeline.2.bias_correction.samples", "20"},
      {with(R"("use_fast_bias": false)"), "pipeline.2.bias_correction.mode", "full"},
      {with(R"("threshold": 2.0, "apply_for_all_nodes": false, "saturation_fix": "first_layer", "use_layerwise_tuning": false)"), "pipeline.2.bias_correction.mode", "fast"},
      {with(R"("range_estimator": {"preset": "quantile"})"), "pipeline.1.quantize.activations.range.preset", "quantile"},
      {with(R"("activations": {"bits": 8, "mode": "asymmetric", "granularity": "pertensor"})"), "pipeline.1.quantize.activations.mode", "asymmetric"},
      {with(R"("weights": {"granularity": "pertensor"})"), "pipeline.1.quantize.weights.granularity", "pertensor"},
      {with(R"("ignored": {"operations": [{"type": "Convolution", "attributes": {}}]})"), "pipeline.1.quantize.ignored.operations.0", "Conv"},
      {with(R"("ignored": {"operations": [{"type": "Gemm"}], "skip_model": false})"), "pipeline.1.quantize.ignored.operations.0", "Gemm"},
      {with("", "MinMaxQuantization"), "pipeline.0.quantize.weights.range.estimator", "pot"},
  };
  for (const auto& c : cases) {
    json::value found;
    try {
      load(c.text);
      found = parse_configuration(c.text, "pot.json").value;
    } catch (const Error& e) {
      ADD_FAILURE() << e.what() << "\n" << c.text;
      continue;
    }
    std::string pointer;
    for (const char* p = c.key; *p; ++p) pointer += *p == '.' ? '/' : *p;
    boost::system::error_code missing;
    const json::value* at = found.find_pointer("/" + pointer, missing);
    ASSERT_TRUE(at) << c.key << "\n" << c.text;
    EXPECT_EQ(at->is_string() ? std::string(at->get_string()) : to_text(*at, false), c.value) << c.key;
  }
}

TEST(PotConfig, Refused) {
  const struct { std::string text; const char* words; } cases[] = {
      {with(R"("prest": "mixed")"), "pot.json:3:10: unknown key 'prest' (did you mean 'preset'?)"},
      {with(R"("preset": "mixd")"), "has no value 'mixd' (did you mean 'mixed'?)"},
      {with(R"("use_fast_bias": 1)"), "should be true or false"},
      {with(R"("stat_subset_size": 0)"), "at least 1"},
      {with(R"("stat_batch_size": 8)"), "taken by sample"},
      {with(R"("shuffle_data": true)"), "in the order wanted"},
      {with(R"("use_layerwise_tuning": true)"), "not tuned by training"},
      {with(R"("threshold": 5)"), "measured error"},
      {with(R"("saturation_fix": "all")"), "which sums can saturate"},
      {with(R"("maximal_drop": 0.01)"), "AccuracyAwareQuantization, which is not there yet"},
      {with(R"("outputs": {})"), "the target's rules"},
      {with(R"("weights": {"level_low": -127})"), "narrow them with bits and mode"},
      {with(R"("weights": {"bits": 1})"), "at least 2"},
      {with(R"("weights": {"range_estimator": {"max": {"aggregator": "mean"}}})"), "an aggregator for weights"},
      {with(R"("activations": {"granularity": "perchannel"})"), "the target's rules say"},
      {with(R"("activations": {"range_estimator": {"max": {"type": "quantil"}}})"), "did you mean 'quantile'?"},
      {with(R"("activations": {"range_estimator": {"min": {"outlier_prob": 1.5}}})"), "below 1"},
      {with(R"("ignored": {"operations": [{"type": "Add", "attributes": {"axis": 1}}]})"), "list the nodes in ignored.scope"},
      {with(R"("ignored": {"operations": [{"type": "MatMul"}]})"), "in ONNX it is Gemm and MatMul"},
      {with(R"("ignored": {"scope": [["loop", "conv"]]})"), "a path into a sub-graph"},
      {with(R"("ignored": {"skip_model": true})"), "needs no configuration"},
      {with("", "AccuracyAwareQuantization"), "the search by accuracy is not there yet"},
      {with("", "DefaultQuantisation"), "did you mean 'DefaultQuantization'?"},
      {with("", "MagnitudeSparsity"), "not pruned"},
      {with("", "FastBiasCorrection"), "before the algorithm that quantizes"},
      {with("", "ActivationChannelAlignment"), "no algorithm quantizes"},
      {with(R"("preset": "mixed", "preset": "mixed")"), "preset"},
      {with_parts(a_model, an_engine, R"("algorithms": [{"name": "DefaultQuantization"}, {"name": "MinMaxQuantization"}])"), "write one of them"},
      {with_parts(a_model, an_engine, R"("model_type": "transformer", "algorithms": [{"name": "DefaultQuantization"}])"), "preset performance"},
      {with_parts(a_model, an_engine, R"("optimizer": {"name": "Tpe"}, "algorithms": [{"name": "DefaultQuantization"}])"), "hyper-parameter search"},
      {with_parts(a_model, an_engine, R"("algorithms": [])"), "at least one algorithm"},
      {with_parts(a_model, R"("config": "ac.yml")", an_algorithm), "files of Accuracy Checker are not read"},
      {with_parts(a_model, "", an_algorithm), "data.calibration"},
      {with_parts(a_model, R"("type": "simplified")", an_algorithm), "'data_source' is missing"},
      {with_parts(a_model, R"("type": "simplified", "data_source": "d", "device": "GPU")", an_algorithm), "runs on the CPU"},
      {with_parts(R"("cascade": [{"name": "a", "model": "a.xml"}, {"name": "b", "model": "b.xml"}])", an_engine, an_algorithm), "quantize each"},
      {with_parts(R"("weights": "m.bin")", an_engine, an_algorithm), "'model' is missing"},
      {R"({"model": {"model": "m"}, "compression": {}})", "the group 'engine' is missing"},
  };
  for (const auto& c : cases) EXPECT_NE(failure(c.text).find(c.words), std::string::npos) << failure(c.text) << "\nshould say: " << c.words;
}

// What only the target or the schema can judge stands where POT's file says it.
TEST(PotConfig, LaterErrorsStandInPotsFile) {
  const std::string text = with_parts(a_model, R"("type": "quern", "data": {"calibration": {"reader": "npz", "pth": "d.npz"}})", an_algorithm);
  EXPECT_EQ(failure(text).rfind("pot.json:2:", 0), 0u) << failure(text);
  EXPECT_NE(failure(text).find("did you mean 'path'?"), std::string::npos) << failure(text);
}

TEST(PotConfig, YamlOfPotAndJsonOfOurs) {
  EXPECT_EQ(load("model: {model: m.xml}\nengine: {type: simplified, data_source: d}\ncompression:\n  algorithms:\n    - name: DefaultQuantization\n", "pot.yaml").stages.size(), 3u);
  EXPECT_EQ(load("{\"quern\": 1, // ours\n \"model\": \"m.onnx\",}", "quern.json").device, "cpu");
  EXPECT_EQ(failure("{\"quern\": 1,\n \"model\": \"m.onnx\", \"modl\": 1}", "quern.json").rfind("quern.json:2:", 0), 0u);
}

}  // namespace
}  // namespace quern
