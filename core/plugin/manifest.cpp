#include "core/plugin/manifest.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/error.hpp"
#include "quern/abi.h"

namespace quern {
namespace {

constexpr std::string_view magic = "QUERNMF1";
constexpr size_t max_manifest = size_t{1} << 20;

uint32_t u32_at(std::span<const std::byte> bytes, size_t offset) {
  uint32_t v;
  std::memcpy(&v, bytes.data() + offset, sizeof v);
  return v;
}

[[noreturn]] void fail(std::string text) { throw Error(ErrorCode::plugin, "its manifest " + text); }

bool matches(std::string_view text, std::string_view extra) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || extra.find(c) != std::string_view::npos;
  });
}
constexpr std::string_view upper_and_dash = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-";

bool is_id(std::string_view id) {  // words of letters, digits, _ and - with dots between; at least two
  int words = 0;
  for (size_t begin = 0; begin <= id.size();) {
    const size_t end = std::min(id.find('.', begin), id.size());
    if (!matches(id.substr(begin, end - begin), upper_and_dash)) return false;
    ++words;
    begin = end + 1;
  }
  return words >= 2;
}

bool is_version(std::string_view v) {  // 1.2.3, then perhaps -rc1
  size_t at = 0;
  for (int part = 0; part < 3; ++part) {
    const size_t begin = at;
    while (at < v.size() && v[at] >= '0' && v[at] <= '9') ++at;
    if (at == begin) return false;
    if (part < 2 && (at >= v.size() || v[at++] != '.')) return false;
  }
  if (at == v.size()) return true;
  return (v[at] == '-' || v[at] == '+' || v[at] == '.') && matches(v.substr(at + 1), "ABCDEFGHIJKLMNOPQRSTUVWXYZ-.");
}

class Object {
 public:
  Object(const json::value& v, std::string where) : where_(std::move(where)) {
    if (!v.is_object()) fail(fmt::format("has no object at {}", where_.empty() ? "the top" : where_));
    object_ = &v.get_object();
  }
  const json::value* find(std::string_view key) const {
    const auto* v = object_->if_contains(key);
    return v;
  }
  std::string text(std::string_view key, bool needed, size_t limit) const {
    const auto* v = find(key);
    if (!v) {
      if (needed) fail(fmt::format("lacks '{}'", where_ + std::string(key)));
      return "";
    }
    if (!v->is_string()) fail(fmt::format("has no text at '{}'", where_ + std::string(key)));
    std::string s(v->get_string());
    if (s.size() > limit || (needed && s.empty())) fail(fmt::format("has a text of {} bytes at '{}'", s.size(), where_ + std::string(key)));
    return s;
  }
  int integer(std::string_view key, int low) const {
    const auto* v = find(key);
    if (!v) fail(fmt::format("lacks '{}'", where_ + std::string(key)));
    if (!v->is_int64() || v->get_int64() < low || v->get_int64() > 65535)
      fail(fmt::format("has no number from {} at '{}'", low, where_ + std::string(key)));
    return static_cast<int>(v->get_int64());
  }
  std::vector<std::string> names(std::string_view key) const {
    std::vector<std::string> out;
    const auto* v = find(key);
    if (!v) return out;
    if (!v->is_array() || v->get_array().empty()) fail(fmt::format("has no list of names at '{}'", where_ + std::string(key)));
    std::set<std::string> seen;
    for (const auto& item : v->get_array()) {
      if (!item.is_string()) fail(fmt::format("has something that is no name in '{}'", where_ + std::string(key)));
      std::string s(item.get_string());
      if (!matches(s, "_") || s.size() > 64 || s[0] < 'a' || s[0] > 'z')
        fail(fmt::format("has the name '{}' in '{}'; names are lower-case letters, digits and _", s, where_ + std::string(key)));
      if (!seen.insert(s).second) fail(fmt::format("names '{}' twice in '{}'", s, where_ + std::string(key)));
      out.push_back(std::move(s));
    }
    return out;
  }
  void only(const std::vector<std::string>& keys) const {
    for (const auto& member : *object_) {
      const std::string key(member.key());
      if (key.rfind("x-", 0) == 0) continue;
      if (std::find(keys.begin(), keys.end(), key) == keys.end())
        fail(fmt::format("has an unknown key '{}'{}", where_ + key, did_you_mean(key, keys)));
    }
  }

