// Conv, ConvTranspose, Gemm and MatMul by a constant as one thing: a convolution of 8-bit codes under the contract "dot":
//
//   acc = exact sum of (x - x_zp) * w          padding adds 0
//   t   = (float(acc) + bias) * multiplier     two roundings
//   t   = fma(float(r - r_zp), residual_scale, t)
//   t   = min(max(t, act_low), act_high)
//   y   = saturate(rne(t + y_zp))              or t itself, for a float output
//   y   = table[clamp(rne(t + table_offset))]  in place of the line before, with a table activation
//
// A matrix product is a 1x1 convolution over an image of height 1 whose width is the rows: the same kernels, the same
// speed (measured), one thing to verify.
//
// Three engines compute it, to the same bytes: our own exact kernels (own_dot.hpp) on every instruction set; with VNNI also
// oneDNN (without VNNI its 8-bit sums saturate) and our depthwise kernel (depthwise.hpp). Which one is a fixed rule of the
// shape. Where oneDNN falls back to slow code (groups of few channels; depthwise with a multiplier) groups are put together,
// with zeros in the weights between them: the same sums.
#pragma once
#include <cfloat>
#include <memory>
#include <vector>

#include "plugins/common/dot_shape.hpp"
#include "plugins/cpu/isa.hpp"
#include "plugins/cpu/kernel.hpp"
#include "plugins/cpu/onednn.hpp"

namespace quern_cpu {

struct DotSpec : DotShape {
  uint32_t src = QUERN_DTYPE_U8, dst = QUERN_DTYPE_U8, residual = 0;  // residual 0: none
  int32_t src_zp = 0, dst_zp = 0, residual_zp = 0;
  float residual_scale = 0;
  std::vector<float> multiplier, bias;      // [oc]; bias empty: none
  bool clamp = false;
  float low = 0, high = 0;
  std::vector<int32_t> table;               // of a table activation: codes, or the bits of floats
  float table_offset = 0;
  const int8_t* weights = nullptr;          // as DotShape says
  uint32_t threads = 1;
  Isa isa = current_isa();
};

class Depthwise;
class OwnDot;

class Dot {
 public:
  enum class Engine { by_rule, own, onednn };  // one alone: for comparison
  explicit Dot(const DotSpec& spec, Engine engine = Engine::by_rule);
  ~Dot();
  const DotSpec& spec() const { return spec_; }  // weights no longer set
  uint64_t workspace_bytes() const;
  const std::string& implementation() const { return implementation_; }
  // Where a residual is expected: in dst on entry (its codes for an 8-bit output, its values less the zero point for a
  // float output), or as a tensor of codes of the output's shape.
  bool residual_in_output() const { return own_ == nullptr; }

  // What one thread needs: oneDNN's objects around the pointers of the call.
  class Run : public Context {
   public:
    explicit Run(const Dot& dot);
    // src, dst, residual: channels last and dense.
    void operator()(const void* src, const void* residual, void* dst, void* workspace);

   private:
    const Dot& dot_;
    dnnl::stream stream_;
    dnnl::memory src_, dst_, scratch_;
    std::unordered_map<int, dnnl::memory> arguments_;
  };

 private:
  struct Attempt;
  Attempt attempt(int64_t merge) const;
  void use_onednn();
  void pack_weights(int64_t merge, const dnnl::memory::desc& wanted);

  DotSpec spec_;
  dnnl::convolution_forward::primitive_desc description_;
  dnnl::convolution_forward primitive_;
  dnnl::memory weights_, bias_;
  std::unique_ptr<Depthwise> depthwise_;  // instead of all of these
  std::unique_ptr<OwnDot> own_;           // or this
  std::string implementation_;
};

}  // namespace quern_cpu
