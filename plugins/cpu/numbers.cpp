#include "plugins/cpu/numbers.hpp"

#include <cstring>

namespace quern_cpu {

std::vector<int32_t> activation_table(const OpView& op) {
  const quern_tensor* t = op.find_table("act_table");
  if (!t) return {};
  std::vector<int32_t> out;
  const quern_sdk::TensorView view(*t);
  const auto take = [&](auto values) {
    for (const auto v : values) out.push_back(static_cast<int32_t>(v));
  };
  switch (t->dtype) {
    case QUERN_DTYPE_U8: take(view.values<const uint8_t>()); break;
    case QUERN_DTYPE_S8: take(view.values<const int8_t>()); break;
    case QUERN_DTYPE_S32: take(view.values<const int32_t>()); break;
    case QUERN_DTYPE_F32: {
      const auto values = view.values<const float>();
      out.resize(values.size());
      std::memcpy(out.data(), values.data(), values.size() * 4);
      break;
    }
    default: throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table act_table has an unexpected type");
  }
  if (out.empty() || out.size() > 65536 || (t->dtype == QUERN_DTYPE_F32) != writes_floats(op))
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table act_table does not fit the output");
  return out;
}

}  // namespace quern_cpu
