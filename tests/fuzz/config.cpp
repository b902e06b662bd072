// The configuration: YAML, then `--set` arguments, each after a zero byte.
#include "core/pipeline/config.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {

std::vector<Seed> seeds() {
  using namespace std::string_literals;
  std::vector<Seed> out;
  const std::string digits = source_file("examples/digits/digits.yaml");
  out.push_back({"digits", digits});
  const char* sets[] = {"target.preset=performance", "pipeline.quantize.activations.range=mse", "pipeline.0=quantize", "data.calibration.samples=10",
                        "pipeline.quantize.ignored.nodes=[a, 'b*']", "threads=2", "output=x", "metric=top5", "pipeline=[quantize]"};
  int n = 0;
  for (const char* set : sets) out.push_back({"set" + std::to_string(n++), digits + "\0"s + set});
  out.push_back({"all", R"(quern: 1
model: "a b.onnx"
target: {device: cpu, profile: vnni, preset: mixed}
data:
  calibration: &c {reader: npz, path: d.npz, inputs: {image: x}, samples: 300}
  evaluation: *c
metric: {type: top1}
threads: 2
seed: 0x7
pipeline:
  - channel_alignment
  - quantize:
      preset: performance
      pin: [conv*]
      forbid: []
      ignored: {nodes: [n1], operations: [Softmax]}
      weights: {bits: 8, mode: symmetric, granularity: perchannel, range: {max: {type: abs_max}}}
      activations:
        bits: 8
        range:
          min: {type: quantile, aggregator: mean, outlier_prob: 1.0e-4}
          max: {type: max, aggregator: median}
  - bias_correction: {mode: full}
output: |
  out
...
)"});
  out.push_back({"flow", "{quern: 1, model: m, pipeline: [{quantize: {}}], data: {}, ~: ? , x: !!str y, z: >-\n  folded\n}"});
  return out;
}

}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  std::string_view text = fuzz::text_of(data, size);
  ConfigOverrides overrides;
  const std::string_view yaml = text.substr(0, text.find('\0'));
  text.remove_prefix(yaml.size());
  while (!text.empty() && overrides.set.size() < 16) {
    text.remove_prefix(1);
    const std::string_view set = text.substr(0, text.find('\0'));
    overrides.set.emplace_back(set);
    text.remove_prefix(set.size());
  }
  fuzz::tolerate([&] {
    const Config config = load_config_text(yaml, "fuzz.yaml", "/fuzz", overrides);
    // What is written beside a result can be read again, and says the same from then on (stages written as bare names have got
    // their parameters by then).
    const auto again = [](const std::string& text) { return effective_yaml(load_config_text(text, "effective.yaml", "/fuzz"), "/fuzz"); };
    const std::string effective = again(effective_yaml(config, "/fuzz"));
    fuzz::expect(again(effective) == effective, "the effective configuration is stable");
  });
  fuzz::tolerate([&] {
    const Document d = parse_yaml(yaml, "fuzz.yaml");
    const std::string written = to_yaml(d.value);
    fuzz::expect(parse_yaml(written, "written").value == d.value, "parse_yaml(to_yaml(v)) == v");
  });
  return 0;
}
