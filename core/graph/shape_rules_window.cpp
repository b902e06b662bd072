// Convolution and pooling: windows that slide over the spatial axes.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern {
namespace {

constexpr int64_t largest = int64_t{1} << 30;  // of any size, kernel, stride, dilation or padding: products stay below 2^62

[[noreturn]] void fail(const Node& node, const std::string& message) {
  throw Error(ErrorCode::model, fmt::format("{}: {}", node.op, message)).at_node(node.name);
}

std::vector<int64_t> list(const Node& node, const char* key, size_t size, int64_t fallback, int64_t least) {
  std::vector<int64_t> v = node.integers(key);
  if (v.empty()) v.assign(size, fallback);
  if (v.size() != size) fail(node, fmt::format("attribute '{}' has {} numbers; {} are needed", key, v.size(), size));
  for (int64_t e : v)
    if (e < least || e > largest) fail(node, fmt::format("attribute '{}' holds {}, which makes no sense here", key, e));
  return v;
}

// Kernel, strides, dilations and explicit padding.
Window basic_window(const Node& node, size_t spatial, std::vector<int64_t> kernel) {
  Window w;
  w.kernel = std::move(kernel);
  w.stride = list(node, "strides", spatial, 1, 1);
  w.dilation = list(node, "dilations", spatial, 1, 1);
  const auto pads = list(node, "pads", spatial * 2, 0, 0);
  w.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(spatial));
  w.pad_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(spatial), pads.end());
  w.output.assign(spatial, -1);
  return w;
}

std::string auto_pad_of(const Node& node) {
  const std::string mode = node.text("auto_pad", "NOTSET");
  if (mode != "NOTSET" && mode != "VALID" && mode != "SAME_UPPER" && mode != "SAME_LOWER" && !mode.empty())
    fail(node, fmt::format("auto_pad '{}' is not one of NOTSET, SAME_UPPER, SAME_LOWER and VALID", mode));
  return mode.empty() ? "NOTSET" : mode;
}

void slide(const Node& node, Window& w, std::span<const int64_t> input_dims) {
  const std::string mode = auto_pad_of(node);
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    const int64_t in = input_dims[i + 2], span = (w.kernel[i] - 1) * w.dilation[i] + 1;
    if (mode != "NOTSET") w.pad_begin[i] = w.pad_end[i] = 0;
    if (in < 0) continue;
    if (in > largest) fail(node, fmt::format("input of shape {} is too large", to_string(input_dims)));
    if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
      w.output[i] = (in + w.stride[i] - 1) / w.stride[i];
      const int64_t pad = std::max<int64_t>((w.output[i] - 1) * w.stride[i] + span - in, 0);
      w.pad_begin[i] = mode == "SAME_UPPER" ? pad / 2 : pad - pad / 2;
      w.pad_end[i] = pad - w.pad_begin[i];
      continue;
    }
    const int64_t free = in + w.pad_begin[i] + w.pad_end[i] - span;
    if (free < 0)
      fail(node, fmt::format("the window of {} does not fit into the input of shape {} with its padding", span,
                             to_string(input_dims)));
    w.output[i] = (w.ceil_mode ? (free + w.stride[i] - 1) / w.stride[i] : free / w.stride[i]) + 1;
    // A last window that would start in the padding after the input is left out (as ONNX Runtime and PyTorch do).
    if (w.ceil_mode && (w.output[i] - 1) * w.stride[i] >= in + w.pad_begin[i]) --w.output[i];
  }
}

