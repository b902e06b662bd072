// Values of many samples, for what works through a network layer by layer. Up to `memory` bytes of them lie in memory; beyond it
// those that stand earliest in the network go to a temporary file without a name, which is gone with the process.
//
//   SampleStore store(32, size_t{16} << 20);
//   store.put(value, position, sample, tensor);       // from any thread
//   Tensor t = store.get(value, sample);
//
// Where no temporary file can be made, or its disk is full, values stay in memory: slower machines, never wrong ones.
#pragma once
#include <map>
#include <mutex>
#include <vector>

#include "core/graph/graph.hpp"

namespace quern {

class SampleStore {
 public:
  SampleStore(size_t samples, size_t memory);
  ~SampleStore();
  SampleStore(const SampleStore&) = delete;
  SampleStore& operator=(const SampleStore&) = delete;

  // `position`: of the value's producer in the network. Every sample of a value once.
  void put(ValueId value, int position, size_t sample, Tensor tensor);
  bool has(ValueId value) const;
  Tensor get(ValueId value, size_t sample) const;
  void erase(ValueId value);
  std::vector<ValueId> values() const;   // by position
  size_t bytes(ValueId value) const;     // in memory and in the file
  size_t in_memory() const;

 private:
  struct Slot { Tensor tensor; DType type = DType::undefined; Dims dims; size_t bytes = 0; int64_t at = -1; };  // at: in the file
  struct Kept { int position = 0; std::vector<Slot> slots; };
  const size_t samples_, memory_;
  mutable std::mutex mutex_;
  std::map<ValueId, Kept> kept_;
  std::multimap<size_t, int64_t> free_;  // places in the file, by size
  size_t used_ = 0;                      // bytes in memory
  int64_t end_ = 0;
  int fd_ = -1;
  bool no_file_ = false;

  bool spill(Slot& slot);
  bool make_room(size_t bytes);
};

}  // namespace quern
