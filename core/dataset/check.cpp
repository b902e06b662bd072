// What has to be right with calibration data before hours are spent on it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/dataset/dataset.hpp"

namespace quern {
namespace {

struct Look { bool constant = true; std::string digest; };

void refuse_bad_values(const NamedTensor& in, int64_t index) {
  const auto fail = [&](bool is_nan) {
    throw Error(ErrorCode::data, fmt::format("sample {} of input '{}' holds {}", index, in.name, is_nan ? "NaN" : "infinity"))
        .hint("remove the sample or repair the data; ranges would be meaningless");
  };
  if (in.tensor.type() == DType::f32) {
    for (float x : in.tensor.values<float>()) if (!std::isfinite(x)) fail(std::isnan(x));
  } else if (in.tensor.type() == DType::f64) {
    for (double x : in.tensor.values<double>()) if (!std::isfinite(x)) fail(std::isnan(x));
  } else if (in.tensor.type() == DType::f16) {
    for (uint16_t x : in.tensor.values<uint16_t>()) if ((x & 0x7c00) == 0x7c00) fail((x & 0x3ff) != 0);
  }
}

// True unless every element of every larger input is the same.
bool all_equal(const Tensor& t) {
  const size_t size = size_of(t.type());
  const auto* p = static_cast<const std::byte*>(t.data());
  return t.count() > 1 && std::memcmp(p, p + size, t.bytes() - size) == 0;
}

std::string some(const std::vector<int64_t>& indices) {
  std::string s;
  for (size_t i = 0; i < std::min<size_t>(indices.size(), 5); ++i) s += (i ? ", " : "") + std::to_string(indices[i]);
  return indices.size() > 5 ? s + ", ..." : s;
}

}  // namespace

DataCheck check_calibration_data(const Dataset& data, int threads) {
  if (data.size() == 0) throw Error(ErrorCode::data, "the calibration data is empty").hint("at least one sample is needed; about 300 are usual");
  std::vector<Look> looks(static_cast<size_t>(data.size()));
  parallel_for(data.size(), threads, [&](int64_t i, int) {
    const Sample sample = data.item(i);
    Look& look = looks[static_cast<size_t>(i)];
    Sha256 sha;
    bool any = false;
    for (const NamedTensor& in : sample) {
      refuse_bad_values(in, i);
      if (in.tensor.count() == 0) throw Error(ErrorCode::data, fmt::format("sample {} of input '{}' is empty", i, in.name));
      if (in.tensor.count() > 1) {
        any = true;
        look.constant &= all_equal(in.tensor);
      }
      sha.add(std::span(static_cast<const std::byte*>(in.tensor.data()), in.tensor.bytes()));
    }
    look.constant &= any;
    look.digest = sha.hex();
  });
  DataCheck check;
  check.samples = data.size();
  std::vector<int64_t> constant, repeated;
  std::map<std::string, int64_t> first;
  for (int64_t i = 0; i < data.size(); ++i) {
    const Look& look = looks[static_cast<size_t>(i)];
    if (look.constant) constant.push_back(i);
    if (!first.emplace(look.digest, i).second) repeated.push_back(i);
  }
  if (!constant.empty())
    check.warnings.push_back(fmt::format("{} of {} calibration samples are constant (all elements equal): {}", constant.size(), data.size(), some(constant)));
  if (!repeated.empty())
    check.warnings.push_back(fmt::format("{} of {} calibration samples repeat an earlier one: {}", repeated.size(), data.size(), some(repeated)));
  return check;
}

}  // namespace quern
