#include "core/pipeline/config.hpp"

#include <gtest/gtest.h>

#include "core/pipeline/schema_walk.hpp"

namespace quern {
namespace {

const char* const full = R"(quern: 1
model: resnet8.onnx
target: {device: cpu, preset: mixed}
data:
  calibration: {reader: npz, path: data.npz, inputs: {input: x_calib}, samples: 300}
  evaluation:  {reader: npz, path: data.npz, inputs: {input: x_eval}, labels: y_eval}
metric: top1
pipeline:
  - channel_alignment
  - quantize: {activations: {range: {max: {type: quantile, aggregator: mean, outlier_prob: 1.0e-4}}}}
  - bias_correction: {mode: full}
output: out/
)";

Config load(const std::string& text, const ConfigOverrides& overrides = {}) { return load_config_text(text, "c.yaml", "/data/net", overrides); }

std::string failure(const std::string& text, const ConfigOverrides& overrides = {}, ErrorCode code = ErrorCode::config) {
  try {
    load(text, overrides);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "";
}
void expect_in(const std::string& whole, const std::string& part) { EXPECT_NE(whole.find(part), std::string::npos) << whole; }

TEST(Config, TheExampleOfTheDesign) {
  const Config c = load(full);
  EXPECT_EQ(c.model, "/data/net/resnet8.onnx");
  EXPECT_EQ(c.output, "/data/net/out");
  EXPECT_EQ(c.device, "cpu");
  EXPECT_EQ(c.preset, "mixed");
  ASSERT_EQ(c.stages.size(), 3u);
  EXPECT_EQ(c.stages[0].name, "channel_alignment");
  EXPECT_EQ(c.quantize_index(), 1u);
  EXPECT_EQ(c.stages[2].parameters.at("mode"), "full");
  EXPECT_EQ(c.activation_range.estimator, "pot");  // min and max blocks without a name
  EXPECT_EQ(c.activation_range.parameters.at("max").at("outlier_prob"), 1e-4);
  EXPECT_EQ(c.weight_range.estimator, default_weight_estimator);
  EXPECT_EQ(c.calibration->at("samples"), 300);
}

TEST(Config, DefaultsWhereNothingIsSaid) {
  const Config c = load("quern: 1\nmodel: m.onnx\n");
  EXPECT_EQ(c.device, "cpu");
  EXPECT_EQ(c.threads, 0);
  EXPECT_EQ(c.activation_range.estimator, default_activation_estimator);
  ASSERT_EQ(c.stages.size(), 3u);
  EXPECT_EQ(c.stages[0].name, default_alignment_stage);
  EXPECT_EQ(c.stages[1].name, "quantize");
  EXPECT_EQ(c.stages[2].name, default_bias_stage);
  EXPECT_EQ(c.output, "/data/net/out");
}

TEST(Config, UnknownKeysNameTheNearest) {
  const std::string e = failure("quern: 1\nmodel: m.onnx\ntarget:\n  device: cpu\n  presett: mixed\n");
  expect_in(e, "c.yaml:5:3: unknown key 'presett' (did you mean 'preset'?)");
  expect_in(e, "legal here: device, profile and preset");
  expect_in(failure("quern: 1\nmodel: m\npipeline:\n  - quantize: {activation: {}}\n"), "c.yaml:4:16: unknown key 'activation' (did you mean 'activations'?)");
}

TEST(Config, WrongTypesSayWhatIsExpected) {
  expect_in(failure("quern: 1\nmodel: 5\n"), "c.yaml:2:8: 'model' should be a text, not the number 5");
  expect_in(failure("quern: 1\nmodel: m\nthreads: many\n"), "c.yaml:3:10: 'threads' should be a whole number, not 'many'");
  expect_in(failure("quern: 1\nmodel: m\nthreads: 1.5\n"), "should be a whole number");
  expect_in(failure("quern: 1\nmodel: m\nthreads: -1\n"), "should be at least 0");
  expect_in(failure("quern: 1\nmodel: m\npipeline: quantize\n"), "should be a list");
  expect_in(failure("quern: 1\nmodel:\n"), "'model' should be a text, not nothing");
  expect_in(failure("quern: 2\nmodel: m\n"), "c.yaml:1:8: 'quern' should be 1");
  expect_in(failure("model: m\n"), "'quern' is missing");
  expect_in(failure("quern: 1\n"), "'model' is missing");
  expect_in(failure("quern: 1\nmodel: m\ndata: {calibration: {reader: npz, samples: 0}}\n"), "should be at least 1");
  expect_in(failure("quern: 1\nmodel: m\ndata: {calibration: {reader: npz, imputs: {}}}\n"), "did you mean 'inputs'");
  expect_in(failure("quern: 1\nmodel: m\ndata: {calibration: {path: x}}\n"), "'reader' is missing");
  expect_in(failure("quern: 1\nmodel: m\ndata: {calibration: {reader: npy, preprocess: {mean: '0,5'}}}\n"), "should be a number");
  expect_in(failure("- 1\n- 2\n"), "should be a mapping");
}

TEST(Config, ThePipelineNeedsOneQuantize) {
  expect_in(failure("quern: 1\nmodel: m\npipeline: [bias_correction]\n"), "c.yaml:3:11: the pipeline lacks the stage 'quantize'");
  expect_in(failure("quern: 1\nmodel: m\npipeline: [quantize, quantize]\n"), "stands twice");
  expect_in(failure("quern: 1\nmodel: m\npipeline:\n  - quantize: {}\n    bias_correction: {}\n"), "begin a new list element");
  const Config c = load("quern: 1\nmodel: m\npipeline:\n  - quantize:\n");
  EXPECT_EQ(c.stages[0].parameters.at("pin"), json::array());
}

TEST(Config, ANumberIsOneSpelling) {
  const Config a = load("quern: 1\nmodel: m\ndata: {calibration: {reader: npy, preprocess: {mean: 1}}}\n");
  EXPECT_TRUE(a.calibration->at("preprocess").at("mean").is_double());
}

TEST(Config, SetOverridesAndTellsWhereItWentWrong) {
  const Config c = load(full, {.set = {"target.preset=performance", "pipeline.quantize.activations.range=mse", "pipeline.2.bias_correction.mode=fast", "seed=7"}});
  EXPECT_EQ(c.preset, "performance");
  EXPECT_EQ(c.activation_range.estimator, "mse");
  EXPECT_EQ(c.stages[2].parameters.at("mode"), "fast");
  EXPECT_EQ(c.seed, 7);
  expect_in(failure(full, {.set = {"threads=many"}}), "--set threads=many: 'threads' should be a whole number");
  expect_in(failure(full, {.set = {"tarjet.preset=x"}}), "--set tarjet.preset=x: unknown key 'tarjet' (did you mean 'target'?)");
  expect_in(failure(full, {.set = {"nonsense"}}, ErrorCode::usage), "key.path=value");
  expect_in(failure(full, {.set = {"pipeline.9.x=1"}}, ErrorCode::usage), "no element '9'");
  expect_in(failure(full, {.set = {"model.x=1"}}, ErrorCode::usage), "is a value");
}

TEST(Config, CommandLineTargetAndPresetWin) {
  const Config c = load("quern: 1\nmodel: m\npipeline:\n  - quantize: {preset: accuracy}\n", {.target = "npu:v2", .preset = "performance", .threads = 3});
  EXPECT_EQ(c.device, "npu");
  EXPECT_EQ(c.profile, "v2");
  EXPECT_EQ(c.preset, "performance");
  EXPECT_EQ(c.placement.narrowing.preset, "performance");
  EXPECT_EQ(c.thread_count(), 3);
}

TEST(Config, NarrowingAndExceptions) {
  const Config c = load("quern: 1\nmodel: m\npipeline:\n  - quantize:\n      weights: {bits: 8, mode: symmetric, granularity: pertensor}\n"
                        "      ignored: {nodes: [a], operations: [Softmax]}\n      pin: [p]\n      forbid: [f]\n");
  ASSERT_EQ(c.placement.narrowing.weights.size(), 1u);
  EXPECT_EQ(c.placement.narrowing.weights[0].bits, 8);
  EXPECT_EQ(c.placement.narrowing.weights[0].symmetric, true);
  EXPECT_EQ(c.placement.narrowing.weights[0].per_channel, false);
  EXPECT_TRUE(c.placement.narrowing.activations.empty());
  EXPECT_EQ(c.placement.ignored_nodes, std::vector<std::string>{"a"});
  EXPECT_EQ(c.placement.pin, std::vector<std::string>{"p"});
}

TEST(Config, EffectiveIsAFixedPoint) {
  const Config c = load(full);
  const std::string once = effective_yaml(c, "/data/net/out");
  const Config again = load_config_text(once, "effective.yaml", "/data/net/out");
  EXPECT_EQ(again.model, c.model);
  EXPECT_EQ(effective_yaml(again, "/data/net/out"), once) << once;
  EXPECT_EQ(config_digest(again, "d"), config_digest(c, "d"));
  EXPECT_NE(config_digest(again, "e"), config_digest(c, "d"));
  expect_in(once, "model: ../resnet8.onnx");
  expect_in(once, "path: ../data.npz");
}

TEST(Config, TheDigestLeavesOutWhatDoesNotMatter) {
  EXPECT_EQ(config_digest(load(full, {.output = "/elsewhere", .threads = 2}), "d"), config_digest(load(full), "d"));
  EXPECT_NE(config_digest(load(full, {.preset = "performance", .set = {"target.preset=performance"}}), "d"), config_digest(load(full), "d"));
}

TEST(SchemaWalk, BranchesBlameTheOneThatWasMeant) {
  const json::value schema = parse_json(R"({"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": false,
      "properties": {"kind": {"const": "a"}, "value": {"type": "integer", "default": 3}}}]})", "s");
  EXPECT_TRUE(apply_schema(schema, "x").issues.empty());
  EXPECT_EQ(apply_schema(schema, json::object{{"kind", "a"}}).value, (json::value{{"kind", "a"}, {"value", 3}}));
  const auto wrong = apply_schema(schema, json::object{{"kind", "a"}, {"valu", 1}});
  ASSERT_EQ(wrong.issues.size(), 1u);
  EXPECT_EQ(wrong.issues[0].pointer, "/valu");
  EXPECT_NE(wrong.issues[0].message.find("did you mean 'value'"), std::string::npos);
  EXPECT_NE(apply_schema(schema, 5).issues.at(0).message.find("a text or a mapping"), std::string::npos);
}

TEST(SchemaWalk, ThePublishedSchemaIsJson) {
  EXPECT_NO_THROW(parse_json(config_schema(), "config.schema.json"));
}

}  // namespace
}  // namespace quern
