#include "core/statistics/statistics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/digest.hpp"
#include "core/statistics/collectors.hpp"

namespace quern {
namespace {

constexpr std::array<std::string_view, 8> kind_names{"min_max",    "histogram",      "mean",            "sample_min",
                                                     "sample_max", "sample_abs_max", "sample_quantile", "sample_abs_quantile"};
constexpr std::string_view magic = "QUERNST\n";
constexpr uint32_t version = 1;

bool has_quantile(StatisticKind k) { return k == StatisticKind::sample_quantile || k == StatisticKind::sample_abs_quantile; }

}  // namespace

std::string_view name_of(StatisticKind kind) { return kind_names[static_cast<size_t>(kind)]; }

bool statistic_kind_from_name(std::string_view name, StatisticKind& out) {
  for (size_t i = 0; i < kind_names.size(); ++i)
    if (kind_names[i] == name) { out = static_cast<StatisticKind>(i); return true; }
  return false;
}

std::string StatisticRequest::key() const {
  if (has_quantile(kind)) return fmt::format("{}(axis={},q={})", name_of(kind), axis, quantile);
  if (axis >= 0) return fmt::format("{}(axis={})", name_of(kind), axis);
  return std::string(name_of(kind));
}

bool SampleIds::insert(int64_t id) {
  auto after = runs_.upper_bound(id);
  if (after != runs_.begin()) {
    auto before = std::prev(after);
    if (id <= before->second) return false;
    if (before->second == id - 1) {
      before->second = id;
      if (after != runs_.end() && after->first == id + 1) {
        before->second = after->second;
        runs_.erase(after);
      }
      return true;
    }
  }
  int64_t last = id;
  if (after != runs_.end() && after->first == id + 1) {
    last = after->second;
    runs_.erase(after);
  }
  runs_[id] = last;
  return true;
}

bool SampleIds::overlaps(const SampleIds& other, int64_t& id) const {
  auto a = runs_.begin();
  auto b = other.runs_.begin();
  while (a != runs_.end() && b != other.runs_.end()) {
    if (a->second < b->first) ++a;
    else if (b->second < a->first) ++b;
    else { id = std::max(a->first, b->first); return true; }
  }
  return false;
}

void SampleIds::merge(const SampleIds& other) {
  std::vector<std::pair<int64_t, int64_t>> all(runs_.begin(), runs_.end());
  all.insert(all.end(), other.runs_.begin(), other.runs_.end());
  std::sort(all.begin(), all.end());
  runs_.clear();
  int64_t* last = nullptr;
  for (const auto& [from, to] : all) {
    if (last && from - 1 <= *last) *last = std::max(*last, to);
    else last = &(runs_[from] = to);
  }
}

void SampleIds::set_runs(const std::vector<int64_t>& pairs) {
  runs_.clear();
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) runs_[pairs[i]] = pairs[i + 1];
}

int64_t SampleIds::count() const {
  int64_t n = 0;
  for (const auto& [from, to] : runs_) n += to - from + 1;
  return n;
}

struct StatisticsSet::Entry {
  SampleIds samples;
  std::map<std::string, std::unique_ptr<Statistic>> by_key;
};

StatisticsSet::StatisticsSet() = default;
StatisticsSet::~StatisticsSet() = default;
StatisticsSet::StatisticsSet(const StatisticsSet& other) : StatisticsSet(other.part(other)) {}
StatisticsSet::StatisticsSet(StatisticsSet&&) noexcept = default;
StatisticsSet& StatisticsSet::operator=(StatisticsSet&&) noexcept = default;

StatisticsSet::Entry& StatisticsSet::entry(const std::string& value) {
  auto& e = by_value_[value];
  if (!e) e = std::make_unique<Entry>();
  return *e;
}

void StatisticsSet::request(const StatisticRequest& wanted) {
  StatisticRequest r = wanted;
  if (!has_quantile(r.kind)) r.quantile = 0;
  auto statistic = make_statistic(r);
  Entry& e = entry(r.value);
  if (e.by_key.count(r.key())) return;
  if (!e.samples.empty())
    throw Error(ErrorCode::internal, fmt::format("{} of tensor '{}' was requested after samples had been observed", r.key(), r.value));
  e.by_key.emplace(r.key(), std::move(statistic));
}

