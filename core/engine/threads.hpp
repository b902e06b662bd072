// Threads inside operators. oneDNN's kernels (and ours that use OpenMP) take as many threads as OpenMP's setting of the
// calling thread says; this sets it for a scope.
#pragma once

namespace quern {

class OperatorThreads {
 public:
  explicit OperatorThreads(int threads);
  ~OperatorThreads();
  OperatorThreads(const OperatorThreads&) = delete;
  OperatorThreads& operator=(const OperatorThreads&) = delete;

 private:
  int before_;
};

}  // namespace quern
