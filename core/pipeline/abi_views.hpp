// Between the host's types and the structs of the plugin boundary, for algorithms.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/graph/graph.hpp"
#include "core/numeric/quantization.hpp"
#include "core/plugin/host.hpp"
#include "core/statistics/statistics.hpp"
#include "quern/abi.h"

namespace quern {

inline std::string_view view(const quern_str& s) { return {s.data ? s.data : "", s.data ? s.size : 0}; }

// Runs f at the boundary: an exception becomes a status made by the host, which keeps what it was (an interruption stays one).
quern_status* caught_status() noexcept;  // the current exception
template <class F> quern_status* guarded(F&& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (...) {
    return caught_status();
  }
}

StatisticRequest to_request(const quern_stat_request& request, const std::string& value);

// A result as a plugin sees it; `result` must outlive the view.
quern_statistic statistic_view(const StatisticRequest& request, const StatisticResult& result);

// A tensor with row-major strides; the object keeps dims and strides alive.
struct TensorStruct {
  Dims dims, strides;
  quern_tensor tensor{};
  TensorStruct() = default;
  explicit TensorStruct(const Tensor& t);
  TensorStruct(const TensorStruct&) = delete;
  TensorStruct& operator=(const TensorStruct&) = delete;
};
// Copies a plugin's f32 tensor, whatever its strides. Throws Error(plugin) when it is no plausible f32 tensor.
Tensor f32_copy(const quern_tensor& t, const std::string& what);

// Attributes of a node, for a plugin; the object keeps everything alive.
class AttributeStructs {
 public:
  explicit AttributeStructs(const std::map<std::string, Attribute>& attributes);
  const quern_attr* const* data() const { return pointers_.data(); }
  uint32_t size() const { return static_cast<uint32_t>(pointers_.size()); }

 private:
  std::deque<quern_attr> attributes_;
  std::deque<TensorStruct> tensors_;
  std::vector<const quern_attr*> pointers_;
};

}  // namespace quern
