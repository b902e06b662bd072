#include "plugins/cpu/onednn.hpp"

#include <omp.h>

namespace quern_cpu {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

ThreadScope::ThreadScope(uint32_t threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads < 1 ? 1 : static_cast<int>(threads)); }
ThreadScope::~ThreadScope() { omp_set_num_threads(before_); }

}  // namespace quern_cpu