std::vector<int64_t> weight_kernel(const Node& node, std::span<const int64_t> input, std::span<const int64_t> weight) {
  if (input.size() < 3 || input.size() > 5)
    fail(node, fmt::format("input has shape {}; 1, 2 or 3 spatial axes are supported", to_string(input)));
  if (weight.size() != input.size())
    fail(node, fmt::format("weights have shape {}, the input {}", to_string(weight), to_string(input)));
  std::vector<int64_t> kernel(weight.begin() + 2, weight.end());
  const auto said = node.integers("kernel_shape");
  if (!said.empty()) {
    if (said.size() != kernel.size()) fail(node, "attribute 'kernel_shape' does not fit the weights");
    for (size_t i = 0; i < said.size(); ++i) {
      if (kernel[i] >= 0 && kernel[i] != said[i])
        fail(node, fmt::format("attribute 'kernel_shape' does not fit the weights of shape {}", to_string(weight)));
      kernel[i] = said[i];
    }
  }
  for (int64_t k : kernel)
    if (k <= 0 || k > largest) fail(node, fmt::format("weights of shape {} have no kernel", to_string(weight)));
  return kernel;
}

int64_t group_of(const Node& node) {
  const int64_t g = node.integer("group", 1);
  if (g < 1 || g > largest) fail(node, fmt::format("group is {}", g));
  return g;
}

}  // namespace

Window conv_window(const Node& node, std::span<const int64_t> input_dims, std::span<const int64_t> weight_dims) {
  Window w = basic_window(node, input_dims.size() - 2, weight_kernel(node, input_dims, weight_dims));
  w.group = group_of(node);
  slide(node, w, input_dims);
  return w;
}

Window pool_window(const Node& node, std::span<const int64_t> input_dims) {
  if (input_dims.size() < 3 || input_dims.size() > 5)
    fail(node, fmt::format("input has shape {}; 1, 2 or 3 spatial axes are supported", to_string(input_dims)));
  const size_t spatial = input_dims.size() - 2;
  if (node.op.rfind("Global", 0) == 0) {
    Window w;
    w.kernel.assign(input_dims.begin() + 2, input_dims.end());
    w.stride.assign(spatial, 1);
    w.dilation.assign(spatial, 1);
    w.pad_begin.assign(spatial, 0);
    w.pad_end.assign(spatial, 0);
    w.output.assign(spatial, 1);
    return w;
  }
  if (!node.has("kernel_shape")) fail(node, "attribute 'kernel_shape' is missing");
  Window w = basic_window(node, spatial, list(node, "kernel_shape", spatial, 1, 1));
  w.ceil_mode = node.integer("ceil_mode", 0) != 0;
  w.count_include_pad = node.integer("count_include_pad", 0) != 0;
  slide(node, w, input_dims);
  return w;
}

Window conv_transpose_window(const Node& node, std::span<const int64_t> input_dims, std::span<const int64_t> weight_dims) {
  const size_t spatial = input_dims.size() < 2 ? 0 : input_dims.size() - 2;
  Window w = basic_window(node, spatial, weight_kernel(node, input_dims, weight_dims));
  w.group = group_of(node);
  const std::string mode = auto_pad_of(node);
  const auto extra = list(node, "output_padding", spatial, 0, 0);
  const bool stated = node.has("output_shape");
  auto wanted = node.integers("output_shape");
  if (stated && wanted.size() == spatial + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  if (stated && wanted.size() != spatial) fail(node, "attribute 'output_shape' does not fit the spatial axes");
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t in = input_dims[i + 2];
    if (in > largest) fail(node, fmt::format("input of shape {} is too large", to_string(input_dims)));
    if (mode != "NOTSET") w.pad_begin[i] = w.pad_end[i] = 0;
    if (in < 0) { if (stated) w.output[i] = wanted[i]; continue; }
    const int64_t full = w.stride[i] * (in - 1) + extra[i] + (w.kernel[i] - 1) * w.dilation[i] + 1;
    const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
    if (stated || same) {
      w.output[i] = stated ? wanted[i] : in * w.stride[i];
      const int64_t pad = std::max<int64_t>(full - w.output[i], 0);
      w.pad_begin[i] = mode == "SAME_UPPER" ? pad / 2 : pad - pad / 2;
      w.pad_end[i] = pad - w.pad_begin[i];
    } else {
      w.output[i] = full - w.pad_begin[i] - w.pad_end[i];
    }
    if (w.output[i] <= 0 && in > 0) fail(node, fmt::format("nothing is left of the input of shape {}", to_string(input_dims)));
  }
  return w;
}

