// Operators that move elements, and functions of one tensor.
#include <algorithm>
#include <numeric>
#include <set>

#include "sdk/conformance/drawing.hpp"

namespace quern::conform {
namespace {

using Ints = std::vector<int64_t>;

Dims dims_of(Pencil& p, int64_t usual) {
  const int64_t rank = p.limits.rank("input", usual, p.source);
  if (!p.sweeping()) {
    Dims dims(static_cast<size_t>(std::max<int64_t>(1, rank)), 1);
    dims.back() = 256;
    if (rank > 1) dims[dims.size() - 2] = 256;  // all codes of 16 bits; those of 8 bits many times
    return dims;
  }
  Dims dims;
  for (int64_t i = 0; i < rank; ++i) dims.push_back(i == 0 ? p.source.pick(1, 3) : i == 1 ? p.channels() : p.source.pick(1, 7));
  return dims;
}

void draw_slice(Pencil& p, const Dims& dims) {
  Ints starts, ends, axes, steps;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (p.source.one_in(2)) continue;
    const int64_t from = p.source.pick(0, dims[i] - 1), to = p.source.pick(from + 1, dims[i]);
    const bool backwards = p.source.one_in(5);
    starts.push_back(backwards ? to - 1 : from);
    ends.push_back(backwards ? from - 1 - (from == 0 ? dims[i] : 0) : to);
    axes.push_back(static_cast<int64_t>(i));
    steps.push_back(backwards ? -1 : p.source.pick(1, 2));
  }
  if (starts.empty()) { starts = {0}; ends = {1}; axes = {0}; steps = {1}; }
  if (p.node.since_version < 10) {
    p.node.attributes["starts"] = starts, p.node.attributes["ends"] = ends, p.node.attributes["axes"] = axes;
    return;
  }
  p.integers("starts", starts);
  p.integers("ends", ends);
  p.integers("axes", axes);
  p.integers("steps", steps);
}

void draw_pad(Pencil& p, const Dims& dims) {
  static const char* const modes[] = {"constant", "reflect", "edge"};
  const std::string mode = p.limits.text("mode", p.source.one_of(modes));
  Ints pads;
  for (size_t i = 0; i < 2 * dims.size(); ++i) pads.push_back(p.source.pick(0, std::min<int64_t>(2, dims[i % dims.size()] - 1)));
  p.node.attributes["mode"] = mode;
  p.integers("pads", pads);
  if (mode == "constant" && p.source.one_in(2)) p.floats("value", {}, {static_cast<float>(p.source.pick(-8, 8)) / 8.f});
}

// Sizes of a Reshape: the elements in other axes, some merged, some cut.
Ints reshaped(Pencil& p, const Dims& dims) {
  const int64_t total = element_count(dims);
  switch (p.source.pick(0, 3)) {
    case 0: return {total};
    case 1: return {dims[0], -1};
    case 2: return {0, -1};
    default: {
      Ints out{1};
      int64_t rest = total;
      for (const int64_t f : {2, 3, 5, 7})
        if (rest % f == 0) { out.push_back(f); rest /= f; }
      out.push_back(rest);
      return out;
    }
  }
}

void draw_blocks(Pencil& p) {
  const int64_t block = p.limits.number("blocksize", p.source.pick(1, 3));
  Dims dims{p.source.pick(1, 2), p.source.pick(1, 4), p.source.pick(1, 4), p.source.pick(1, 4)};
  if (p.node.op == "DepthToSpace") {
    dims[1] *= block * block;
    p.node.attributes["mode"] = p.limits.text("mode", p.source.one_in(2) ? "CRD" : "DCR");
  } else {
    dims[2] *= block, dims[3] *= block;
  }
  p.input("input", dims);
  p.node.attributes["blocksize"] = block;
}

}  // namespace

