// Convolutions and pools: any window, stride, dilation, padding and grouping that the rules allow.
#include <algorithm>

#include "sdk/conformance/drawing.hpp"

namespace quern::conform {
namespace {

using Ints = std::vector<int64_t>;

struct Shape { size_t axes = 2; Ints kernel, stride, dilation, pads; };

Shape window(Pencil& p, size_t axes, bool dilations, int64_t plain_kernel) {
  Shape s;
  s.axes = axes;
  for (size_t i = 0; i < axes; ++i) {
    s.kernel.push_back(p.sweeping() ? p.source.pick(1, axes == 3 ? 2 : 4) : plain_kernel);
    s.stride.push_back(p.sweeping() ? p.source.pick(1, 3) : plain_kernel);
    s.dilation.push_back(p.sweeping() && dilations && p.source.one_in(3) ? 2 : 1);
  }
  s.kernel = p.limits.list("kernel_shape", s.kernel);
  s.stride = p.limits.list("strides", s.stride);
  s.dilation = p.limits.list("dilations", s.dilation);
  for (size_t i = 0; i < 2 * axes; ++i) s.pads.push_back(p.sweeping() ? p.source.pick(0, std::min<int64_t>(2, s.kernel[i % axes] - 1)) : 0);
  s.pads = p.limits.list("pads", s.pads);
  return s;
}

int64_t reach(const Shape& s, size_t i) { return (s.kernel[i] - 1) * s.dilation[i] + 1; }

// auto_pad now and then, with the pads left to it.
void padding(Pencil& p, const Shape& s) {
  static const char* const modes[] = {"NOTSET", "NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"};
  const std::string mode = p.limits.text("auto_pad", p.sweeping() ? p.source.one_of(modes) : "NOTSET");
  if (mode == "NOTSET") p.node.attributes["pads"] = s.pads;
  else p.node.attributes["auto_pad"] = mode;
}

Dims input_dims(Pencil& p, const Shape& s, int64_t channels, int64_t plain) {
  Dims dims{p.sweeping() ? p.source.pick(1, 2) : 1, channels};
  for (size_t i = 0; i < s.axes; ++i)
    dims.push_back(p.sweeping() ? std::max<int64_t>(1, reach(s, i) - s.pads[i]) + p.source.pick(0, s.axes == 3 ? 2 : 6) : plain);
  return dims;
}

// How channels are cut into groups: {groups, input channels a group, output channels a group}.
Ints grouping(Pencil& p, bool depthwise_only_single) {
  const int64_t kind = p.sweeping() ? p.source.pick(0, 3) : 0;
  Ints g{1, p.sweeping() ? p.channels() : p.frame.depth, p.sweeping() ? p.channels() : 17};
  if (kind == 2) g = {p.channels(), 1, depthwise_only_single ? 1 : p.source.pick(1, 2)};
  if (kind == 3) g = {p.source.pick(2, 4), p.source.pick(1, 5), p.source.pick(1, 9)};
  const int64_t allowed = p.limits.number("group", g[0]);
  // "depthwise" among the options is no number: a depthwise draw stays as it is, the match decides.
  if (allowed != g[0] && kind != 2) g[0] = allowed;
  return g;
}

void draw_conv(Pencil& p) {
  const auto axes = static_cast<size_t>(std::max<int64_t>(1, p.limits.rank("input", p.sweeping() && p.source.one_in(4) ? 3 : 4, p.source) - 2));
  const Shape s = window(p, axes, true, 1);
  const Ints g = grouping(p, false);
  p.input("input", input_dims(p, s, g[0] * g[1], p.frame.depth > 1 ? 2 : 16));
  Dims weight{g[0] * g[2], g[1]};
  weight.insert(weight.end(), s.kernel.begin(), s.kernel.end());
  p.constant("weight", weight);
  if (!p.limits.absent("bias") && (!p.sweeping() || p.source.pick(0, 4) < 4)) p.constant("bias", {g[0] * g[2]});
  p.node.attributes["kernel_shape"] = s.kernel;
  p.node.attributes["strides"] = s.stride;
  p.node.attributes["dilations"] = s.dilation;
  p.node.attributes["group"] = g[0];
  padding(p, s);
}

void draw_conv_transpose(Pencil& p) {
  const auto axes = static_cast<size_t>(std::max<int64_t>(1, p.limits.rank("input", 4, p.source) - 2));
  const Shape s = window(p, axes, true, 1);
  const Ints g = grouping(p, false);
  Dims dims{p.sweeping() ? p.source.pick(1, 2) : 1, g[0] * g[1]};
  for (size_t i = 0; i < axes; ++i) dims.push_back(p.sweeping() ? p.source.pick(1, axes == 3 ? 3 : 6) : p.frame.depth > 1 ? 2 : 16);
  Ints pads = s.pads, more;
  for (size_t i = 0; i < axes; ++i) {
    const int64_t full = (dims[2 + i] - 1) * s.stride[i] + reach(s, i);
    while (pads[i] + pads[axes + i] >= full) (pads[i] > 0 ? pads[i] : pads[axes + i]) -= 1;
    more.push_back(p.sweeping() ? p.source.pick(0, std::min<int64_t>(1, s.stride[i] - 1)) : 0);
  }
  p.input("input", dims);
  Dims weight{g[0] * g[1], g[2]};
  weight.insert(weight.end(), s.kernel.begin(), s.kernel.end());
  p.constant("weight", weight);
  if (!p.limits.absent("bias") && (!p.sweeping() || p.source.pick(0, 4) < 4)) p.constant("bias", {g[0] * g[2]});
  p.node.attributes["kernel_shape"] = s.kernel;
  p.node.attributes["strides"] = s.stride;
  p.node.attributes["dilations"] = s.dilation;
  p.node.attributes["group"] = g[0];
  p.node.attributes["pads"] = p.limits.list("pads", pads);
  p.node.attributes["output_padding"] = p.limits.list("output_padding", more);
}

void draw_pool(Pencil& p) {
  const bool average = p.node.op == "AveragePool";
  const auto axes = static_cast<size_t>(std::max<int64_t>(1, p.limits.rank("input", p.sweeping() && p.source.one_in(4) ? 3 : 4, p.source) - 2));
  const Shape s = window(p, axes, p.node.since_version >= (average ? 19 : 10), 2);
  p.input("input", input_dims(p, s, p.sweeping() ? p.channels() : 1, 64));
  p.node.attributes["kernel_shape"] = s.kernel;
  p.node.attributes["strides"] = s.stride;
  if (p.node.since_version >= (average ? 19 : 10)) p.node.attributes["dilations"] = s.dilation;
  if (average) p.node.attributes["count_include_pad"] = p.limits.number("count_include_pad", p.sweeping() ? p.source.pick(0, 1) : 0);
  const int64_t ceil = p.sweeping() && p.source.one_in(3) ? 1 : 0;
  if (p.node.since_version >= 10) p.node.attributes["ceil_mode"] = p.limits.number("ceil_mode", ceil);
  padding(p, s);
}

// A plane per channel; in the arithmetic style four elements a channel, so that every sum has its place.
void draw_global(Pencil& p) {
  const int64_t rank = p.limits.rank("input", p.sweeping() && p.source.one_in(4) ? 3 : 4, p.source);
  Dims dims{p.sweeping() ? p.source.pick(1, 3) : 1, p.sweeping() ? p.channels() : 1024};
  for (int64_t i = 2; i < rank; ++i) dims.push_back(p.sweeping() ? p.source.pick(1, 7) : i < 4 ? 2 : 1);
  p.input("input", dims);
}

}  // namespace

bool draw_window(Pencil& p) {
  const std::string& op = p.node.op;
  if (op == "Conv") draw_conv(p);
  else if (op == "ConvTranspose") draw_conv_transpose(p);
  else if (op == "AveragePool" || op == "MaxPool") draw_pool(p);
  else if (op == "GlobalAveragePool" || op == "GlobalMaxPool") draw_global(p);
  else return false;
  return true;
}

}  // namespace quern::conform
