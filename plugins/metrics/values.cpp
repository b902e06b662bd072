#include "values.hpp"

namespace quern_metrics {
namespace {

template <class T>
std::vector<double> doubles(const quern_tensor& t) {
  const auto v = TensorView(t).values<const T>();
  return {v.begin(), v.end()};
}

double from_half(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  double v = exponent == 0 ? mantissa * 0x1p-24 : exponent == 31 ? (mantissa ? std::nan("") : HUGE_VAL) : (1024 + mantissa) * portable::power_of_two(exponent - 25);
  return h & 0x8000 ? -v : v;
}

}  // namespace

void refuse(const std::string& what) { throw Failure(QUERN_INVALID_ARGUMENT, what); }

std::vector<double> numbers_of(const quern_tensor& t) {
  switch (t.dtype) {
    case QUERN_DTYPE_F32: return doubles<float>(t);
    case QUERN_DTYPE_F64: return doubles<double>(t);
    case QUERN_DTYPE_U8: return doubles<uint8_t>(t);
    case QUERN_DTYPE_S8: return doubles<int8_t>(t);
    case QUERN_DTYPE_U16: return doubles<uint16_t>(t);
    case QUERN_DTYPE_S16: return doubles<int16_t>(t);
    case QUERN_DTYPE_U32: return doubles<uint32_t>(t);
    case QUERN_DTYPE_S32: return doubles<int32_t>(t);
    case QUERN_DTYPE_U64: return doubles<uint64_t>(t);
    case QUERN_DTYPE_S64: return doubles<int64_t>(t);
    case QUERN_DTYPE_BOOL: return doubles<bool>(t);
    case QUERN_DTYPE_F16: {
      const auto* bits = static_cast<const uint16_t*>(t.data);
      std::vector<double> out(static_cast<size_t>(TensorView(t).count()));
      for (size_t i = 0; i < out.size(); ++i) out[i] = from_half(bits[i]);
      return out;
    }
    default: refuse("a tensor of type " + std::to_string(t.dtype) + " holds no numbers");
  }
}

std::vector<int64_t> classes_of(const quern_tensor& label) {
  std::vector<int64_t> out;
  for (double v : numbers_of(label)) {
    if (!(v == std::floor(v)) || std::fabs(v) > 1e9) refuse("the label " + std::to_string(v) + " is not a class number");
    out.push_back(static_cast<int64_t>(v));
  }
  return out;
}

std::string dims_text(Span<const int64_t> dims) {
  std::string s = "[";
  for (size_t i = 0; i < dims.size(); ++i) s += (i ? "," : "") + std::to_string(dims[i]);
  return s + "]";
}

const quern_tensor& output_of(const OutputsView& outputs, const std::string& name) {
  std::string there;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (name.empty() || outputs.name(i) == name) return outputs[i].raw();
    there += (i ? ", " : "") + std::string(outputs.name(i));
  }
  refuse("the network has no output '" + name + "'; it has " + (there.empty() ? "none" : there));
}

int64_t Scores::best(int64_t position) const {
  int64_t k = 0;
  for (int64_t c = 1; c < classes; ++c)
    if (at(position, c) > at(position, k) || std::isnan(at(position, k))) k = c;
  return k;
}

Scores scores_of(const quern_tensor& output, int64_t positions) {
  const TensorView t(output);
  if (positions > 0 && t.rank() >= 1) {
    const size_t last = t.rank() - 1;
    for (size_t axis : {t.rank() >= 2 ? size_t{1} : size_t{0}, last}) {
      if (t.dim(axis) <= 0 || t.count() / t.dim(axis) != positions) continue;
      Scores s{numbers_of(output), positions, t.dim(axis), 1};
      for (size_t i = axis + 1; i < t.rank(); ++i) s.inner *= t.dim(i);
      return s;
    }
  }
  refuse("an output of shape " + dims_text(t.dims()) + " does not fit " + std::to_string(positions) + " label(s) a sample");
}

std::vector<int64_t> decided(const quern_tensor& output, int64_t positions, double threshold) {
  const bool integer = output.dtype != QUERN_DTYPE_F32 && output.dtype != QUERN_DTYPE_F64 && output.dtype != QUERN_DTYPE_F16;
  if (integer && TensorView(output).count() == positions) return classes_of(output);
  const Scores s = scores_of(output, positions);
  std::vector<int64_t> out(static_cast<size_t>(positions));
  for (int64_t p = 0; p < positions; ++p) out[static_cast<size_t>(p)] = s.classes == 1 ? s.at(p, 0) > threshold : s.best(p);
  return out;
}

}  // namespace quern_metrics
