// The instruction set that a kernel is held to: that of the profile it was compiled for, on any machine that has it.
//
//   IsaScope scope(isa_of("avx2"));     // this thread, until the end of the block
//   kernel = compile_dot(op, threads);  // rows(), dot_kernels() give the functions for AVX2
//
// Kernels may ask again while they run: Kernel::execute is called within a scope of its own, and for_pieces hands the
// scope on to the threads it uses.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace quern_cpu {

enum class Isa { scalar, sse41, avx2, avx512, vnni };  // each can run what stands before it

// Of a profile's name; Failure(not found) names the profiles.
Isa isa_of(std::string_view profile);
const char* name_of(Isa isa);
// Best one of this machine; a lower one where ONEDNN_MAX_CPU_ISA says so.
Isa best_isa();

Isa current_isa();  // of the innermost scope; best_isa() outside of all
class IsaScope {
 public:
  explicit IsaScope(Isa isa);
  ~IsaScope();
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;

 private:
  int before_;
};

}  // namespace quern_cpu