bool draw_layout(Pencil& p) {
  static const std::set<std::string> known = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather",
                                              "Pad", "Tile", "Expand", "DepthToSpace", "SpaceToDepth"};
  const std::string& op = p.node.op;
  if (!known.count(op)) return false;
  if (op == "DepthToSpace" || op == "SpaceToDepth") {
    draw_blocks(p);
    return true;
  }
  Dims dims = dims_of(p, p.sweeping() ? p.source.pick(2, 4) : 4);
  const auto rank = static_cast<int64_t>(dims.size());
  if (op == "Squeeze") dims[static_cast<size_t>(p.source.pick(0, rank - 1))] = 1;
  if (op == "Expand" && p.sweeping()) dims[static_cast<size_t>(p.source.pick(0, rank - 1))] = 1;
  p.input("input", dims);
  const bool axes_by_input = p.node.since_version >= 13;
  const auto axes = [&](const Ints& list) {
    if (axes_by_input) p.integers("axes", list);
    else p.node.attributes["axes"] = list;
  };
  if (op == "Reshape") {
    p.integers("shape", reshaped(p, dims));
  } else if (op == "Flatten") {
    p.node.attributes["axis"] = p.limits.number("axis", p.source.pick(0, rank));
  } else if (op == "Transpose") {
    Ints perm(dims.size());
    std::iota(perm.begin(), perm.end(), 0);
    for (size_t i = perm.size(); i-- > 1;) std::swap(perm[i], perm[static_cast<size_t>(p.source.pick(0, static_cast<int64_t>(i)))]);
    p.node.attributes["perm"] = p.limits.list("perm", perm);
  } else if (op == "Squeeze") {
    axes({static_cast<int64_t>(std::find(dims.begin(), dims.end(), 1) - dims.begin())});
  } else if (op == "Unsqueeze") {
    axes({p.source.pick(0, rank)});
  } else if (op == "Slice") {
    draw_slice(p, dims);
  } else if (op == "Gather") {
    const int64_t axis = p.limits.number("axis", p.source.pick(0, rank - 1));
    const int64_t size = axis >= 0 && axis < rank ? dims[static_cast<size_t>(axis)] : 1;
    Ints list;
    for (int64_t i = p.source.pick(1, 5); i > 0; --i) list.push_back(p.source.pick(0, size - 1));
    p.integers("indices", list);
    p.node.attributes["axis"] = axis;
  } else if (op == "Pad") {
    draw_pad(p, dims);
  } else if (op == "Tile") {
    Ints repeats;
    for (int64_t i = 0; i < rank; ++i) repeats.push_back(p.sweeping() ? p.source.pick(1, 2) : 1);
    p.integers("repeats", repeats);
  } else if (op == "Expand") {
    Ints shape(dims.begin(), dims.end());
    for (auto& s : shape) if (s == 1 && p.sweeping()) s = p.source.pick(1, 4);
    p.integers("shape", shape);
  }
  return true;
}

bool draw_function(Pencil& p) {
  static const std::set<std::string> known = {
      "Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu",
      "Softplus", "Softsign", "ThresholdedRelu", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Erf", "Sign", "Floor", "Ceil", "Round", "Sin", "Cos"};
  const std::string& op = p.node.op;
  if (!known.count(op)) return false;
  const Dims dims = dims_of(p, p.sweeping() ? p.source.pick(1, 4) : 4);
  p.input("input", dims);
  const auto some = [&](const char* name, int64_t low, int64_t high) {
    p.node.attributes[name] = p.limits.real(name, static_cast<float>(p.source.pick(low, high)) / 16.f);
  };
  if (op == "Clip") {
    p.floats("low", {}, {static_cast<float>(p.source.pick(-6, 1)) / 4.f});
    p.floats("high", {}, {static_cast<float>(p.source.pick(2, 24)) / 4.f});
  } else if (op == "PRelu") {
    const bool single = dims.size() < 2 || p.source.one_in(2);
    Dims shape = single ? Dims{1} : Dims(dims.size() - 1, 1);
    if (!single) shape[0] = dims[1];
    std::vector<float> slopes;
    for (int64_t i = 0; i < element_count(shape); ++i) slopes.push_back(static_cast<float>(p.source.pick(1, 60)) / 64.f);
    p.floats("slope", shape, slopes);
  } else if (op == "LeakyRelu" || op == "ThresholdedRelu" || op == "Elu" || op == "Celu") {
    some("alpha", 1, 24);
  } else if (op == "HardSigmoid") {
    some("alpha", 1, 8);
    some("beta", 2, 12);
  } else if (op == "Gelu") {
    p.node.attributes["approximate"] = p.limits.text("approximate", p.source.one_in(2) ? "tanh" : "none");
  } else if (op == "Swish" && p.source.one_in(2)) {
    some("alpha", 8, 28);
  }
  return true;
}

}  // namespace quern::conform
