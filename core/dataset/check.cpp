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

// One input of one sample.
struct InputLook { double low = 0, high = 0, share_at_high = 0; bool whole = true; Dims dims; };
struct Look { bool constant = true; std::string digest; std::vector<InputLook> inputs; std::optional<int64_t> label; };

InputLook look_at(const Tensor& t) {
  InputLook look;
  look.dims = t.dims();
  const std::vector<float> values = t.to_floats();
  look.low = look.high = values.empty() ? 0 : static_cast<double>(values[0]);
  for (float v : values) {
    look.low = std::min(look.low, static_cast<double>(v));
    look.high = std::max(look.high, static_cast<double>(v));
    look.whole &= v == std::trunc(v);
  }
  if (!values.empty())
    look.share_at_high = static_cast<double>(std::count(values.begin(), values.end(), static_cast<float>(look.high))) / static_cast<double>(values.size());
  return look;
}

// [n,c,h,w] or [n,h,w,c] with one channel or three.
bool is_picture(const Dims& d) {
  const auto channels = [](int64_t c) { return c == 1 || c == 3; };
  return d.size() == 4 && ((channels(d[1]) && d[2] >= 8 && d[3] >= 8) || (channels(d[3]) && d[1] >= 8 && d[2] >= 8));
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

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

void warn_of(DataCheck& check, const std::vector<int64_t>& samples, const std::string& what) {
  if (!samples.empty()) check.warnings.push_back(fmt::format("{} of {} calibration samples {}: {}", samples.size(), check.samples, what, some(samples)));
}

// Samples whose input `k` is unlike that of the others.
void compare_input(DataCheck& check, const std::vector<Look>& looks, size_t k, const std::string& name) {
  InputRange range{name, looks[0].inputs[k].low, looks[0].inputs[k].high, true, is_picture(looks[0].inputs[k].dims)};
  std::vector<double> largest, shares;
  std::map<Dims, int64_t> shapes;
  for (const Look& look : looks) {
    const InputLook& in = look.inputs[k];
    range.low = std::min(range.low, in.low);
    range.high = std::max(range.high, in.high);
    range.whole &= in.whole;
    largest.push_back(std::max(std::abs(in.low), std::abs(in.high)));
    shares.push_back(in.high == in.low ? 0 : in.share_at_high);
    ++shapes[in.dims];
  }
  const auto usual = std::max_element(shapes.begin(), shapes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const double usual_size = median(largest), usual_share = median(shares), width = range.high - range.low;
  std::vector<int64_t> dark, bright, far, other;
  for (size_t i = 0; i < looks.size(); ++i) {
    const InputLook& in = looks[i].inputs[k];
    const auto index = static_cast<int64_t>(i);
    if (range.picture && in.high > in.low) {
      if (in.high < range.low + 0.1 * width) dark.push_back(index);
      if (in.low > range.high - 0.1 * width || (in.high == range.high && shares[i] > 0.5 && usual_share < 0.2)) bright.push_back(index);
    }
    if (looks.size() >= 8 && usual_size > 0 && largest[i] > 8 * usual_size) far.push_back(index);
    if (in.dims != usual->first && 10 * usual->second >= 8 * check.samples) other.push_back(index);
  }
  warn_of(check, dark, fmt::format("are nearly black in input '{}'", name));
  warn_of(check, bright, fmt::format("are over-exposed in input '{}' (at the largest value for the most part)", name));
  warn_of(check, far, fmt::format("hold values of input '{}' that are more than 8 times the usual ones", name));
  warn_of(check, other, fmt::format("have another shape of input '{}' than {}", name, to_string(usual->first)));
  check.ranges.push_back(std::move(range));
}

// Where every sample has one class: those that never occur.
void compare_classes(DataCheck& check, const std::vector<Look>& looks) {
  std::map<int64_t, int64_t> seen;
  for (const Look& look : looks) {
    if (!look.label || *look.label < 0 || *look.label > 100000) return;
    ++seen[*look.label];
  }
  const int64_t classes = seen.rbegin()->first + 1;
  std::vector<int64_t> missing;
  for (int64_t c = 0; c < classes; ++c) if (!seen.count(c)) missing.push_back(c);
  if (missing.empty()) return;
  const std::string text = fmt::format("{} of the classes 0..{} occur in no calibration sample: {}", missing.size(), classes - 1, some(missing));
  (check.samples >= 2 * classes ? check.warnings : check.advice).push_back(text);
}

}  // namespace

DataCheck check_calibration_data(const Dataset& data, int threads) {
  if (data.size() == 0) throw Error(ErrorCode::data, "the calibration data is empty").hint("at least one sample is needed; about 300 are usual");
  std::vector<Look> looks(static_cast<size_t>(data.size()));
  std::vector<std::string> names;
  for (const NamedTensor& in : data.item(0)) names.push_back(in.name);
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
      look.inputs.push_back(look_at(in.tensor));
      sha.add(std::span(static_cast<const std::byte*>(in.tensor.data()), in.tensor.bytes()));
    }
    look.constant &= any;
    look.digest = sha.hex();
    if (const auto label = data.label(i); label && label->count() == 1 && !is_float(label->type())) look.label = label->to_ints()[0];
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
  warn_of(check, constant, "are constant (all elements equal)");
  warn_of(check, repeated, "repeat an earlier one");
  for (size_t k = 0; k < names.size(); ++k) compare_input(check, looks, k, names[k]);
  compare_classes(check, looks);
  if (check.samples < 20) check.advice.push_back(fmt::format("{} calibration samples are few; 100 to 300 are usual", check.samples));
  return check;
}

