#include "plugins/cpu/isa.hpp"

#include <dnnl.hpp>

#include "plugins/cpu/dot_tile.hpp"
#include "quern/plugin.hpp"

namespace quern_cpu {
namespace {

thread_local int in_force = -1;  // an Isa; -1: no scope

Isa find_best() {
  __builtin_cpu_init();
  // oneDNN knows the mask, the processor's own word is needed too: a mask can't add what is not there.
  const auto allowed = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto masked = [&](dnnl::cpu_isa isa) { return (allowed & static_cast<unsigned>(isa)) != static_cast<unsigned>(isa); };
  if (masked(dnnl::cpu_isa::sse41) || !__builtin_cpu_supports("sse4.1")) return Isa::scalar;
  if (masked(dnnl::cpu_isa::avx2) || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::sse41;
  if (masked(dnnl::cpu_isa::avx512_core) || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return Isa::avx2;
  if (masked(dnnl::cpu_isa::avx512_core_vnni) || !__builtin_cpu_supports("avx512vnni")) return Isa::avx512;
  return Isa::vnni;
}

}  // namespace

Isa isa_of(std::string_view profile) {
  for (Isa isa : {Isa::vnni, Isa::avx512, Isa::avx2, Isa::sse41})
    if (profile == name_of(isa)) return isa;
  throw quern_sdk::Failure(QUERN_NOT_FOUND, "the cpu target has no profile '" + std::string(profile) + "'; it has vnni, avx512, avx2 and sse41");
}

const char* name_of(Isa isa) {
  static constexpr const char* names[] = {"scalar", "sse41", "avx2", "avx512", "vnni"};
  return names[static_cast<int>(isa)];
}

Isa best_isa() {
  static const Isa best = find_best();
  return best;
}

Isa current_isa() { return in_force < 0 ? best_isa() : static_cast<Isa>(in_force); }

IsaScope::IsaScope(Isa isa) : before_(in_force) { in_force = static_cast<int>(isa); }
IsaScope::~IsaScope() { in_force = before_; }

const DotKernels& dot_kernels(Isa isa, bool pairs_fit) {
  switch (isa) {
    case Isa::vnni: return vnni_dot();
    case Isa::avx512: return pairs_fit ? avx512_byte_dot() : avx512_dot();
    case Isa::avx2: return pairs_fit ? avx2_byte_dot() : avx2_dot();
    case Isa::sse41: return pairs_fit ? sse41_byte_dot() : sse41_dot();
    default: return scalar_dot();
  }
}

const DotKernels& wide_kernels(Isa isa) { return isa == Isa::vnni ? vnni_wide_dot() : dot_kernels(isa); }

}  // namespace quern_cpu
