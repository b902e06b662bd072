#include "plugins/cpu/onednn.hpp"

#include <omp.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace quern_cpu {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

void make_primitives(const std::function<void()>& f) {
  static std::atomic<bool> ran_out{false};
  constexpr size_t enough = size_t{32} << 20;  // of addresses, not of memory; several times what the generated code takes
  void* volatile probe = ran_out ? nullptr : std::malloc(enough);
  if (!probe) throw std::bad_alloc();
  std::free(probe);
  try {
    f();
  } catch (const std::bad_alloc&) {
    ran_out = true;
    throw;
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) ran_out = true;
    throw;
  }
}

ThreadScope::ThreadScope(uint32_t threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads < 1 ? 1 : static_cast<int>(threads)); }
ThreadScope::~ThreadScope() { omp_set_num_threads(before_); }

}  // namespace quern_cpu