namespace {

// The numbers of a key of `preprocess`, for all inputs or for this one.
std::vector<double> preprocessing_numbers(const json::object& preprocess, const std::string& input, const char* key) {
  const auto* own = preprocess.if_contains(input);
  const json::object& from = own && own->is_object() ? own->get_object() : preprocess;
  std::vector<double> out;
  const auto* v = from.if_contains(key);
  if (!v) return out;
  if (const auto* list = v->if_array()) for (const auto& e : *list) out.push_back(e.to_number<double>());
  else if (v->is_number()) out.push_back(v->to_number<double>());
  return out;
}

}  // namespace

std::vector<std::string> check_preprocessing(const json::object& section, const DataCheck& check, const std::map<std::string, std::string>& begins_with) {
  std::vector<std::string> warnings;
  const auto* p = section.if_contains("preprocess");
  const json::object none, &preprocess = p && p->is_object() ? p->get_object() : none;
  for (const InputRange& r : check.ranges) {
    const auto scale = preprocessing_numbers(preprocess, r.input, "scale"), mean = preprocessing_numbers(preprocess, r.input, "mean"),
               range = preprocessing_numbers(preprocess, r.input, "range");
    const double largest = scale.empty() ? 1 : std::abs(*std::max_element(scale.begin(), scale.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
    const bool active = largest != 1 || std::any_of(mean.begin(), mean.end(), [](double m) { return m != 0; });
    const auto inside = begins_with.find(r.input);
    const double width = r.high - r.low;
    const std::string is = fmt::format("input '{}' lies in [{:.4g}, {:.4g}]", r.input, r.low, r.high);
    if (active && inside != begins_with.end())
      warnings.push_back(fmt::format("preprocess normalises input '{}', and the network begins with {}: is it done twice?", r.input, inside->second));
    if (active && largest < 0.1 && width < 0.1)
      warnings.push_back(fmt::format("after preprocess {}, which is next to nothing: is the data normalised already?", is));
    if (range.size() == 2) {
      const double slack = 0.1 * (range[1] - range[0]);
      if (r.low < range[0] - slack || r.high > range[1] + slack || width < slack)
        warnings.push_back(fmt::format("{}; the network was trained on [{:.4g}, {:.4g}], as preprocess.range says: are mean and scale right, and done once?", is, range[0], range[1]));
    } else if (!active && inside == begins_with.end() && r.picture && r.whole && r.low >= 0 && r.high > 50 && r.high <= 255) {
      warnings.push_back(fmt::format("{}, in whole numbers, and nothing normalises it: was the network trained on that, or is preprocess missing?", is));
    }
  }
  return warnings;
}

}  // namespace quern