 private:
  std::string where_;
  const json::object* object_;
};

}  // namespace

std::string manifest_text(std::span<const std::byte> section) {
  if (section.size() < magic.size() + 8 || std::memcmp(section.data(), magic.data(), magic.size()) != 0)
    fail("is not one (the section .quern begins otherwise)");
  const uint32_t length = u32_at(section, magic.size()), crc = u32_at(section, magic.size() + 4);
  const auto rest = section.subspan(magic.size() + 8);
  if (length > rest.size() || length > max_manifest) fail(fmt::format("claims {} bytes, the section has {}", length, rest.size()));
  const auto* text = reinterpret_cast<const char*>(rest.data());
  if (::crc32(0, reinterpret_cast<const Bytef*>(text), length) != crc) fail("is damaged (its checksum is wrong)");
  return std::string(text, length);
}

Manifest parse_manifest(std::string_view text, const std::string& file) {
  Manifest m;
  try {
    m.json = parse_json(text, file);
  } catch (const Error& e) {
    fail(fmt::format("can't be read: line {}, column {}: {}", e.line(), e.column(), e.message()));
  }
  const Object top(m.json, "");
  // The version first: a later format may have any keys.
  if (const int version = top.integer("quern_manifest", 1); version != 1)
    fail(fmt::format("has format {}; this Quern reads format 1", version));
  top.only({"quern_manifest", "id", "kind", "name", "version", "vendor", "license", "description", "homepage", "abi", "arch", "provides"});
  m.id = top.text("id", true, 128);
  if (!is_id(m.id)) fail(fmt::format("has the id '{}'; it must look like org.example.npu", m.id));
  m.kind = top.text("kind", true, 64);
  if (m.kind != "target" && m.kind != "algorithm") fail(fmt::format("has kind '{}'; there are target and algorithm", m.kind));
  m.name = top.text("name", true, 128);
  m.version = top.text("version", true, 128);
  if (!is_version(m.version)) fail(fmt::format("has version '{}'; it must look like 1.2.3", m.version));
  m.vendor = top.text("vendor", false, 128);
  m.license = top.text("license", true, 128);
  top.text("description", false, 1024);
  top.text("homepage", false, 256);
  if (const std::string arch = top.text("arch", false, 64); !arch.empty() && arch != "x86_64")
    fail(fmt::format("says that the plugin is for {}", arch));
  const auto* abi = top.find("abi");
  if (!abi) fail("lacks 'abi'");
  const Object a(*abi, "abi.");
  a.only({"major", "minor"});
  m.abi_major = a.integer("major", 1);
  m.abi_minor = a.integer("minor", 0);
  const auto* provides = top.find("provides");
  if (!provides) fail("lacks 'provides'");
  const Object p(*provides, "provides.");
  p.only({"targets", "estimators", "stages", "readers", "metrics"});
  m.targets = p.names("targets");
  m.estimators = p.names("estimators");
  m.stages = p.names("stages");
  m.readers = p.names("readers");
  m.metrics = p.names("metrics");
  const size_t algorithms = m.estimators.size() + m.stages.size() + m.readers.size() + m.metrics.size();
  if (m.kind == "target" && (m.targets.size() != 1 || algorithms > 0))
    fail("must name exactly one target in 'provides' (its kind is target)");
  if (m.kind == "algorithm" && (!m.targets.empty() || algorithms == 0))
    fail("must name estimators, stages, readers or metrics, and no targets, in 'provides' (its kind is algorithm)");
  return m;
}

}  // namespace quern
