#include "plugins/common/walk.hpp"

#include <algorithm>

namespace quern_common {

Walk make_walk(const Dims& dims, const Dims& out, const std::vector<Dims>& in) {
  std::vector<size_t> order;
  for (size_t a = 0; a < dims.size(); ++a)
    if (dims[a] != 1) order.push_back(a);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return out[a] > out[b]; });
  Walk w;
  w.operands = in.size();
  for (size_t a : order) {
    const size_t top = w.dims.size();
    bool join = top > 0 && w.out[top - 1] == out[a] * dims[a];
    for (size_t k = 0; k < in.size(); ++k) join = join && w.in[k][top - 1] == in[k][a] * dims[a];
    if (join) {
      w.dims[top - 1] *= dims[a];
      w.out[top - 1] = out[a];
      for (size_t k = 0; k < in.size(); ++k) w.in[k][top - 1] = in[k][a];
    } else {
      w.dims.push_back(dims[a]);
      w.out.push_back(out[a]);
      for (size_t k = 0; k < in.size(); ++k) w.in[k].push_back(in[k][a]);
    }
  }
  if (w.dims.empty()) {
    w.dims = {1};
    w.out = {1};
    for (size_t k = 0; k < in.size(); ++k) w.in[k] = {1};
  }
  return w;
}

Dims broadcast_strides(const quern_tensor& t, const Dims& to) {
  Dims strides(to.size(), 0);
  if (t.rank > to.size()) throw Failure(QUERN_INVALID_ARGUMENT, "an operand has a higher rank than the output");
  const size_t skip = to.size() - t.rank;
  for (size_t i = 0; i < t.rank; ++i) {
    if (t.dims[i] != 1 && t.dims[i] != to[skip + i]) throw Failure(QUERN_INVALID_ARGUMENT, "an operand can't be broadcast to the output");
    strides[skip + i] = t.dims[i] == 1 ? 0 : t.strides[i];
  }
  return strides;
}

Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

bool is_row_major(const quern_tensor& t) {
  int64_t expected = 1;
  for (size_t i = t.rank; i-- > 0;) {
    if (t.dims[i] != 1 && t.strides[i] != expected) return false;
    expected *= t.dims[i];
  }
  return true;
}

}  // namespace quern_common
