// oneDNN and its surroundings: the engine, and how many threads.
#pragma once
#include <dnnl.hpp>

#include <functional>

namespace quern_cpu {

const dnnl::engine& cpu_engine();

// Runs f, which makes primitives. std::bad_alloc where there is no room for that: oneDNN 2.6 does not look at what malloc gives it and
// crashes. When memory runs out all the same, what is half made stays behind in oneDNN and the next thread that asks it crashes; so
// every later call throws too.
void make_primitives(const std::function<void()>& f);

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