std::vector<StatisticRequest> StatisticsSet::requests() const {
  std::vector<StatisticRequest> out;
  for (const auto& [value, e] : by_value_)
    for (const auto& [key, s] : e->by_key) out.push_back(s->request);
  return out;
}

std::vector<std::string> StatisticsSet::values() const {
  std::vector<std::string> out;
  for (const auto& [value, e] : by_value_) out.push_back(value);
  return out;
}

int64_t StatisticsSet::samples(const std::string& value) const {
  const auto it = by_value_.find(value);
  return it == by_value_.end() ? 0 : it->second->samples.count();
}

StatisticsSet StatisticsSet::empty_copy() const {
  StatisticsSet set;
  set.provenance = provenance;
  for (const auto& r : requests()) set.request(r);
  return set;
}

StatisticsSet StatisticsSet::part(const StatisticsSet& wanted) const {
  StatisticsSet set = wanted.empty_copy();
  for (auto& [value, mine] : set.by_value_) {
    const auto theirs = by_value_.find(value);
    for (auto& [key, s] : mine->by_key) {
      if (theirs == by_value_.end() || !theirs->second->by_key.count(key))
        throw Error(ErrorCode::internal, fmt::format("{} of tensor '{}' was not collected", key, value));
      s->merge(*theirs->second->by_key.at(key));
    }
    mine->samples.merge(theirs->second->samples);
  }
  return set;
}

void StatisticsSet::observe(const std::string& value, int64_t sample_id, const TensorView& view) {
  const auto it = by_value_.find(value);
  if (it == by_value_.end()) return;
  Entry& e = *it->second;
  static thread_local std::vector<float> scratch;
  Observation o(value, sample_id, view, scratch);
  if (!e.samples.insert(sample_id))
    throw Error(ErrorCode::data, fmt::format("sample {} of tensor '{}' is counted twice in the statistics", sample_id, value));
  if (o.count == 0) return;
  for (auto& [key, s] : e.by_key) s->observe(o);
}

void StatisticsSet::merge(const StatisticsSet& other) {
  if (other.by_value_.empty() && other.provenance.empty()) return;
  for (const auto& [key, text] : other.provenance) {
    const auto mine = provenance.find(key);
    if (mine != provenance.end() && mine->second != text)
      throw Error(ErrorCode::data, fmt::format("statistics with {} '{}' can't be merged with those with '{}'", key, mine->second, text));
  }
  if (by_value_.empty()) {
    for (const auto& r : other.requests()) request(r);
  } else if (requests() != other.requests()) {
    throw Error(ErrorCode::data, "statistics of different requests can't be merged; collect them with the same configuration");
  }
  for (const auto& [value, theirs] : other.by_value_) {
    int64_t id = 0;
    if (by_value_.at(value)->samples.overlaps(theirs->samples, id))
      throw Error(ErrorCode::data, fmt::format("sample {} of tensor '{}' is in both statistics", id, value))
          .hint("give every shard its own sample numbers");
  }
  provenance.insert(other.provenance.begin(), other.provenance.end());
  for (const auto& [value, theirs] : other.by_value_) {
    Entry& mine = *by_value_.at(value);
    for (auto& [key, s] : mine.by_key) s->merge(*theirs->by_key.at(key));
    mine.samples.merge(theirs->samples);
  }
}

bool StatisticsSet::has(const StatisticRequest& wanted) const {
  StatisticRequest r = wanted;
  if (!has_quantile(r.kind)) r.quantile = 0;
  const auto it = by_value_.find(r.value);
  if (it == by_value_.end()) return false;
  const auto at = it->second->by_key.find(r.key());
  return at != it->second->by_key.end() && !at->second->empty();
}

