#include "plugins/common/resample.hpp"

#include <algorithm>
#include <cmath>

namespace quern_common {
namespace {

const char* const coordinate_modes[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn"};

// In f32, one operation after the other, as runtimes do: which side of a tie a place falls on depends on it.
float coordinate(std::string_view mode, int64_t place, int64_t in, int64_t out, float scale) {
  const auto x = static_cast<float>(place), n = static_cast<float>(in);
  const float length = scale * n;
  if (mode == "asymmetric") return x / scale;
  if (mode == "align_corners") return length == 1.f || out == 1 ? 0.f : x * (n - 1) / (length - 1);
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5f) / scale;
  if (mode == "pytorch_half_pixel" && out <= 1) return 0.f;
  float v = (x + 0.5f) / scale - 0.5f;
  if (mode == "half_pixel_symmetric") v = n / 2 * (1 - static_cast<float>(out) / length) + (x + 0.5f) / scale - 0.5f;
  return v;
}

int64_t nearest(std::string_view mode, float x) {
  const float below = std::floor(x), part = x - below;
  if (mode == "floor") return static_cast<int64_t>(below);
  if (mode == "ceil") return static_cast<int64_t>(std::ceil(x));
  const bool up = mode == "round_prefer_ceil" ? part >= 0.5f : part > 0.5f;
  return static_cast<int64_t>(below) + (up ? 1 : 0);
}

// The scale of each axis as the operator states it; 0: it follows from the sizes.
std::vector<float> scales_of(const OpView& op, size_t rank) {
  std::vector<float> scales(rank, 0.f);
  const NodeView node = op.node(0);
  if (node.inputs().size() < 3 || node.inputs()[2] == QUERN_ABSENT_INPUT) return scales;
  const OperandView o = op.input_at(static_cast<size_t>(node.inputs()[2]));
  if (!o.is_constant() || o.tensor().count() == 0) return scales;
  const auto v = o.tensor().values<const float>();
  Dims axes = node.integers("axes");
  if (axes.empty()) for (size_t a = 0; a < rank; ++a) axes.push_back(static_cast<int64_t>(a));
  if (v.size() != axes.size()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": Resize has not one scale per axis");
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t a = axes[i] < 0 ? axes[i] + static_cast<int64_t>(rank) : axes[i];
    if (a < 0 || a >= static_cast<int64_t>(rank)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an axis is outside of the rank");
    scales[static_cast<size_t>(a)] = v[i];
  }
  return scales;
}

}  // namespace

bool can_resample(const OpView& op, std::string& reason) {
  const NodeView node = op.node(0);
  const std::string_view mode = node.text("mode", "nearest"), where = node.text("coordinate_transformation_mode", "half_pixel");
  for (size_t i = 0; i < op.inputs(); ++i)
    if (op.input_at(i).role().empty() && !op.input_at(i).is_constant()) reason = "the sizes of Resize are not constants";
  if (mode != "nearest" && mode != "linear") reason = "Resize of mode " + std::string(mode);
  if (std::none_of(std::begin(coordinate_modes), std::end(coordinate_modes), [&](const char* m) { return where == m; }))
    reason = "Resize with coordinates by " + std::string(where);
  if (node.integer("antialias", 0) != 0 || node.integer("exclude_outside", 0) != 0) reason = "Resize with antialias or exclude_outside";
  const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
  if (in.size() != out.size() || in.size() < 3 || in.size() > 4) reason = "Resize of a tensor that is no image";
  for (size_t a = 1; reason.empty() && a < in.size(); ++a)
    if (in[a] < 1 || out[a] < 1) reason = "the sizes of Resize are not known";
  if (reason.empty() && in[1] != out[1]) reason = "Resize along the channels";
  return reason.empty();
}

std::vector<Taps> resample_taps(const OpView& op, const Dims& in, const Dims& out) {
  const NodeView node = op.node(0);
  const std::string mode(node.text("mode", "nearest")), where(node.text("coordinate_transformation_mode", "half_pixel")),
      rounding(node.text("nearest_mode", "round_prefer_floor"));
  const auto scales = scales_of(op, in.size());
  std::vector<Taps> all;
  for (size_t a = 2; a < in.size(); ++a) {
    const float scale = scales[a] > 0 ? scales[a] : static_cast<float>(out[a]) / static_cast<float>(in[a]);
    Taps t;
    t.axis = a;
    t.taps = mode == "linear" ? 2 : 1;
    const auto last = static_cast<float>(in[a] - 1);
    for (int64_t o = 0; o < out[a]; ++o) {
      const float x = coordinate(where, o, in[a], out[a], scale);
      if (t.taps == 1) {
        t.index.push_back(static_cast<int32_t>(std::min(std::max<int64_t>(nearest(rounding, x), 0), in[a] - 1)));
        t.weight.push_back(1);
        continue;
      }
      const float inside = x < 0 ? 0.f : x > last ? last : x;
      const auto below = static_cast<int64_t>(inside);
      // Rounded once; the other tap has the rest, so that a constant image stays what it is.
      const auto second = static_cast<int32_t>(std::floor((inside - static_cast<float>(below)) * static_cast<float>(1 << weight_bits) + 0.5f));
      t.index.push_back(static_cast<int32_t>(below));
      t.index.push_back(static_cast<int32_t>(std::min(below + 1, in[a] - 1)));
      t.weight.push_back((1 << weight_bits) - second);
      t.weight.push_back(second);
    }
    all.push_back(std::move(t));
  }
  return all;
}

void emit_taps(const Taps& t, quern_sdk::TableSink& tables) {
  const std::vector<int64_t> dims{static_cast<int64_t>(t.index.size()) / t.taps, t.taps};
  tables.emit("taps_" + std::to_string(t.axis), t.index, dims);
  tables.emit("weights_" + std::to_string(t.axis), t.weight, dims);
}

}  // namespace quern_common
