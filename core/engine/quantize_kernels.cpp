// Borders of integer parts: Quantize, Dequantize and FakeQuantize of the "quern" domain, by the definition in core/numeric
// (which is its own scalar model). Any dense layout; input and output lie alike.
//
// Dequantize has a fast path here: dense runs that share one scale (per tensor, or per channel of row-major data) and
// channels-last data, where scales change with every element.
#include <immintrin.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/provider.hpp"
#include "core/numeric/quantization.hpp"
#include "core/numeric/rounding.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

enum class Border { quantize, dequantize, fake };

template <class Q>
__attribute__((target("avx2"))) __m256i load_codes(const Q* p) {
  if constexpr (sizeof(Q) == 1) {
    const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return std::is_signed_v<Q> ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v);
  } else {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return std::is_signed_v<Q> ? _mm256_cvtepi16_epi32(v) : _mm256_cvtepu16_epi32(v);
  }
}

// float(q - z) * s: the difference fits 17 bits, so its conversion is exact. `step` 0: one scale for the run; 1: one per element.
template <class Q>
__attribute__((target("avx2"))) void dequantize_run_avx2(const Q* in, float* out, int64_t count, const float* scale, const int32_t* zero,
                                                         int64_t step) {
  __m256 s = _mm256_set1_ps(scale[0]);
  __m256i z = _mm256_set1_epi32(zero[0]);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    if (step) {
      s = _mm256_loadu_ps(scale + i);
      z = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero + i));
    }
    _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(load_codes(in + i), z)), s));
  }
  for (; i < count; ++i) out[i] = static_cast<float>(static_cast<int32_t>(in[i]) - zero[i * step]) * scale[i * step];
}

// Dense memory in which axis `axis` has stride `inner`.
template <class Q>
void dequantize_dense(const Q* in, float* out, int64_t count, int64_t channels, int64_t inner, const QuantParams& params,
                      const std::vector<int32_t>& zero) {
  if (params.scale.size() == 1) return dequantize_run_avx2(in, out, count, params.scale.data(), zero.data(), 0);
  for (int64_t at = 0; at < count;) {
    if (inner == 1) {
      dequantize_run_avx2(in + at, out + at, channels, params.scale.data(), zero.data(), 1);
      at += channels;
      continue;
    }
    for (int64_t c = 0; c < channels; ++c, at += inner)
      dequantize_run_avx2(in + at, out + at, inner, &params.scale[static_cast<size_t>(c)], &zero[static_cast<size_t>(c)], 0);
  }
}

bool dense_alike(const TensorView& a, const TensorView& b) {
  auto matches = [](const TensorView& v, const Dims& strides) {
    for (size_t i = 0; i < strides.size(); ++i)
      if (v.dims[i] != 1 && v.strides[i] != strides[i]) return false;
    return true;
  };
  const Dims rows = row_major_strides(a.dims), last = channels_last_strides(a.dims);
  return (matches(a, rows) && matches(b, rows)) || (matches(a, last) && matches(b, last));
}

class BorderKernel final : public Kernel {
 public:
  BorderKernel(Border border, std::shared_ptr<const NodePayload> owner, const QuantParams& params)
      : border_(border), owner_(std::move(owner)), params_(params), zero_(params.zero_point.begin(), params.zero_point.end()) {}

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    switch (border_) {
      case Border::quantize: quantize(inputs[0], params_, outputs[0]); return;
      case Border::fake: fake_quantize(inputs[0], params_, outputs[0]); return;
      case Border::dequantize:
        if (!dequantize_fast(inputs[0], outputs[0])) dequantize(inputs[0], params_, outputs[0]);
        return;
    }
  }

 private:
  bool dequantize_fast(const TensorView& in, const TensorView& out) const {
    static const bool avx2 = __builtin_cpu_supports("avx2");
    if (!avx2 || !dense_alike(in, out)) return false;
    const int64_t count = in.count();
    int64_t channels = 1, inner = count;
    if (params_.scale.size() > 1) {
      const auto axis = static_cast<size_t>(params_.axis);
      if (in.dims[axis] == 0) return true;
      channels = in.dims[axis];
      inner = channels == 1 ? count : in.strides[axis];
    }
    switch (in.type) {
      case DType::u8: dequantize_dense(in.as<uint8_t>(), out.as<float>(), count, channels, inner, params_, zero_); return true;
      case DType::s8: dequantize_dense(in.as<int8_t>(), out.as<float>(), count, channels, inner, params_, zero_); return true;
      case DType::u16: dequantize_dense(in.as<uint16_t>(), out.as<float>(), count, channels, inner, params_, zero_); return true;
      case DType::s16: dequantize_dense(in.as<int16_t>(), out.as<float>(), count, channels, inner, params_, zero_); return true;
      default: return false;
    }
  }

  Border border_;
  std::shared_ptr<const NodePayload> owner_;  // of params_
  const QuantParams& params_;
  std::vector<int32_t> zero_;
};

class BorderProvider final : public Provider {
 public:
  std::string name() const override { return "border"; }

  bool knows(const Graph&, const Node& node) const override {
    return node.domain == "quern" && (node.op == "Quantize" || node.op == "Dequantize" || node.op == "FakeQuantize");
  }

  std::optional<PreparedKernel> prepare(const KernelRequest& request) const override {
    const Node& node = request.graph.node(request.members[0]);
    const auto* payload = dynamic_cast<const QuantizePayload*>(node.payload.get());
    if (!payload || request.inputs.size() != 1 || request.outputs.size() != 1)
      throw Error(ErrorCode::internal, node.op + " needs one input, one output and a quantizer");
    const QuantParams& params = payload->params;
    const Border border = node.op == "Quantize" ? Border::quantize : node.op == "Dequantize" ? Border::dequantize : Border::fake;
    const DType codes = params.format.storage(), from = border == Border::dequantize ? codes : DType::f32;
    const Dims& dims = request.inputs[0].dims;
    if (request.inputs[0].dtype != from)
      throw Error(ErrorCode::model, node.op + " expects " + std::string(name_of(from)) + ", its input is " +
                                        std::string(name_of(request.inputs[0].dtype)));
    const bool per_channel = params.scale.size() > 1;
    if (params.scale.empty() || params.scale.size() != params.zero_point.size() ||
        (per_channel && (params.axis < 0 || params.axis >= static_cast<int>(dims.size()) ||
                         dims[static_cast<size_t>(params.axis)] != static_cast<int64_t>(params.scale.size()))))
      throw Error(ErrorCode::model, node.op + ": " + std::to_string(params.scale.size()) + " scales do not fit a tensor of shape " +
                                        to_string(dims));
    for (float s : params.scale)
      if (!(s > 0) || s > 3e38f) throw Error(ErrorCode::model, node.op + ": a scale is not a positive, finite number");
    PreparedKernel made;
    made.kernel = std::make_unique<BorderKernel>(border, node.payload, params);
    made.name = border == Border::quantize ? "quern.quantize" : border == Border::dequantize ? "quern.dequantize" : "quern.fake_quantize";
    made.input_layouts = {Layout::any};
    made.output_layouts = {Layout::any};
    made.may_alias = border == Border::fake;
    return made;
  }
};

}  // namespace

std::shared_ptr<const Provider> border_provider() {
  static const auto provider = std::make_shared<const BorderProvider>();
  return provider;
}

}  // namespace quern
