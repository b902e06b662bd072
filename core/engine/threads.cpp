#include "core/engine/threads.hpp"

#include <omp.h>

namespace quern {

OperatorThreads::OperatorThreads(int threads) : before_(omp_get_max_threads()) {
  if (threads > 0 && threads != before_) omp_set_num_threads(threads);
}

OperatorThreads::~OperatorThreads() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
}

}  // namespace quern
