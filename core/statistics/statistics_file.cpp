#include "core/statistics/statistics_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "core/base/digest.hpp"
#include "core/statistics/stream.hpp"

namespace quern {
namespace {

constexpr std::string_view magic = "QUERNQS\n";
constexpr uint32_t version = 1;
constexpr size_t digest_size = 64;

using Kept = std::vector<std::pair<std::string, Tensor>>;

bool same(const Kept& a, const Kept& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.type() == y.second.type() && x.second.dims() == y.second.dims() &&
           std::memcmp(x.second.data(), y.second.data(), x.second.bytes()) == 0;
  });
}

void put_tensor(Writer& w, const Tensor& t) {
  w.put<uint32_t>(static_cast<uint32_t>(t.type()));
  w.array(t.dims());
  w.text({static_cast<const char*>(t.data()), t.bytes()});
}

Tensor get_tensor(Reader& r) {
  const auto type = static_cast<DType>(r.get<uint32_t>());
  const auto dims = r.array<int64_t>();
  const std::string bytes = r.text();
  const size_t size = size_of(type);
  uint64_t count = 1;
  for (int64_t d : dims) {
    if (d < 0 || (d > 0 && count > bytes.size() / static_cast<uint64_t>(d))) r.fail("has a damaged sample");
    count *= static_cast<uint64_t>(d);
  }
  if (size == 0 || count * size != bytes.size()) r.fail("has a damaged sample");
  Tensor t(type, dims);
  std::memcpy(t.mutable_bytes(), bytes.data(), bytes.size());
  return t;
}

}  // namespace

int64_t StatisticsPass::samples() const {
  int64_t least = std::numeric_limits<int64_t>::max();
  const auto values = set.values();
  for (const auto& v : values) least = std::min(least, set.samples(v));
  return values.empty() ? 0 : least;
}

void StatisticsFile::merge(StatisticsFile other, const std::string& other_name) {
  const auto fail = [&](const std::string& what) { return Error(ErrorCode::data, what).at_file(other_name); };
  for (const auto& [key, text] : provenance) {
    const auto theirs = other.provenance.find(key);
    const std::string& found = theirs == other.provenance.end() ? std::string() : theirs->second;
    if (found != text)
      throw fail(fmt::format("can't be merged: its {} is '{}', that of the files before it '{}'", key, found, text))
          .hint("calibrate every shard with the same model, configuration and data, on machines of one float class");
  }
  if (other.provenance.size() != provenance.size() || other.samples != samples)
    throw fail(fmt::format("can't be merged: it is of {} samples in all, the files before it of {}", other.samples, samples));
  for (const auto& [id, sample] : other.kept)
    if (const auto mine = kept.find(id); mine != kept.end() && !same(mine->second, sample))
      throw fail(fmt::format("can't be merged: sample {} is another one in the files before it", id));

  std::vector<StatisticsPass> merged = passes;  // so that a failure changes nothing
  for (StatisticsPass& theirs : other.passes) {
    const auto mine = std::find_if(merged.begin(), merged.end(), [&](const StatisticsPass& p) { return p.order == theirs.order && p.network == theirs.network; });
    if (mine == merged.end()) {
      merged.push_back(std::move(theirs));
      continue;
    }
    const bool complete = mine->samples() == samples && theirs.samples() == samples;
    if (complete && mine->set.serialize() == theirs.set.serialize()) continue;
    try {
      mine->set.merge(theirs.set);
    } catch (Error& e) {
      throw std::move(e).at_file(other_name);
    }
  }
  std::sort(merged.begin(), merged.end(), [](const auto& a, const auto& b) { return std::tie(a.order, a.network) < std::tie(b.order, b.network); });
  passes = std::move(merged);
  for (auto& [id, sample] : other.kept) kept.emplace(id, std::move(sample));
}

std::string StatisticsFile::serialize() const {
  Writer w;
  w.put<uint64_t>(provenance.size());
  for (const auto& [key, text] : provenance) { w.text(key); w.text(text); }
  w.put(samples);
  w.put<uint64_t>(warnings.size());
  for (const auto& text : warnings) w.text(text);
  w.put<uint64_t>(passes.size());
  for (const auto& p : passes) {
    w.put(p.order);
    w.text(p.name);
    w.text(p.network);
    w.text(p.set.serialize());
  }
  w.put<uint64_t>(kept.size());
  for (const auto& [id, sample] : kept) {
    w.put(id);
    w.put<uint64_t>(sample.size());
    for (const auto& [name, tensor] : sample) { w.text(name); put_tensor(w, tensor); }
  }
  Writer file;
  file.put<uint32_t>(version);
  file.text(w.bytes());
  const std::string body = std::string(magic) + file.bytes();
  return body + sha256(std::string_view(body));
}

StatisticsFile StatisticsFile::deserialize(std::string_view bytes, const std::string& file_name) {
  Reader whole(bytes, file_name);
  if (bytes.substr(0, magic.size()) != magic) whole.fail("does not begin as one");
  if (bytes.size() < magic.size() + 12 + digest_size) whole.fail("is cut off");
  const std::string_view body = bytes.substr(0, bytes.size() - digest_size);
  Reader head(body.substr(magic.size()), file_name);
  if (const uint32_t v = head.get<uint32_t>(); v != version) head.fail(fmt::format("has version {}; this Quern reads version {}", v, version));
  if (sha256(body) != bytes.substr(body.size())) head.fail("is cut off or damaged (its sha256 is wrong)");
  const std::string content = head.text();
  if (!head.done()) head.fail("has a wrong length");
  Reader r(content, file_name);
  StatisticsFile f;
  for (uint64_t n = r.length(16); n > 0; --n) {
    const std::string key = r.text();
    f.provenance[key] = r.text();
  }
  f.samples = r.get<int64_t>();
  for (uint64_t n = r.length(8); n > 0; --n) f.warnings.push_back(r.text());
  for (uint64_t n = r.length(28); n > 0; --n) {
    StatisticsPass p;
    p.order = r.get<int32_t>();
    p.name = r.text();
    p.network = r.text();
    p.set = StatisticsSet::deserialize(r.text(), file_name);
    if (!f.passes.empty() && std::tie(p.order, p.network) <= std::tie(f.passes.back().order, f.passes.back().network)) r.fail("has passes out of order");
    f.passes.push_back(std::move(p));
  }
  for (uint64_t n = r.length(16); n > 0; --n) {
    const auto id = r.get<int64_t>();
    if (id < 0 || id >= f.samples || f.kept.count(id)) r.fail("has a sample with a damaged number");
    auto& sample = f.kept[id];
    for (uint64_t k = r.length(20); k > 0; --k) {
      std::string name = r.text();
      sample.emplace_back(std::move(name), get_tensor(r));
    }
  }
  if (!r.done()) r.fail("has a wrong length");
  return f;
}

}  // namespace quern
