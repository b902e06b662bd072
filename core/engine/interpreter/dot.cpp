// The dot form: Conv, ConvTranspose, Gemm, MatMul by a constant matrix. All are computed as a convolution over up to three
// spatial axes; Gemm and MatMul have none, their rows are the batch. A ConvTranspose asks for each output which taps reach
// an input. (MatMul of two tensors that flow: product.cpp.)
//
// Accumulation is by our own widening loops: int16 x int16 -> int32 where the worst case provably fits, else exact int64,
// else (a saturating or ordered accumulator) element by element in the order the contract states.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/base/error.hpp"
#include "core/base/wide.hpp"
#include "core/engine/interpreter/unit_view.hpp"
#include "core/engine/saturations.hpp"
#include "core/graph/shapes.hpp"

namespace quern::interpreter {
namespace {

using Three = std::array<int64_t, 3>;

struct Geometry {
  int64_t batch = 1, channels = 1, out_channels = 1, group = 1;
  Three in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1}, pad{0, 0, 0}, padded{1, 1, 1};
  int64_t group_channels() const { return channels / group; }
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

QUERN_WIDE
int32_t dot16(const int16_t* a, const int16_t* b, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<int32_t>(a[i]) * static_cast<int32_t>(b[i]);
  return sum;
}

int64_t dot64(const int64_t* a, const int64_t* b, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

int64_t limit_to(i128 v, int bits, bool is_signed) {
  const i128 high = is_signed ? (i128{1} << (bits - 1)) - 1 : (i128{1} << bits) - 1;
  const i128 low = is_signed ? -(i128{1} << (bits - 1)) : 0;
  return static_cast<int64_t>(std::min(std::max(v, low), high));
}

int64_t wrap_to(int64_t v, int bits, bool is_signed) {
  if (bits >= 64) return v;
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  uint64_t u = static_cast<uint64_t>(v) & mask;
  if (is_signed && (u >> (bits - 1)) != 0) u |= ~mask;
  return static_cast<int64_t>(u);
}

class DotKernel : public Kernel {
 public:
  explicit DotKernel(const UnitView& view) : view_(view), extras_(view_), post_(view_.post(out_channels_of(view_))) {
    const Flowing* input = view_.find("input");
    const UnitOperand* weight = view_.unit->operand("weight");
    if (!input) view_.fail("the dot form needs an operand 'input'");
    if (!weight || !weight->constant) view_.fail("the dot form needs a constant operand 'weight'");
    input_ = input->input;
    resolve(*input, *weight);
    prepare_weights(*weight);
    if (!view_.contract().acc.init.empty()) {
      const Tensor* init = UnitOperands(*view_.unit).table(view_.contract().acc.init);
      if (init) init_ = init->to_ints();
      if (!init_.empty() && init_.size() != 1 && init_.size() != static_cast<size_t>(g_.out_channels))
        view_.fail("accumulator init has neither one element nor one per output channel");
    }
    prepare_input(*input);
  }

  std::unique_ptr<KernelState> make_state() const override { return std::make_unique<SaturatingState>(); }

  size_t workspace_bytes() const override {
    const size_t places = static_cast<size_t>(g_.padded[0] * g_.padded[1] * g_.padded[2] * g_.channels);
    return places * (narrow_ ? sizeof(int16_t) : sizeof(int64_t)) + 64;
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    uint64_t saturated = 0;
    if (narrow_) run_typed<int16_t>(inputs, outputs[0], static_cast<int16_t*>(workspace), saturated);
    else run_typed<int64_t>(inputs, outputs[0], static_cast<int64_t*>(workspace), saturated);
    if (auto* s = dynamic_cast<SaturatingState*>(state)) s->saturations = saturated;
  }

 private:
  static int64_t out_channels_of(const UnitView& view) {
    const Dims& d = view.output_dims;
    return view.main().op == "Conv" || view.main().op == "ConvTranspose" ? d.at(1) : d.back();
  }

  void resolve(const Flowing& input, const UnitOperand& weight) {
    const UnitMember& main = view_.main();
    const Node node = node_of(main);
    const Dims& w = weight.constant->dims();
    backward_ = main.op == "ConvTranspose";
    conv_ = main.op == "Conv" || backward_;
    if (conv_) {
      const Window win = backward_ ? conv_transpose_window(node, input.dims, w) : conv_window(node, input.dims, w);
      const size_t n = win.kernel.size(), skip = 3 - n;
      if (n > 3) view_.fail("a convolution of more than three spatial axes");
      g_.batch = input.dims[0];
      g_.channels = input.dims[1];
      g_.group = win.group;
      g_.out_channels = backward_ ? w[1] * win.group : w[0];
      for (size_t i = 0; i < n; ++i) {
        g_.in[skip + i] = input.dims[2 + i];
        g_.out[skip + i] = win.output[i];
        g_.kernel[skip + i] = win.kernel[i];
        g_.stride[skip + i] = win.stride[i];
        g_.dilation[skip + i] = win.dilation[i];
        g_.pad[skip + i] = win.pad_begin[i];
        g_.padded[skip + i] = input.dims[2 + i] + (backward_ ? 0 : win.pad_begin[i] + win.pad_end[i]);
      }
      return;
    }
    if (w.size() != 2) view_.fail("Gemm and MatMul need a weight of rank 2");
    if (main.op == "Gemm") {
      transposed_ = node.integer("transB", 0) != 0;
      if (node.integer("transA", 0) != 0) view_.fail("Gemm with transA");
      if (node.real("alpha", 1) != 1 || node.real("beta", 1) != 1) view_.fail("Gemm with alpha or beta other than 1");
    } else if (main.op != "MatMul") {
      view_.fail("the dot form knows Conv, ConvTranspose, Gemm and MatMul, not " + main.op);
    }
    g_.channels = transposed_ ? w[1] : w[0];
    g_.out_channels = transposed_ ? w[0] : w[1];
    g_.batch = 1;
    for (size_t i = 0; i + 1 < input.dims.size(); ++i) g_.batch *= input.dims[i];
    if (input.dims.back() != g_.channels) view_.fail("input and weight do not agree in their inner dimension");
  }

  // Weights as [oc][tap][ic in group], after their pre-stages.
  void prepare_weights(const UnitOperand& weight) {
    const Tensor& w = *weight.constant;
    const StageProgram pre = view_.pre("weight", g_.out_channels);
    const TensorView all{const_cast<void*>(w.data()), w.type(), w.dims(), {}};
    const int64_t ic = g_.group_channels(), taps = g_.taps();
    wide_.resize(static_cast<size_t>(g_.out_channels * ic * taps));
    for (int64_t oc = 0; oc < g_.out_channels; ++oc)
      for (int64_t c = 0; c < ic; ++c)
        for (int64_t t = 0; t < taps; ++t) {
          const int64_t from = conv_ ? (backward_ ? backward_place(oc, c) : oc * ic + c) * taps + t
                                     : (transposed_ ? oc * ic + c : c * g_.out_channels + oc);
          const StageValue v = pre.run(load(all, from), oc);
          if (v.is_float) view_.fail("the interpreter accumulates integers; the weight's pre-stages end with a float");
          wide_[static_cast<size_t>((oc * taps + t) * ic + c)] = v.i;
        }
  }

  // Of a ConvTranspose's weight [ic][oc / group][kernel]: c counts within the group.
  int64_t backward_place(int64_t oc, int64_t c) const {
    const int64_t each = g_.out_channels / g_.group;
    return (oc / each * g_.group_channels() + c) * each + oc % each;
  }

  void prepare_input(const Flowing& input) {
    // Pre-stages of small integer types as a table, so that they cost one look-up an element.
    const StageProgram pre = view_.pre("input", g_.channels);
    const UnitOperand& o = *input.operand;
    int64_t low = 0, high = 0;
    switch (o.dtype) {
      case DType::u8: high = 255; break;
      case DType::s8: low = -128; high = 127; break;
      case DType::s16: low = -32768; high = 32767; break;
      case DType::u16: high = 65535; break;
      default: view_.fail(fmt::format("the dot form takes integers of 8 or 16 bits, not {}", name_of(o.dtype)));
    }
    low_ = low;
    per_channel_input_ = uses_channel(view_.pre_stages("input"));
    const int64_t channels = per_channel_input_ ? g_.channels : 1, codes = high - low + 1;
    int64_t largest = std::max(-low, high);
    const bool plain = view_.pre_stages("input").empty();  // codes as they are: no table
    if (!plain) {
      lookup_.resize(static_cast<size_t>(channels * codes));
      largest = 0;
    }
    for (int64_t c = 0; !plain && c < channels; ++c)
      for (int64_t i = 0; i < codes; ++i) {
        const StageValue v = pre.run({false, low + i, 0}, c);
        if (v.is_float) view_.fail("the interpreter accumulates integers; the input's pre-stages end with a float");
        lookup_[static_cast<size_t>(c * codes + i)] = v.i;
        largest = std::max<int64_t>(largest, v.i < 0 ? -v.i : v.i);
      }
    codes_ = codes;
    // Padding: the zero point's code, or the code 0.
    const int64_t zero = view_.contract().acc.pad_with_zero_point && o.params ? o.params->zero_point.at(0) : 0;
    for (int64_t c = 0; c < channels; ++c) pad_.push_back(plain ? zero : lookup_.at(static_cast<size_t>(c * codes + zero - low)));

    const Accumulator& acc = view_.contract().acc;
    ordered_ = acc.overflow == Overflow::saturate || acc.saturate_every > 0;
    // int16 and int32 suffice where the worst case of every output channel stays below 2^31. Then a saturating accumulator of 32 bits
    // or more never saturates, and the order of its sum is free.
    const size_t per_channel = static_cast<size_t>(g_.group_channels() * g_.taps());
    bool fits = largest <= 32768 && (!ordered_ || (acc.bits >= 32 && acc.is_signed));
    for (int64_t oc = 0; fits && oc < g_.out_channels; ++oc) {
      i128 sum = 0;
      if (ordered_ && !init_.empty()) {
        const int64_t init = init_[init_.size() == 1 ? 0 : static_cast<size_t>(oc)];
        sum = init < 0 ? -static_cast<i128>(init) : init;
      }
      for (size_t k = 0; k < per_channel; ++k) {
        const int64_t w = wide_[static_cast<size_t>(oc) * per_channel + k];
        if (w < -32768 || w > 32767) fits = false;
        sum += static_cast<i128>(w < 0 ? -w : w) * largest;
      }
      if (sum >= (i128{1} << 31)) fits = false;
    }
    narrow_ = fits;
    ordered_ = ordered_ && !fits;
    if (narrow_) {
      short_.assign(wide_.begin(), wide_.end());
      wide_.clear();
      wide_.shrink_to_fit();
    }
  }

  bool uses_channel(const std::vector<Stage>& stages) const {
    const UnitOperands names(*view_.unit);
    auto many = [&](const StageOperand& o) {
      const Tensor* t = o.kind == StageOperand::Kind::table ? names.table(o.name) : nullptr;
      return t && t->count() > 1;
    };
    return std::any_of(stages.begin(), stages.end(), [&](const Stage& s) { return many(s.a) || many(s.b); });
  }

  template <class T>
  void fill(const TensorView& in, int64_t n, T* x) const {
    const auto stored = [&](int64_t offset) -> int64_t {
      switch (in.type) {
        case DType::u8: return in.as<uint8_t>()[offset];
        case DType::s8: return in.as<int8_t>()[offset];
        case DType::u16: return in.as<uint16_t>()[offset];
        default: return in.as<int16_t>()[offset];
      }
    };
    const auto value = [&](int64_t offset, int64_t c) -> T {
      const int64_t code = stored(offset);
      return static_cast<T>(lookup_.empty() ? code : lookup_[static_cast<size_t>((per_channel_input_ ? c * codes_ : 0) + code - low_)]);
    };
    if (!conv_) {
      int64_t offset = row_offset(in, n);
      for (int64_t c = 0; c < g_.channels; ++c) x[c] = value(offset + c * in.strides.back(), c);
      return;
    }
    const size_t skip = 3 - (in.dims.size() - 2);
    Three stride{0, 0, 0};
    for (size_t i = 2; i < in.dims.size(); ++i) stride[skip + i - 2] = in.strides[i];
    int64_t p = 0;
    for (int64_t d = 0; d < g_.padded[0]; ++d)
      for (int64_t h = 0; h < g_.padded[1]; ++h)
        for (int64_t w = 0; w < g_.padded[2]; ++w) {
          const Three pad = backward_ ? Three{0, 0, 0} : g_.pad;
          const int64_t id = d - pad[0], ih = h - pad[1], iw = w - pad[2];
          const bool inside = id >= 0 && id < g_.in[0] && ih >= 0 && ih < g_.in[1] && iw >= 0 && iw < g_.in[2];
          const int64_t base = inside ? n * in.strides[0] + id * stride[0] + ih * stride[1] + iw * stride[2] : 0;
          for (int64_t c = 0; c < g_.channels; ++c, ++p)
            x[p] = inside ? value(base + c * in.strides[1], c) : static_cast<T>(pad_[per_channel_input_ ? static_cast<size_t>(c) : 0]);
        }
  }

  // Offset of row n of a tensor whose last axis is the vector (Gemm, MatMul).
  static int64_t row_offset(const TensorView& v, int64_t n) {
    int64_t offset = 0;
    for (size_t i = v.dims.size() - 1; i-- > 0;) { offset += (n % v.dims[i]) * v.strides[i]; n /= v.dims[i]; }
    return offset;
  }

  // One step of a saturating accumulator.
  void saturate(i128& sum, uint64_t& saturated) const {
    const Accumulator& acc = view_.contract().acc;
    const int64_t limited = limit_to(sum, acc.bits, acc.is_signed);
    saturated += limited != sum;
    sum = limited;
  }

  int64_t checked(i128 sum, uint64_t& saturated) const {
    const Accumulator& acc = view_.contract().acc;
    if (acc.overflow == Overflow::wrap) return wrap_to(static_cast<int64_t>(sum), acc.bits, acc.is_signed);
    const int64_t limited = limit_to(sum, std::min(acc.bits, 64), acc.is_signed);
    if (acc.overflow == Overflow::must_not && limited != sum)
      view_.fail(fmt::format("the accumulator of {} bits overflows, which the contract says must not happen", acc.bits));
    saturated += limited != sum;
    return limited;
  }

  // `x` + `start`: first tap of output position; taps in the layout [kernel][channel].
  template <class T>
  int64_t accumulate(const T* x, int64_t start, int64_t oc, const T* weights, uint64_t& saturated) const {
    const int64_t ic = g_.group_channels(), first = oc / (g_.out_channels / g_.group) * ic;
    const int64_t init = init_.empty() ? 0 : init_[init_.size() == 1 ? 0 : static_cast<size_t>(oc)];
    const T* w = weights + oc * g_.taps() * ic;
    const auto tap = [&](int64_t d, int64_t h, int64_t k) {
      return x + start + ((d * g_.dilation[0] * g_.padded[1] + h * g_.dilation[1]) * g_.padded[2] + k * g_.dilation[2]) * g_.channels + first;
    };
    if (ordered_) {
      const Accumulator& acc = view_.contract().acc;
      i128 sum = init;
      int64_t done = 0;
      for (int64_t c = 0; c < ic; ++c)
        for (int64_t d = 0; d < g_.kernel[0]; ++d)
          for (int64_t h = 0; h < g_.kernel[1]; ++h)
            for (int64_t k = 0; k < g_.kernel[2]; ++k) {
              const int64_t t = (d * g_.kernel[1] + h) * g_.kernel[2] + k;
              sum += static_cast<i128>(tap(d, h, k)[c]) * w[t * ic + c];
              if (acc.saturate_every > 0 && ++done % acc.saturate_every == 0) saturate(sum, saturated);
            }
      return checked(sum, saturated);
    }
    int64_t sum = init;
    for (int64_t d = 0; d < g_.kernel[0]; ++d)
      for (int64_t h = 0; h < g_.kernel[1]; ++h)
        for (int64_t k = 0; k < g_.kernel[2]; ++k, w += ic) {
          if constexpr (sizeof(T) == 2) {
            if (ic == 1) sum += static_cast<int32_t>(tap(d, h, k)[0]) * static_cast<int32_t>(w[0]);
            else sum += dot16(tap(d, h, k), w, ic);
          } else {
            sum += dot64(tap(d, h, k), w, ic);
          }
        }
    return checked(sum, saturated);
  }

  // Along one axis: the input that reaches output `o` by tap `k`; -1 where there is none.
  int64_t source(size_t axis, int64_t o, int64_t k) const {
    const int64_t at = o + g_.pad[axis] - k * g_.dilation[axis];
    if (at < 0 || at % g_.stride[axis] != 0 || at / g_.stride[axis] >= g_.in[axis]) return -1;
    return at / g_.stride[axis];
  }

  // Of a ConvTranspose. Taps that reach nothing add nothing, in any order of the others.
  template <class T>
  int64_t accumulate_backward(const T* x, const Three& place, int64_t oc, const T* weights, uint64_t& saturated) const {
    const Accumulator& acc = view_.contract().acc;
    const int64_t ic = g_.group_channels(), first = oc / (g_.out_channels / g_.group) * ic;
    const T* w = weights + oc * g_.taps() * ic;
    i128 sum = init_.empty() ? 0 : init_[init_.size() == 1 ? 0 : static_cast<size_t>(oc)];
    int64_t done = 0;
    const auto tap = [&](int64_t d, int64_t h, int64_t k, int64_t c0, int64_t c1) {
      const int64_t z = source(0, place[0], d), y = source(1, place[1], h), p = source(2, place[2], k);
      if (z < 0 || y < 0 || p < 0) return;
      const T* in = x + ((z * g_.in[1] + y) * g_.in[2] + p) * g_.channels + first;
      const T* by = w + ((d * g_.kernel[1] + h) * g_.kernel[2] + k) * ic;
      for (int64_t c = c0; c < c1; ++c) {
        sum += static_cast<i128>(in[c]) * by[c];
        if (acc.saturate_every > 0 && ++done % acc.saturate_every == 0) saturate(sum, saturated);
      }
    };
    const int64_t outer = ordered_ ? ic : 1;  // ordered: input channel by input channel
    for (int64_t c = 0; c < outer; ++c)
      for (int64_t d = 0; d < g_.kernel[0]; ++d)
        for (int64_t h = 0; h < g_.kernel[1]; ++h)
          for (int64_t k = 0; k < g_.kernel[2]; ++k) tap(d, h, k, ordered_ ? c : 0, ordered_ ? c + 1 : ic);
    return checked(sum, saturated);
  }

  template <class T>
  void run_typed(std::span<const TensorView> inputs, const TensorView& out, T* x, uint64_t& saturated) const {
    const TensorView& in = inputs[input_];
    const T* weights = nullptr;
    if constexpr (sizeof(T) == 2) weights = short_.data();
    else weights = wide_.data();
    std::vector<StageValue> extra(extras_.count());
    std::vector<int64_t> index(out.dims.size());
    const size_t skip = conv_ ? 3 - (out.dims.size() - 2) : 0;
    for (int64_t n = 0; n < g_.batch; ++n) {
      fill(in, n, x);
      for (int64_t d = 0; d < g_.out[0]; ++d)
        for (int64_t h = 0; h < g_.out[1]; ++h)
          for (int64_t k = 0; k < g_.out[2]; ++k) {
            const int64_t start = ((d * g_.stride[0] * g_.padded[1] + h * g_.stride[1]) * g_.padded[2] + k * g_.stride[2]) * g_.channels;
            int64_t base = 0, step = 0;
            if (conv_) {
              const Three place{d, h, k};
              base = n * out.strides[0];
              index[0] = n;
              for (size_t i = 2; i < out.dims.size(); ++i) {
                base += place[skip + i - 2] * out.strides[i];
                index[i] = place[skip + i - 2];
              }
              step = out.strides[1];
            } else {
              base = row_offset(out, n);
              int64_t rest = n;
              for (size_t i = out.dims.size() - 1; i-- > 0;) { index[i] = rest % out.dims[i]; rest /= out.dims[i]; }
              step = out.strides.back();
            }
            for (int64_t oc = 0; oc < g_.out_channels; ++oc) {
              if (!extras_.empty()) {
                index[conv_ ? 1 : index.size() - 1] = oc;
                extras_.read(inputs, index, oc, extra.data());
              }
              const StageValue acc{false, backward_ ? accumulate_backward<T>(x, {d, h, k}, oc, weights, saturated)
                                                      : accumulate<T>(x, start, oc, weights, saturated), 0};
              store(out, base + oc * step, post_.run(acc, oc, extra), view_);
            }
          }
    }
  }

  UnitView view_;
  Extras extras_;
  StageProgram post_;
  Geometry g_;
  bool conv_ = false, backward_ = false, transposed_ = false, narrow_ = false, ordered_ = false, per_channel_input_ = false;
  size_t input_ = 0;
  std::vector<int64_t> wide_;
  std::vector<int16_t> short_;
  std::vector<int64_t> lookup_, pad_, init_;
  int64_t low_ = 0, codes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> make_dot(const UnitView& view) {
  return view.find("weight") ? make_product(view) : std::make_unique<DotKernel>(view);
}

}  // namespace quern::interpreter
