// Float kernels of the host, each alone, one thread, one sample. `own/...` run in a fixed order of additions with elementary
// functions of fixed evaluation, so that they give the same bytes on every x86-64: that, and not the last bit of speed, is
// what they are for. `onednn/...` are f32 as oneDNN computes them on this machine (the label names its kernel). Rates are of
// the largest tensor that flows; `_last` lies channels last. Indices are constants. Views and operators that only make shapes
// or constants have no line.
#include "bench/micro/one_kernel.hpp"

namespace quern::bench {
namespace {

struct In {
  DType type;
  Dims dims;
  bool constant;
  double low, high;
  std::vector<int64_t> values;  // instead of low..high
};
In x(Dims dims) { return {DType::f32, std::move(dims), false, -3, 3, {}}; }
In positive(Dims dims) { return {DType::f32, std::move(dims), false, 0.1, 3, {}}; }
In codes(DType type, Dims dims, double high, bool constant = false) { return {type, std::move(dims), constant, 0, high, {}}; }
In weights(Dims dims, double low = -0.5, double high = 0.5) { return {DType::f32, std::move(dims), true, low, high, {}}; }
In ints(std::vector<int64_t> v) { return {DType::s64, {static_cast<int64_t>(v.size())}, true, 0, 0, std::move(v)}; }
In number(double v) { return weights({}, v, v); }
In count(int64_t v) { return {DType::s64, {}, true, 0, 0, {v}}; }

using Attributes = std::map<std::string, Attribute>;
struct Line {
  std::string op;
  int since;
  std::vector<In> in;
  Attributes attributes = {};
  const char* suffix = "";
  Layout came = Layout::row_major;
  size_t outputs = 1;
  int64_t taps = 0;  // multiply-accumulates per element of the output
};

void run(benchmark::State& state, const Line& line, const Provider& provider) try {
  std::vector<Operand> operands;
  for (const In& in : line.in) {
    Tensor t = in.values.empty() ? uniform(in.type, in.dims, in.low, in.high) : Tensor::of<int64_t>(in.dims, in.values);
    operands.push_back({std::move(t), in.constant});
  }
  const OneKernel kernel(provider, {.op = line.op, .since_version = line.since, .attributes = line.attributes}, operands, line.came, line.outputs);
  kernel.measure(state);
  if (line.taps) operations(state, line.taps * element_count(kernel.output_dims()));
} catch (const std::exception& e) {
  state.SkipWithError(e.what());
}

std::vector<int64_t> list(std::initializer_list<int64_t> v) { return v; }

std::vector<Line> own_lines() {
  const Dims a = activation;
  const Layout last = Layout::channels_last;
  std::vector<Line> lines;
  // One tensor, element by element.
  for (auto [op, since] : std::initializer_list<std::pair<const char*, int>>{
           {"Relu", 14}, {"LeakyRelu", 16}, {"ThresholdedRelu", 10}, {"Shrink", 9}, {"Elu", 6}, {"Celu", 12}, {"Selu", 6}, {"Sigmoid", 13},
           {"Tanh", 13}, {"Erf", 13}, {"Softplus", 1}, {"Mish", 18}, {"Softsign", 1}, {"HardSigmoid", 6}, {"HardSwish", 14}, {"Gelu", 20}, {"Swish", 24},
           {"Abs", 13}, {"Neg", 13}, {"Sign", 13}, {"Exp", 13}, {"Sin", 7}, {"Cos", 7}, {"Reciprocal", 13}, {"Floor", 13}, {"Ceil", 13},
           {"Round", 11}, {"IsNaN", 13}, {"IsInf", 10}})
    lines.push_back({op, since, {x(a)}});
  for (const char* op : {"Log", "Sqrt"}) lines.push_back({op, 13, {positive(a)}});
  lines.push_back({"Clip", 13, {x(a), number(0), number(6)}});
  lines.push_back({"Cast", 13, {x(a)}, {{"to", int64_t{6}}}, "_s32"});
  lines.push_back({"Not", 1, {codes(DType::boolean, a, 2)}});
  lines.push_back({"BitwiseNot", 18, {codes(DType::u8, a, 256)}});
  // Two and more.
  for (const char* op : {"Add", "Sub", "Mul", "Div"}) lines.push_back({op, 14, {x(a), x(a)}});
  lines.push_back({"Add", 14, {x(a), weights({64, 1, 1})}, {}, "_channels"});
  lines.push_back({"Add", 14, {x(a), weights({64, 1, 1})}, {}, "_channels_last", last});
  lines.push_back({"Mod", 13, {x(a), x(a)}, {{"fmod", int64_t{1}}}});
  lines.push_back({"Pow", 15, {positive(a), positive(a)}});
  lines.push_back({"PRelu", 16, {x(a), weights({64, 1, 1})}});
  for (const char* op : {"Equal", "Less", "Greater"}) lines.push_back({op, 13, {x(a), x(a)}});
  for (const char* op : {"LessOrEqual", "GreaterOrEqual"}) lines.push_back({op, 16, {x(a), x(a)}});
  for (const char* op : {"And", "Or", "Xor"}) lines.push_back({op, 7, {codes(DType::boolean, a, 2), codes(DType::boolean, a, 2)}});
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor"}) lines.push_back({op, 18, {codes(DType::u8, a, 256), codes(DType::u8, a, 256)}});
  lines.push_back({"BitShift", 11, {codes(DType::u8, a, 256), codes(DType::u8, a, 8)}, {{"direction", std::string("RIGHT")}}});
  for (const char* op : {"Min", "Max", "Sum", "Mean"}) lines.push_back({op, 13, {x(a), x(a)}});
  lines.push_back({"Where", 16, {codes(DType::boolean, a, 2), x(a), x(a)}});
  // Along axes.
  for (const char* op : {"Softmax", "LogSoftmax", "Hardmax"}) lines.push_back({op, 13, {x({128, 1000})}, {}, "_128x1000"});
  lines.push_back({"Softmax", 13, {x(a)}, {{"axis", int64_t{1}}}, "_channels"});
  for (const char* op : {"ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceLogSumExp"})
    lines.push_back({op, 13, {x(a)}, {{"axes", list({2, 3})}}});
  lines.push_back({"ReduceLogSum", 13, {positive(a)}, {{"axes", list({2, 3})}}});
  lines.push_back({"ReduceSum", 13, {x(a), ints({2, 3})}});
  for (const char* op : {"ArgMax", "ArgMin"}) lines.push_back({op, 13, {x({128, 1000})}, {{"axis", int64_t{1}}}, "_128x1000"});
  lines.push_back({"CumSum", 14, {x({128, 1000}), count(1)}, {}, "_128x1000"});
  const In channels = weights({64}), spread = weights({64}, 0.5, 2);
  for (Layout l : {Layout::row_major, last}) {
    const char* suffix = l == last ? "_last" : "";
    lines.push_back({"BatchNormalization", 15, {x(a), channels, channels, channels, spread}, {}, suffix, l});
    const Attributes window{{"kernel_shape", list({3, 3})}, {"strides", list({2, 2})}, {"pads", list({1, 1, 1, 1})}};
    for (const char* op : {"MaxPool", "AveragePool", "LpPool"}) lines.push_back({op, 11, {x(a)}, window, suffix, l});
    for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) lines.push_back({op, 1, {x(a)}, {}, suffix, l});
  }
  lines.push_back({"InstanceNormalization", 6, {x(a), channels, channels}});
  lines.push_back({"GroupNormalization", 21, {x(a), channels, channels}, {{"num_groups", int64_t{8}}}});
  lines.push_back({"LayerNormalization", 17, {x({128, 768}), weights({768}), weights({768})}, {}, "_128x768"});
  lines.push_back({"MeanVarianceNormalization", 13, {x(a)}});
  lines.push_back({"LRN", 13, {x(a)}, {{"size", int64_t{5}}}});
  lines.push_back({"LpNormalization", 1, {x(a)}});
  // Moves.
  lines.push_back({"Transpose", 13, {x(a)}, {{"perm", list({0, 2, 3, 1})}}});
  lines.push_back({"Concat", 13, {x(a), x(a)}, {{"axis", int64_t{1}}}});
  lines.push_back({"Concat", 13, {x(a), x(a)}, {{"axis", int64_t{1}}}, "_last", last});
  lines.push_back({"Split", 13, {x(a)}, {{"axis", int64_t{1}}}, "", Layout::row_major, 2});
  lines.push_back({"Slice", 13, {x(a), ints({1, 1}), ints({55, 55}), ints({2, 3})}});
  lines.push_back({"Expand", 13, {x({1, 64, 1, 1}), ints({1, 64, 56, 56})}});
  lines.push_back({"Tile", 13, {x({1, 64, 28, 28}), ints({1, 1, 2, 2})}});
  lines.push_back({"Pad", 13, {x(a), ints({0, 0, 1, 1, 0, 0, 1, 1})}});
  lines.push_back({"DepthToSpace", 13, {x(a)}, {{"blocksize", int64_t{2}}}});
  lines.push_back({"SpaceToDepth", 13, {x(a)}, {{"blocksize", int64_t{2}}}});
  // Resize: images twice as large, to odd sizes, and halved.
  const auto resize = [&](const char* mode, const char* suffix, Dims from, std::vector<int64_t> to, Layout came) {
    lines.push_back({"Resize", 13, {x(std::move(from)), weights({0}), weights({0}), ints(std::move(to))},
                     {{"mode", std::string(mode)}, {"nearest_mode", std::string("floor")},
                      {"coordinate_transformation_mode", std::string(mode == std::string("nearest") ? "asymmetric" : "half_pixel")}}, suffix, came});
  };
  for (const Layout came : {Layout::row_major, last}) {
    const bool l = came == last;
    resize("nearest", l ? "_nearest_2x_last" : "_nearest_2x", {1, 64, 28, 28}, {1, 64, 56, 56}, came);
    resize("linear", l ? "_linear_2x_last" : "_linear_2x", {1, 64, 28, 28}, {1, 64, 56, 56}, came);
    resize("cubic", l ? "_cubic_2x_last" : "_cubic_2x", {1, 64, 28, 28}, {1, 64, 56, 56}, came);
    resize("nearest", l ? "_nearest_odd_last" : "_nearest_odd", {1, 16, 48, 48}, {1, 16, 113, 113}, came);
    resize("linear", l ? "_linear_odd_last" : "_linear_odd", {1, 16, 48, 48}, {1, 16, 113, 113}, came);
    resize("linear", l ? "_linear_half_last" : "_linear_half", {1, 3, 260, 260}, {1, 3, 130, 130}, came);
  }
  lines.push_back({"GridSample", 16, {x({1, 64, 56, 56}), {DType::f32, {1, 56, 56, 2}, false, -1, 1, {}}}});
  lines.push_back({"Trilu", 14, {x({512, 512})}, {}, "_512x512"});
  lines.push_back({"Gather", 13, {x({512, 256}), codes(DType::s64, {512}, 512, true)}, {}, "_512x256"});
  lines.push_back({"GatherElements", 13, {x({512, 256}), codes(DType::s64, {512, 256}, 512, true)}, {}, "_512x256"});
  lines.push_back({"GatherND", 13, {x({512, 256}), codes(DType::s64, {512, 1}, 512, true)}, {}, "_512x256"});
  lines.push_back({"ScatterElements", 13, {x({512, 256}), codes(DType::s64, {512, 256}, 512, true), x({512, 256})}, {}, "_512x256"});
  lines.push_back({"ScatterND", 13, {x({512, 256}), codes(DType::s64, {512, 1}, 512, true), x({512, 256})}, {}, "_512x256"});
  lines.push_back({"OneHot", 11, {codes(DType::s64, {512}, 256), count(256), weights({2})}, {}, "_512x256"});
  lines.push_back({"TopK", 11, {x({128, 1000}), ints({5})}, {}, "_5_of_1000", Layout::row_major, 2});
  lines.push_back({"ReverseSequence", 10, {x({64, 16, 196}), codes(DType::s64, {16}, 64, true)}});
  // Recurrent: one step of a wide layer, a sequence of small ones.
  lines.push_back({"LSTM", 14, {x({1, 1, 257}), weights({1, 512, 257}), weights({1, 512, 128}), weights({1, 1024})}, {{"hidden_size", int64_t{128}}},
                   "_1_step_257_128", Layout::row_major, 1, 4 * (257 + 128)});
  lines.push_back({"LSTM", 14, {x({64, 1, 128}), weights({1, 512, 128}), weights({1, 512, 128}), weights({1, 1024})}, {{"hidden_size", int64_t{128}}},
                   "_64_steps_128_128", Layout::row_major, 1, 4 * 256});
  lines.push_back({"GRU", 14, {x({26, 1, 48}), weights({1, 192, 48}), weights({1, 192, 64}), weights({1, 384})},
                   {{"hidden_size", int64_t{64}}, {"linear_before_reset", int64_t{1}}}, "_26_steps_48_64", Layout::row_major, 1, 3 * 112});
  lines.push_back({"RNN", 14, {x({26, 1, 48}), weights({1, 64, 48}), weights({1, 64, 64})}, {{"hidden_size", int64_t{64}}}, "_26_steps_48_64",
                   Layout::row_major, 1, 112});
  lines.push_back({"Einsum", 12, {x({4, 32, 64}), x({4, 64, 32})}, {{"equation", std::string("bij,bjk->bik")}}, "_4x32x64x32", Layout::row_major, 1, 64});
  // Integers in ONNX's way.
  lines.push_back({"QuantizeLinear", 13, {x(a), number(0.05), codes(DType::u8, {}, 1, true)}});
  lines.push_back({"DequantizeLinear", 13, {codes(DType::u8, a, 256), number(0.05), codes(DType::u8, {}, 1, true)}});
  lines.push_back({"DynamicQuantizeLinear", 11, {x(a)}, {}, "", Layout::row_major, 3});
  // Plain loops, for what oneDNN declines and for folding.
  const Attributes same{{"pads", list({1, 1, 1, 1})}};
  const In u = codes(DType::u8, {1, 16, 28, 28}, 256), s = codes(DType::s8, {16, 16, 3, 3}, 100, true);
  lines.push_back({"Conv", 11, {x({1, 16, 28, 28}), weights({16, 16, 3, 3})}, same, "_3x3_16_28", Layout::row_major, 1, 144});
  lines.push_back({"ConvTranspose", 11, {x({1, 16, 28, 28}), weights({16, 16, 3, 3})}, same, "_3x3_16_28", Layout::row_major, 1, 144});
  lines.push_back({"ConvInteger", 10, {u, s}, same, "_3x3_16_28", Layout::row_major, 1, 144});
  lines.push_back({"Gemm", 13, {x({64, 256}), weights({256, 64})}, {}, "_64x256x64", Layout::row_major, 1, 256});
  lines.push_back({"MatMul", 13, {x({64, 256}), weights({256, 64})}, {}, "_64x256x64", Layout::row_major, 1, 256});
  lines.push_back({"MatMulInteger", 10, {codes(DType::u8, {64, 256}, 256), codes(DType::s8, {256, 64}, 100, true)}, {}, "_64x256x64", Layout::row_major, 1, 256});
  return lines;
}

std::vector<Line> onednn_lines() {
  const Layout last = Layout::channels_last;
  const Attributes same{{"pads", list({1, 1, 1, 1})}};
  return {
      {"Conv", 11, {x(activation), weights({64, 64, 3, 3}), weights({64})}, same, "_3x3_64_56", last, 1, 576},
      {"Conv", 11, {x(activation), weights({64, 64, 1, 1}), weights({64})}, {}, "_1x1_64_56", last, 1, 64},
      {"Conv", 11, {x(activation), weights({64, 1, 3, 3}), weights({64})}, {{"pads", list({1, 1, 1, 1})}, {"group", int64_t{64}}}, "_depthwise_64_56", last, 1, 9},
      {"Conv", 11, {x({1, 3, 224, 224}), weights({64, 3, 7, 7}), weights({64})}, {{"pads", list({3, 3, 3, 3})}, {"strides", list({2, 2})}}, "_7x7_3_224", last, 1, 147},
      {"ConvTranspose", 11, {x({1, 64, 28, 28}), weights({64, 64, 2, 2})}, {{"strides", list({2, 2})}}, "_2x2_64_28", last, 1, 64},
      {"Gemm", 13, {x({1, 1024}), weights({1000, 1024}), weights({1000})}, {{"transB", int64_t{1}}}, "_1x1024x1000", Layout::row_major, 1, 1024},
      {"MatMul", 13, {x({128, 768}), weights({768, 768})}, {}, "_128x768x768", Layout::row_major, 1, 768},
      {"MatMul", 13, {x({12, 128, 64}), x({12, 64, 128})}, {}, "_12_128x64x128", Layout::row_major, 1, 64},
  };
}

const bool registered = [] {
  for (const auto& [prefix, provider, lines] : {std::tuple{"own/", own_float_provider(), own_lines()}, std::tuple{"onednn/", onednn_provider(), onednn_lines()}})
    for (const Line& line : lines)
      benchmark::RegisterBenchmark((prefix + line.op + line.suffix).c_str(), [line, provider = provider](benchmark::State& s) { run(s, line, *provider); });
  return true;
}();

}  // namespace
}  // namespace quern::bench
