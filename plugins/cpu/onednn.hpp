// oneDNN and its surroundings: the engine, which instruction set it uses, and how many threads.
#pragma once
#include <dnnl.hpp>
#include <string>

namespace quern_cpu {

const dnnl::engine& cpu_engine();

// Can the profile "vnni" run here? Asks oneDNN (whose answer respects ONEDNN_MAX_CPU_ISA), because it is oneDNN's choice of
// kernels that decides: without VNNI its 8-bit kernels add pairs of products in 16 saturating bits.
bool vnni_available(std::string& reason);

// oneDNN takes the number of threads from OpenMP's setting of the calling thread, at creation and at execution.
class ThreadScope {
 public:
  explicit ThreadScope(uint32_t threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace quern_cpu
