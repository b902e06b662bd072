// A small network with data in a folder of its own, for tests that run the whole pipeline: two convolutions (the second
// depthwise), a residual addition, pooling and a dense layer; weights and data from a fixed generator.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "core/base/files.hpp"
#include "core/base/npy.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/plugin/plugin.hpp"

namespace quern::testing_tiny {

struct Noise {
  uint64_t state;
  float next() {  // -1 .. 1
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(state >> 40) * (2.0f / 16777216.0f) - 1.0f;
  }
  Tensor tensor(Dims dims, float scale = 1) {
    Tensor t(DType::f32, std::move(dims));
    for (float& v : t.mutable_values<float>()) v = next() * scale;
    return t;
  }
};

inline Graph tiny_graph(int64_t size = 8, int64_t channels = 8) {
  Noise noise{42};
  Graph g;
  g.name = "tiny";
  g.opset = 13;
  const auto node = [&](const std::string& op, int version, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    const std::string name = g.unique_name(op + "_node");
    Node n;
    n.name = name;
    n.op = op;
    n.since_version = version;
    n.inputs = std::move(inputs);
    n.outputs = {g.add_value(name + "_out", DType::f32)};
    n.attributes = std::move(attributes);
    g.add_node(n);
    return n.outputs[0];
  };
  const std::vector<int64_t> pads{1, 1, 1, 1}, kernel{3, 3};
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, 3, size, size});
  g.set_inputs({x});
  ValueId a = node("Conv", 11, {x, g.add_constant("w1", noise.tensor({channels, 3, 3, 3}, 0.4f)), g.add_constant("b1", noise.tensor({channels}, 0.2f))},
                   {{"pads", pads}, {"kernel_shape", kernel}});
  a = node("Relu", 13, {a});
  ValueId b = node("Conv", 11, {a, g.add_constant("w2", noise.tensor({channels, 1, 3, 3}, 0.6f))},
                   {{"pads", pads}, {"kernel_shape", kernel}, {"group", channels}});
  b = node("Add", 13, {a, b});
  b = node("Relu", 13, {b});
  b = node("GlobalAveragePool", 1, {b});
  b = node("Flatten", 13, {b}, {{"axis", int64_t{1}}});
  b = node("Gemm", 13, {b, g.add_constant("w3", noise.tensor({4, channels}, 0.8f)), g.add_constant("b3", noise.tensor({4}, 0.1f))}, {{"transB", int64_t{1}}});
  g.set_outputs({b});
  infer_shapes(g);
  return g;
}

// Removed when the test ends.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = ::testing::TempDir() + "quern-pipeline-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

inline Tensor labels(int64_t count) {
  std::vector<int64_t> y(static_cast<size_t>(count));
  for (size_t i = 0; i < y.size(); ++i) y[i] = static_cast<int64_t>(i % 4);
  return Tensor::of<int64_t>({count}, y);
}

// model.onnx, data.npz (x_calib, x_eval, y_eval) and c.yaml.
inline void write_tiny(const fs::path& folder, int64_t calibration = 12, int64_t evaluation = 6, int64_t size = 8, int64_t channels = 8) {
  write_file(folder / "model.onnx", export_onnx(tiny_graph(size, channels)));
  Noise noise{7};
  write_npz(folder / "data.npz", {{"x_calib", noise.tensor({calibration, 3, size, size})},
                                  {"x_eval", noise.tensor({evaluation, 3, size, size})},
                                  {"y_eval", labels(evaluation)}});
  write_file(folder / "c.yaml", std::string_view(R"(quern: 1
model: model.onnx
target: {device: cpu}
data:
  calibration: {reader: npz, path: data.npz, inputs: {x: x_calib}}
  evaluation: {reader: npz, path: data.npz, inputs: {x: x_eval}, labels: y_eval}
metric: top1
output: out
)"));
}

inline fs::path build_folder() {
  const char* b = std::getenv("QUERN_BUILD_DIR");
  return b ? fs::path(b) : fs::path();
}
inline PluginOptions built_plugins() { return {.plugins = {build_folder() / "lib" / "quern" / "plugins"}, .environment = false, .standard_folders = false}; }

#define SKIP_WITHOUT_BUILD() \
  if (::quern::testing_tiny::build_folder().empty()) GTEST_SKIP() << "QUERN_BUILD_DIR is not set: run through ctest"

}  // namespace quern::testing_tiny
