// Work over samples. Results never depend on the number of threads: every item has its own slot, workers only decide
// who computes it.
//
//   parallel_for(samples, threads, [&](int64_t i, int worker) { results[i] = run(i, runner[worker]); });
//
// The first error (lowest index among those that failed) is rethrown after all workers have stopped; a cancel request
// (cancel.hpp) stops the loop with Error(interrupted).
#pragma once
#include <cstdint>
#include <functional>

namespace quern {

void parallel_for(int64_t count, int threads, const std::function<void(int64_t index, int worker)>& body);

// Cores this process may use (affinity mask); at least 1.
int usable_cores();

// Cancellation: set by the command's signal handler (async-signal-safe), polled by loops.
void request_cancel() noexcept;
bool cancel_requested() noexcept;
void clear_cancel() noexcept;
void throw_if_cancelled();

}  // namespace quern
