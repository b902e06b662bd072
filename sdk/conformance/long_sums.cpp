// Units whose sums are long: for L2, and for the counters of L5.
#include <algorithm>
#include <cmath>
#include <set>

#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

// `codes` as elements of a tensor's type; little-endian, so the low bytes come first.
Tensor tensor_of(DType type, const Dims& dims, const std::vector<int64_t>& codes) {
  Tensor t(type, dims);
  for (size_t i = 0; i < codes.size(); ++i) std::memcpy(static_cast<char*>(t.mutable_bytes()) + i * size_of(type), &codes[i], size_of(type));
  return t;
}

double largest(const Bench& b, const TypeChoice& types, const char* role) {
  const std::string* name = types.find(role);
  if (!name || *name == "f32" || *name == "f16") return 1;
  const NumberFormat& f = b.rules->type(*name).format;
  return static_cast<double>(std::max(f.qmax, -f.qmin));
}

}  // namespace

std::vector<int64_t> long_depths(const Bench& b, const Variant& v, int64_t index) {
  const Contract& contract = *b.rules->contracts.at(v.config->contract);
  const TypeChoice types = types_for(v, index);
  const double fits = std::ldexp(1, std::min(contract.acc.bits, 62) - 1) / (largest(b, types, "input") * largest(b, types, "weight"));
  std::set<int64_t> depths;
  if (fits < 100000) depths.insert(static_cast<int64_t>(fits) + 3);
  // Where it saturates on the way, what comes after counts: longer ones.
  if (contract.acc.overflow == Overflow::saturate && fits < 20000) depths.insert({static_cast<int64_t>(2 * fits) + 5, static_cast<int64_t>(4 * fits) + 7});
  if (const int64_t every = contract.acc.saturate_every; every > 0 && every < 50000)
    for (const int64_t d : {every - 1, every, every + 1, 2 * every + 1}) depths.insert(std::max<int64_t>(2, d));
  return {depths.begin(), depths.end()};
}

std::optional<Trial> long_trial(const Bench& b, const Variant& v, int64_t index, int64_t depth, Source& s, std::string* why) {
  const Contract& contract = *b.rules->contracts.at(v.config->contract);
  const TypeChoice types = types_for(v, index);
  auto trial = find_trial(*b.rules, v, types, {Style::arithmetic, nullptr, depth}, s, why);
  if (!trial) return std::nullopt;
  UnitOperand* weight = trial->operand("weight");
  const UnitOperand* input = trial->operand("input");
  if (!weight || !weight->constant || !weight->params || !input || !input->params) return *why = "its weight is no constant", std::nullopt;
  // Channels: all at one end, at the other, half and half, by turns, and as drawn.
  const Dims& out = trial->unit->output.dims;
  const int64_t columns = out.size() > 2 ? out[1] : out.back();
  const bool first_axis = weight->constant->dims().at(0) == columns;
  const NumberFormat& f = weight->params->format;
  std::vector<int64_t> codes = weight->constant->to_ints();
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto at = static_cast<int64_t>(i), c = at / (first_axis ? depth : 1) % columns, k = first_axis ? at % depth : at / columns;
    const bool turn = contract.acc.saturate_every > 0 ? k / contract.acc.saturate_every % 2 : k * 3 / depth % 2;
    const int64_t choice[] = {f.qmax, f.qmin, k < depth / 2 ? f.qmax : f.qmin, turn ? f.qmin : f.qmax, codes[i]};
    codes[i] = choice[c % 5];
  }
  weight->constant = std::make_shared<const Tensor>(tensor_of(weight->constant->type(), weight->constant->dims(), codes));
  for (size_t i = 0; i < trial->inputs.size(); ++i) {
    const auto& params = trial->flowing(i).params;
    if (!params) continue;
    std::vector<int64_t> ends(static_cast<size_t>(trial->inputs[i].count()));
    for (size_t e = 0; e < ends.size(); ++e) ends[e] = e * 4 / ends.size() % 2 ? params->format.qmin : params->format.qmax;
    trial->inputs[i] = tensor_of(trial->inputs[i].type(), trial->inputs[i].dims(), ends);
  }
  // An output that can show what the accumulator holds at its ends.
  if (const std::string* name = types.find("output"); trial->unit->output.params && name) {
    const double reach = std::ldexp(static_cast<double>(input->params->scale[0]) * *std::max_element(weight->params->scale.begin(), weight->params->scale.end()),
                                    std::min(contract.acc.bits, 62) - 1);
    trial->unit->output.params = legal_params(b.rules->type(*name), -reach, reach, 1, -1, false, false, s);
  }
  return trial;
}

}  // namespace quern::conform