StatisticResult StatisticsSet::result(const StatisticRequest& wanted) const {
  StatisticRequest r = wanted;
  if (!has_quantile(r.kind)) r.quantile = 0;
  const auto it = by_value_.find(r.value);
  const Statistic* s = nullptr;
  if (it != by_value_.end())
    if (const auto at = it->second->by_key.find(r.key()); at != it->second->by_key.end()) s = at->second.get();
  if (!s) throw Error(ErrorCode::internal, fmt::format("{} of tensor '{}' was not collected", r.key(), r.value));
  if (s->empty()) throw Error(ErrorCode::internal, fmt::format("{} of tensor '{}': no sample was observed", r.key(), r.value));
  StatisticResult out = s->result();
  out.kind = r.kind;
  return out;
}

std::string StatisticsSet::serialize() const {
  Writer w;
  w.put<uint64_t>(provenance.size());
  for (const auto& [key, text] : provenance) { w.text(key); w.text(text); }
  w.put<uint64_t>(by_value_.size());
  for (const auto& [value, e] : by_value_) {
    w.text(value);
    std::vector<int64_t> runs;
    for (const auto& [from, to] : e->samples.runs()) { runs.push_back(from); runs.push_back(to); }
    w.array(runs);
    w.put<uint64_t>(e->by_key.size());
    for (const auto& [key, s] : e->by_key) {
      w.text(name_of(s->request.kind));
      w.put<int32_t>(s->request.axis);
      w.put<double>(s->request.quantile);
      s->save(w);
    }
  }
  Writer file;
  file.put<uint32_t>(version);
  file.text(w.bytes());
  const std::string body = std::string(magic) + file.bytes();
  return body + sha256(std::string_view(body));
}

StatisticsSet StatisticsSet::deserialize(std::string_view bytes, const std::string& file_name) {
  constexpr size_t digest_size = 64;
  Reader whole(bytes, file_name);
  if (bytes.size() < magic.size() || bytes.substr(0, magic.size()) != magic) whole.fail("does not begin as one");
  if (bytes.size() < magic.size() + 12 + digest_size) whole.fail("is cut off");
  const std::string_view body = bytes.substr(0, bytes.size() - digest_size);
  Reader head(body.substr(magic.size()), file_name);
  if (const uint32_t v = head.get<uint32_t>(); v != version) head.fail(fmt::format("has version {}; this Quern reads version {}", v, version));
  const std::string content = head.text();
  if (!head.done()) head.fail("has a wrong length");
  if (sha256(body) != bytes.substr(body.size())) head.fail("is damaged (its sha256 is wrong)");
  Reader r(content, file_name);
  StatisticsSet set;
  for (uint64_t n = r.length(16); n > 0; --n) {
    const std::string key = r.text();
    set.provenance[key] = r.text();
  }
  for (uint64_t n = r.length(24); n > 0; --n) {
    const std::string value = r.text();
    if (set.by_value_.count(value)) r.fail("names a tensor twice");
    const auto runs = r.array<int64_t>();
    uint64_t k = r.length(20);
    if (k == 0) r.fail("has a tensor without statistics");
    for (; k > 0; --k) {
      StatisticRequest request;
      request.value = value;
      if (!statistic_kind_from_name(r.text(), request.kind)) r.fail("has an unknown kind of statistic");
      request.axis = r.get<int32_t>();
      request.quantile = r.get<double>();
      if (request.axis < -1 || !(request.quantile >= 0 && request.quantile <= 1)) r.fail("has a damaged request");
      auto s = make_statistic(request);
      s->load(r);
      set.entry(value).by_key[request.key()] = std::move(s);
    }
    Entry& e = set.entry(value);
    if (runs.size() % 2) r.fail("has damaged sample numbers");
    for (size_t i = 0; i < runs.size(); i += 2) {
      // Up to 2^62, so that they can be counted.
      if (runs[i] < 0 || runs[i] > runs[i + 1] || runs[i + 1] >> 62 || (i > 0 && runs[i] <= runs[i - 1])) r.fail("has damaged sample numbers");
    }
    e.samples.set_runs(runs);
  }
  if (!r.done()) r.fail("has a wrong length");
  return set;
}

}  // namespace quern
