#include "plugins/cpu/dot.hpp"

#include "plugins/cpu/depthwise.hpp"
#include "plugins/cpu/own_dot.hpp"

#include <algorithm>

namespace quern_cpu {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

namespace {

Type type_of(uint32_t dtype) {
  switch (dtype) {
    case QUERN_DTYPE_U8: return Type::u8;
    case QUERN_DTYPE_S8: return Type::s8;
    case QUERN_DTYPE_F32: return Type::f32;
    default: throw Failure(QUERN_UNIMPLEMENTED, "the cpu target computes on u8, s8 and f32");
  }
}

dnnl::primitive_attr attributes_of(const DotSpec& s) {
  dnnl::primitive_attr attr;
  attr.set_output_scales(1 << 1, s.multiplier);
  if (s.src_zp != 0) attr.set_zero_points(DNNL_ARG_SRC, 0, {s.src_zp});
  if (s.dst_zp != 0) attr.set_zero_points(DNNL_ARG_DST, 0, {s.dst_zp});
  dnnl::post_ops ops;
  if (s.residual != 0) {
    if (s.dst == QUERN_DTYPE_F32) ops.append_sum(s.residual_scale);
    else ops.append_sum(s.residual_scale, s.residual_zp, type_of(s.residual));
  }
  if (s.clamp) {
    // relu is the same as a clip at 0 and one instruction less.
    if (s.low == 0 && s.high == FLT_MAX) ops.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    else ops.append_eltwise(1.f, dnnl::algorithm::eltwise_clip, s.low, s.high);
  }
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// oneDNN knows neither the instruction sets without VNNI (exactly), nor tables, nor a transposed convolution with our zero
// points. Where both can, what was measured on one core (bench/kernels.cpp): calling oneDNN costs as much as 100,000
// products; few places, groups of few channels and depthwise layers of very few channels are quicker here.
bool own_is_better(const DotSpec& s) {
  if (s.isa != Isa::vnni || !s.table.empty() || s.transposed) return true;
  const int64_t places = s.batch * s.h.out * s.w.out, each = s.ic / s.groups * s.h.kernel * s.w.kernel;
  if (places <= 8 || places * s.oc * each <= 100000) return true;
  const bool depthwise = s.groups > 1 && s.groups == s.ic;
  if (depthwise) return s.oc == s.ic && s.oc <= 8 && s.w.stride == 1;
  return s.groups > 1 && s.oc / s.groups < 16;
}

// Waking another thread costs as much as some microseconds of sums: what takes one less than 20 of them is not cut. Products a
// microsecond as measured on one core with VNNI (docs/targets/cpu.md); our own kernels ask for themselves.
uint32_t threads_worth_waking(const DotSpec& s) {
  const double places = static_cast<double>(s.batch) * static_cast<double>(s.h.out * s.w.out);
  const double products = places * static_cast<double>(s.oc) * static_cast<double>(s.ic / s.groups * s.h.kernel * s.w.kernel);
  const double per_us = s.groups > 1 && s.groups == s.ic ? 50e3 : 450e3;
  return products / per_us < 20 ? 1 : s.threads;
}

bool is_slow(const std::string& implementation) {
  return implementation.find("gemm") != std::string::npos || implementation.find("ref") != std::string::npos;
}

}  // namespace

struct Dot::Attempt {
  int64_t merge = 0;  // 0: oneDNN has nothing for it
  dnnl::convolution_forward::primitive_desc description;
  std::string implementation;
};

// The convolution with `merge` groups put together into one.
Dot::Attempt Dot::attempt(int64_t merge) const {
  const DotSpec& s = spec_;
  const int64_t groups = s.groups / merge, icg = s.ic / groups, ocg = s.oc / groups;
  const memory::desc src({s.batch, s.ic, s.h.in, s.w.in}, type_of(s.src), Tag::nhwc);
  const memory::desc dst({s.batch, s.oc, s.h.out, s.w.out}, type_of(s.dst), Tag::nhwc);
  const memory::dims shape = groups > 1 ? memory::dims{groups, ocg, icg, s.h.kernel, s.w.kernel} : memory::dims{ocg, icg, s.h.kernel, s.w.kernel};
  const memory::desc weights(shape, Type::s8, Tag::any), bias({s.oc}, Type::f32, Tag::a);
  const memory::dims stride{s.h.stride, s.w.stride}, dilation{s.h.dilation - 1, s.w.dilation - 1};
  // oneDNN wants the padding at the end that belongs to the output size.
  const auto end = [](const Axis& a) { return (a.out - 1) * a.stride + a.reach() - a.in - a.pad_begin; };
  const memory::dims begin{s.h.pad_begin, s.w.pad_begin}, ends{end(s.h), end(s.w)};
  Attempt a;
  try {
    using Conv = dnnl::convolution_forward;
    const auto kind = dnnl::prop_kind::forward_inference;
    const auto how = dnnl::algorithm::convolution_direct;
    const Conv::desc desc = s.bias.empty() ? Conv::desc(kind, how, src, weights, dst, stride, dilation, begin, ends)
                                           : Conv::desc(kind, how, src, weights, bias, dst, stride, dilation, begin, ends);
    a.description = Conv::primitive_desc(desc, attributes_of(s), cpu_engine());
    a.implementation = a.description.impl_info_str();
    a.merge = merge;
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented) throw;
  }
  return a;
}

Dot::~Dot() = default;

Dot::Dot(const DotSpec& spec, Engine engine) : spec_(spec) {
  const bool own = engine == Engine::own || (engine == Engine::by_rule && own_is_better(spec));
  if (!own) spec_.threads = threads_worth_waking(spec);
  if (engine == Engine::onednn) {
    make_primitives([this] { use_onednn(); });
  } else if (own) {
    own_ = std::make_unique<OwnDot>(spec, spec.isa);
    implementation_ = own_->name();
  } else if ((depthwise_ = Depthwise::make(spec_))) {
    implementation_ = "depthwise:avx512_vnni";
  } else {
    make_primitives([this] { use_onednn(); });
  }
  spec_.weights = nullptr;
}

void Dot::use_onednn() {
  const ThreadScope threads(spec_.threads);
  Attempt best = attempt(1);
  if (spec_.groups > 1 && (best.merge == 0 || is_slow(best.implementation))) {
    // The smallest number of groups that gives full vectors of channels first; all of them at last.
    std::vector<int64_t> merges;
    for (int64_t full : {int64_t{1}, int64_t{0}})
      for (int64_t m = 2; m <= spec_.groups; ++m)
        if (spec_.groups % m == 0 && ((m * spec_.ic / spec_.groups) % 16 == 0 && (m * spec_.oc / spec_.groups) % 16 == 0) == (full == 1))
          merges.push_back(m);
    for (int64_t m : merges) {
      Attempt a = attempt(m);
      if (a.merge == 0 || (is_slow(a.implementation) && best.merge != 0)) continue;
      best = a;
      if (!is_slow(a.implementation)) break;
    }
  }
  if (best.merge == 0) throw Failure(QUERN_UNIMPLEMENTED, "oneDNN has no kernel for this convolution");
  description_ = best.description;
  implementation_ = best.implementation;
  primitive_ = dnnl::convolution_forward(description_);
  pack_weights(best.merge, description_.weights_desc());
  if (!spec_.bias.empty()) {
    bias_ = memory(memory::desc({spec_.oc}, Type::f32, Tag::a), cpu_engine());
    std::copy(spec_.bias.begin(), spec_.bias.end(), static_cast<float*>(bias_.get_data_handle()));
  }
}

void Dot::pack_weights(int64_t merge, const memory::desc& wanted) {
  const DotSpec& s = spec_;
  const int64_t groups = s.groups / merge, icg = s.ic / s.groups, ocg = s.oc / s.groups, taps = s.h.kernel * s.w.kernel;
  memory::dims shape{s.oc / groups, merge * icg, s.h.kernel, s.w.kernel};
  if (groups > 1) shape.insert(shape.begin(), groups);
  std::vector<int8_t> spread;
  const int8_t* data = s.weights;
  if (merge > 1) {
    spread.assign(static_cast<size_t>(s.oc * merge * icg * taps), 0);
    for (int64_t oc = 0; oc < s.oc; ++oc) {
      const int64_t place = (oc / ocg) % merge;  // of its own group among those put together
      std::copy_n(s.weights + oc * icg * taps, icg * taps, spread.data() + (oc * merge + place) * icg * taps);
    }
    data = spread.data();
  }
  const Tag tag = groups > 1 ? Tag::goihw : s.columns ? Tag::iohw : Tag::oihw;
  memory plain(memory::desc(shape, Type::s8, tag), cpu_engine(), const_cast<int8_t*>(data));
  weights_ = memory(wanted, cpu_engine());
  dnnl::stream stream(cpu_engine());
  dnnl::reorder(plain, weights_).execute(stream, plain, weights_);
  stream.wait();
}

uint64_t Dot::workspace_bytes() const {
  if (own_) return own_->workspace_bytes();
  return depthwise_ ? depthwise_->workspace_bytes() : description_.scratchpad_desc().get_size();
}

Dot::Run::Run(const Dot& dot) : dot_(dot) {
  if (dot.depthwise_ || dot.own_) return;
  stream_ = dnnl::stream(cpu_engine());
  src_ = memory(dot.description_.src_desc(), cpu_engine(), nullptr);
  dst_ = memory(dot.description_.dst_desc(), cpu_engine(), nullptr);
  scratch_ = memory(dot.description_.scratchpad_desc(), cpu_engine(), nullptr);
  arguments_ = {{DNNL_ARG_SRC, src_}, {DNNL_ARG_WEIGHTS, dot.weights_}, {DNNL_ARG_DST, dst_}, {DNNL_ARG_SCRATCHPAD, scratch_}};
  if (dot.bias_) arguments_[DNNL_ARG_BIAS] = dot.bias_;
}

void Dot::Run::operator()(const void* src, const void* residual, void* dst, void* workspace) {
  if (dot_.own_) return dot_.own_->run(src, static_cast<const uint8_t*>(residual), dst, workspace);
  if (dot_.depthwise_) return dot_.depthwise_->run(src, dst, workspace);
  const ThreadScope threads(dot_.spec_.threads);
  src_.set_data_handle(const_cast<void*>(src));
  dst_.set_data_handle(dst);
  scratch_.set_data_handle(workspace);
  dot_.primitive_.execute(stream_, arguments_);
  stream_.wait();
}

}  // namespace quern_cpu
