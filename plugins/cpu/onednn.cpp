#include "plugins/cpu/onednn.hpp"

#include <omp.h>

#include "plugins/cpu/rows.hpp"
#include "plugins/cpu/self_check.hpp"

namespace quern_cpu {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

ThreadScope::ThreadScope(uint32_t threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads < 1 ? 1 : static_cast<int>(threads)); }
ThreadScope::~ThreadScope() { omp_set_num_threads(before_); }

namespace {

std::string name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41: return "SSE4.1";
    case dnnl::cpu_isa::avx: return "AVX";
    case dnnl::cpu_isa::avx2: return "AVX2";
    case dnnl::cpu_isa::avx2_vnni: return "AVX2 with AVX-VNNI";
    case dnnl::cpu_isa::avx512_core: return "AVX-512 without VNNI";
    case dnnl::cpu_isa::avx512_core_vnni: return "AVX-512 with VNNI";
    case dnnl::cpu_isa::avx512_core_bf16: return "AVX-512 with VNNI and bf16";
    case dnnl::cpu_isa::avx512_core_amx: return "AMX";
    default: return "an instruction set unknown to this plugin";
  }
}

bool decide(std::string& reason) {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  const bool vnni = isa == dnnl::cpu_isa::avx512_core_vnni || isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
  if (!vnni) {
    reason = "the profile vnni needs AVX512-VNNI; oneDNN uses " + name_of(isa) +
             " here, where its 8-bit sums saturate. Quantizing works all the same; run the result as simulated";
    return false;
  }
  // Same bits of the mask do not mean the same kernels: what this machine has is put to a short test, once.
  if (!self_check(reason)) {
    reason = "oneDNN (" + name_of(isa) + ") does not compute what the contract of profile vnni says: " + reason;
    return false;
  }
  return true;
}

}  // namespace

bool vnni_available(std::string& reason) {
  static std::string why;
  static const bool yes = decide(why);
  reason = why;
  return yes;
}

}  // namespace quern_cpu
