// Integers on the host, each kernel alone, one thread, one sample. `border/...` are the kernels at borders of integer parts
// and equal ONNX's QuantizeLinear and DequantizeLinear to the bit. `interpreter/...` are units run by their contract, element
// by element, exact and generic rather than fast: what `simulated` costs (the cpu target's own kernels are in
// plugins/cpu/bench). `reorder/...` copies between layouts.
#include "bench/micro/one_kernel.hpp"
#include "core/rules/contract_json.hpp"
#include "core/rules/unit.hpp"

namespace quern::bench {
namespace {

QuantParams u8_params(float scale, int64_t zero) { return {make_format(8, false, false), -1, {scale}, {zero}}; }

void border(benchmark::State& state, const char* op, DType from, bool channels, Layout came) {
  auto payload = std::make_shared<QuantizePayload>();
  payload->params = u8_params(0.05f, 113);
  if (channels) payload->params = {payload->params.format, 1, std::vector<float>(64, 0.05f), std::vector<int64_t>(64, 113)};
  const OneKernel kernel(*border_provider(), {.domain = "quern", .op = op, .payload = payload}, {{uniform(from, activation, 0, 12)}}, came);
  kernel.measure(state);
}
BENCHMARK_CAPTURE(border, quantize, "Quantize", DType::f32, false, Layout::row_major);
BENCHMARK_CAPTURE(border, quantize_channels, "Quantize", DType::f32, true, Layout::row_major);
BENCHMARK_CAPTURE(border, dequantize, "Dequantize", DType::u8, false, Layout::row_major);
BENCHMARK_CAPTURE(border, dequantize_channels, "Dequantize", DType::u8, true, Layout::row_major);
BENCHMARK_CAPTURE(border, dequantize_channels_last, "Dequantize", DType::u8, true, Layout::channels_last);
BENCHMARK_CAPTURE(border, fake_quantize, "FakeQuantize", DType::f32, false, Layout::row_major);

constexpr const char* to_codes = R"({"fadd32": 101.0}, {"f2i": {"round": "half_even", "low": 0, "high": 255}}])";

struct UnitLine {
  const char* op;
  std::string contract;
  std::vector<std::string> roles;                  // of the inputs that flow
  std::map<std::string, Attribute> attributes = {};
  int64_t taps = 0;  // > 0: a convolution with 3 x 3 weights
};

void interpreter(benchmark::State& state, const UnitLine& line) {
  auto unit = std::make_shared<IntegerUnit>();
  unit->name = "unit";
  unit->contract = std::make_shared<const Contract>(parse_contract("bench", parse_json(line.contract, "bench"), "bench"));
  UnitMember member;
  member.name = "unit";
  member.op = line.op;
  member.since_version = 11;
  member.attributes = line.attributes;
  std::vector<Operand> operands;
  for (const std::string& role : line.roles) {
    member.inputs.push_back(static_cast<int>(unit->operands.size()));
    unit->operands.push_back({role, role, DType::u8, activation, u8_params(0.1f, 117), nullptr});
    operands.push_back({uniform(DType::u8, activation, 0, 256)});
  }
  if (line.taps) {
    const Dims dims{64, line.taps / 9, 3, 3};
    member.inputs.push_back(1);
    unit->operands.push_back({"weight", "weight", DType::s8, dims, QuantParams{make_format(8, true, true), -1, {0.01f}, {0}},
                              std::make_shared<const Tensor>(uniform(DType::s8, dims, -127, 128))});
  }
  unit->members = {member};
  unit->tables = {{"multiplier", uniform(DType::f32, {64}, 1e-4, 2e-4)}, {"bias_f32", uniform(DType::f32, {64}, -1e3, 1e3)},
                  {"ratio", Tensor::scalar(0.4f)}, {"map", uniform(DType::s64, {256}, 0, 256)}};
  unit->output = {"output", "output", DType::u8, {}, u8_params(0.2f, 101), nullptr};
  const OneKernel kernel(*interpreter_provider(), {.domain = "quern", .op = "Unit", .payload = unit}, operands, Layout::channels_last);
  kernel.measure(state);
  if (line.taps) operations(state, line.taps * element_count(kernel.output_dims()));
}

std::vector<int64_t> list(std::initializer_list<int64_t> v) { return v; }

const bool registered = [] {
  const std::string dot = std::string(R"({"form": "dot", "operands": {"input": [{"add": "-input.zero_point"}]},
    "post": [{"i2f32": {}}, {"fadd32": "bias_f32"}, {"fmul32": "multiplier"}, )") + to_codes + "}";
  const std::string sum = std::string(R"(, "operands": {"input": [{"add": "-input.zero_point"}]},
    "post": [{"i2f32": {}}, {"fdiv32": "#window"}, {"fmul32": "ratio"}, )") + to_codes + "}";
  const std::string side = R"([{"add": -117}, {"i2f32": {}}, {"fmul32": "ratio"}])";
  const std::map<std::string, Attribute> same{{"pads", list({1, 1, 1, 1})}};
  std::map<std::string, Attribute> depthwise = same, window = same;
  depthwise["group"] = int64_t{64};
  window["kernel_shape"] = list({3, 3});
  const std::pair<const char*, UnitLine> lines[] = {
      {"conv_3x3_64", {"Conv", dot, {"input"}, same, 576}},
      {"conv_depthwise_3x3", {"Conv", dot, {"input"}, depthwise, 9}},
      {"add", {"Add", R"({"form": "elementwise2", "combine": "add", "operands": {"a": )" + side + R"(, "b": )" + side + R"(}, "post": [)" + to_codes + "}", {"a", "b"}}},
      {"average_pool_3x3", {"AveragePool", R"({"form": "pool_sum")" + sum, {"input"}, window}},
      {"max_pool_3x3", {"MaxPool", R"({"form": "pool_max"})", {"input"}, window}},
      {"reduce_mean", {"ReduceMean", R"({"form": "reduce")" + sum, {"input"}, {{"axes", list({2, 3})}}}},
      {"concat", {"Concat", R"({"form": "move"})", {"in0", "in1"}, {{"axis", int64_t{1}}}}},
      {"sigmoid_by_table", {"Sigmoid", R"({"form": "table", "post": [{"lut": "map"}]})", {"input"}}},
  };
  for (const auto& [name, line] : lines)
    benchmark::RegisterBenchmark((std::string("interpreter/") + name).c_str(), [line = line](benchmark::State& s) {
      try {
        interpreter(s, line);
      } catch (const std::exception& e) {
        s.SkipWithError(e.what());
      }
    });
  return true;
}();

void reorder(benchmark::State& state, DType type, bool to_last, const Dims& dims) {
  Tensor from(type, dims), to(type, dims);
  const Dims rows = row_major_strides(dims), last = channels_last_strides(dims);
  for (auto _ : state) quern::reorder({from.mutable_bytes(), type, dims, to_last ? rows : last}, {to.mutable_bytes(), type, dims, to_last ? last : rows});
  rates(state, from.count(), static_cast<int64_t>(2 * from.bytes()));
}
BENCHMARK_CAPTURE(reorder, f32_to_channels_last, DType::f32, true, activation);
BENCHMARK_CAPTURE(reorder, f32_to_row_major, DType::f32, false, activation);
BENCHMARK_CAPTURE(reorder, u8_to_channels_last, DType::u8, true, activation);
BENCHMARK_CAPTURE(reorder, f32_image_to_channels_last, DType::f32, true, Dims{1, 3, 224, 224});

}  // namespace
}  // namespace quern::bench
