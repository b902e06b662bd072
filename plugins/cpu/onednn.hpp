// oneDNN and its surroundings: the engine, and how many threads.
#pragma once
#include <dnnl.hpp>

namespace quern_cpu {

const dnnl::engine& cpu_engine();

// Throws std::bad_alloc where there is no room for making a primitive: oneDNN 2.6 does not look at what malloc gives it and crashes.
void require_memory();

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