namespace shape_rules {
namespace {

void check_bias(const RuleScope& s, size_t slot, int64_t channels) {
  s.need_rank(slot, 1, 1);
  if (const Dims* b = s.dims(slot); b && channels >= 0 && (*b)[0] >= 0 && (*b)[0] != channels)
    s.fail(fmt::format("the bias has {} numbers for {} output channels", (*b)[0], channels));
}

Outputs convolution(const RuleScope& s, size_t weight_slot, size_t bias_slot, DType type) {
  s.in(0), s.in(weight_slot);
  const Dims *x = s.dims(0), *w = s.dims(weight_slot);
  if (!x || !w) return {RuleScope::make(type, std::nullopt)};
  const Window window = conv_window(s.node, *x, *w);
  const int64_t outs = (*w)[0], ins = (*w)[1];
  if ((*x)[1] >= 0 && ins >= 0 && (*x)[1] != ins * window.group)
    s.fail(fmt::format("the input of shape {} has {} channels; weights of shape {} in {} group(s) need {}", to_string(*x),
                       (*x)[1], to_string(*w), window.group, ins * window.group));
  if (outs >= 0 && outs % window.group != 0)
    s.fail(fmt::format("{} output channels can't be split into {} groups", outs, window.group));
  if (bias_slot) check_bias(s, bias_slot, outs);
  Dims out{(*x)[0], outs};
  out.insert(out.end(), window.output.begin(), window.output.end());
  return {RuleScope::make(type, out)};
}

Outputs conv(const RuleScope& s) { return convolution(s, 1, 2, s.same_type(0, 3)); }
Outputs conv_integer(const RuleScope& s) { return convolution(s, 1, 0, DType::s32); }
Outputs qlinear_conv(const RuleScope& s) { return convolution(s, 3, 8, s.dtype(7)); }

Outputs conv_transpose(const RuleScope& s) {
  s.in(0), s.in(1);
  const DType type = s.same_type(0, 3);
  const Dims *x = s.dims(0), *w = s.dims(1);
  if (!x || !w) return {RuleScope::make(type, std::nullopt)};
  const Window window = conv_transpose_window(s.node, *x, *w);
  if ((*x)[1] >= 0 && (*w)[0] >= 0 && (*x)[1] != (*w)[0])
    s.fail(fmt::format("the input of shape {} does not fit weights of shape {}", to_string(*x), to_string(*w)));
  if ((*w)[0] >= 0 && (*w)[0] % window.group != 0)
    s.fail(fmt::format("{} input channels can't be split into {} groups", (*w)[0], window.group));
  const int64_t outs = (*w)[1] < 0 ? -1 : (*w)[1] * window.group;
  check_bias(s, 2, outs);
  Dims out{(*x)[0], outs};
  out.insert(out.end(), window.output.begin(), window.output.end());
  return {RuleScope::make(type, out)};
}

Outputs pool(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0), RuleScope::make(DType::s64, std::nullopt)};
  const Window window = pool_window(s.node, *x);
  Dims out{(*x)[0], (*x)[1]};
  out.insert(out.end(), window.output.begin(), window.output.end());
  return {RuleScope::make(s.dtype(0), out), RuleScope::make(DType::s64, out)};
}

}  // namespace

void add_window_rules(RuleTable& t) {
  t.add("Conv", conv);
  t.add("ConvInteger", conv_integer);
  t.add("QLinearConv", qlinear_conv);
  t.add("ConvTranspose", conv_transpose);
  t.add({"MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"}, pool);
}

}  // namespace shape_rules
}  // namespace quern
