// A small JSON reader for plugins: parameters come as text. Numbers are doubles; no locale; depth at most 32; a duplicate
// key, a trailing comma or any other defect throws Failure(QUERN_INVALID_ARGUMENT) with the position.
//
//   Json p = Json::parse(parameters);                       // "" counts as {}
//   double prob = p.number("outlier_prob", 1e-4);
//   std::string type = p["max"].text("type", "abs_max");    // a missing object behaves like {}
#pragma once
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <system_error>

#include "quern/views.hpp"

namespace quern_sdk {

class Json {
 public:
  enum class Kind { null, boolean, number, string, array, object };

  static Json parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool is_object() const { return kind_ == Kind::object; }
  const std::vector<Json>& items() const { return items_; }
  const std::vector<std::pair<std::string, Json>>& members() const { return members_; }  // in the order of the text
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const Json& operator[](std::string_view key) const {
    static const Json nothing;
    const Json* j = find(key);
    return j ? *j : nothing;
  }
  // What it is itself: for the elements of lists.
  double number() const {
    if (kind_ != Kind::number) throw Failure(QUERN_INVALID_ARGUMENT, "a number is expected in a list");
    return number_;
  }
  const std::string& text() const {
    if (kind_ != Kind::string) throw Failure(QUERN_INVALID_ARGUMENT, "a text is expected in a list");
    return text_;
  }
  double number(std::string_view key, double fallback) const {
    const Json* j = typed(key, Kind::number, "a number");
    return j ? j->number_ : fallback;
  }
  int64_t integer(std::string_view key, int64_t fallback) const {
    const Json* j = typed(key, Kind::number, "an integer");
    if (!j) return fallback;
    if (j->number_ != std::floor(j->number_) || std::fabs(j->number_) > 9007199254740992.0)
      throw Failure(QUERN_INVALID_ARGUMENT, "'" + std::string(key) + "' must be an integer");
    return static_cast<int64_t>(j->number_);
  }
  bool flag(std::string_view key, bool fallback) const {
    const Json* j = typed(key, Kind::boolean, "true or false");
    return j ? j->number_ != 0 : fallback;
  }
  std::string text(std::string_view key, std::string_view fallback) const {
    const Json* j = typed(key, Kind::string, "a text");
    return j ? j->text_ : std::string(fallback);
  }
  // Refuses keys that are not in the list, naming them.
  void only(std::initializer_list<std::string_view> keys, std::string_view where) const {
    for (const auto& [key, value] : members_) {
      bool known = false;
      for (std::string_view k : keys) known = known || k == key;
      if (known) continue;
      std::string list;
      for (std::string_view k : keys) list += (list.empty() ? "" : ", ") + std::string(k);
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(where) + ": unknown parameter '" + key + "'; there are " + list);
    }
  }

 private:
  struct Reader;
  const Json* find(std::string_view key) const {
    for (const auto& m : members_)
      if (m.first == key) return &m.second;
    return nullptr;
  }
  const Json* typed(std::string_view key, Kind kind, const char* what) const {
    const Json* j = find(key);
    if (!j || j->kind_ == Kind::null) return nullptr;
    if (j->kind_ != kind) throw Failure(QUERN_INVALID_ARGUMENT, "'" + std::string(key) + "' must be " + what);
    return j;
  }

  Kind kind_ = Kind::null;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
};

struct Json::Reader {
  std::string_view text;
  size_t at = 0;
  int depth = 0;

  [[noreturn]] void fail(const char* what) const {
    throw Failure(QUERN_INVALID_ARGUMENT, "JSON, character " + std::to_string(at + 1) + ": " + what);
  }
  void space() { while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r')) ++at; }
  char peek() { space(); return at < text.size() ? text[at] : '\0'; }
  void expect(char c, const char* what) { if (peek() != c) fail(what); ++at; }
  bool word(std::string_view w) {
    if (text.substr(at, w.size()) != w) return false;
    at += w.size();
    return true;
  }

  Json value() {
    Json j;
    const char c = peek();
    if (++depth > 32) fail("nested too deeply");
    if (c == '{') {
      ++at;
      j.kind_ = Kind::object;
      if (peek() == '}') ++at;
      else for (;;) {
        if (peek() != '"') fail("a key is expected");
        std::string key = string();
        expect(':', "':' is expected");
        if (j.find(key)) fail("a key occurs twice");
        Json member = value();
        j.members_.emplace_back(std::move(key), std::move(member));
        if (peek() == ',') { ++at; continue; }
        expect('}', "',' or '}' is expected");
        break;
      }
    } else if (c == '[') {
      ++at;
      j.kind_ = Kind::array;
      if (peek() == ']') ++at;
      else for (;;) {
        j.items_.push_back(value());
        if (peek() == ',') { ++at; continue; }
        expect(']', "',' or ']' is expected");
        break;
      }
    } else if (c == '"') {
      j.kind_ = Kind::string;
      j.text_ = string();
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      j.kind_ = Kind::number;
      j.number_ = number();
    } else if (word("true")) {
      j.kind_ = Kind::boolean;
      j.number_ = 1;
    } else if (word("false")) {
      j.kind_ = Kind::boolean;
    } else if (!word("null")) {
      fail("a value is expected");
    }
    --depth;
    return j;
  }

  unsigned hex4() {
    unsigned v = 0;
    for (int i = 0; i < 4; ++i, ++at) {
      const char c = at < text.size() ? text[at] : '\0';
      if (c >= '0' && c <= '9') v = v * 16 + static_cast<unsigned>(c - '0');
      else if (c >= 'a' && c <= 'f') v = v * 16 + static_cast<unsigned>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F') v = v * 16 + static_cast<unsigned>(c - 'A' + 10);
      else fail("four hexadecimal digits are expected");
    }
    return v;
  }
  std::string string() {
    std::string s;
    for (++at;;) {
      if (at >= text.size() || static_cast<unsigned char>(text[at]) < 0x20) fail("a text without end");
      const char c = text[at++];
      if (c == '"') return s;
      if (c != '\\') { s += c; continue; }
      const char e = at < text.size() ? text[at++] : '\0';
      switch (e) {
        case '"': case '\\': case '/': s += e; break;
        case 'b': s += '\b'; break;
        case 'f': s += '\f'; break;
        case 'n': s += '\n'; break;
        case 'r': s += '\r'; break;
        case 't': s += '\t'; break;
        case 'u': {
          unsigned u = hex4();
          if (u >= 0xD800 && u < 0xDC00) {  // a pair
            if (!word("\\u")) fail("half of a surrogate pair");
            const unsigned low = hex4();
            if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair");
            u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
          } else if (u >= 0xDC00 && u < 0xE000) {
            fail("half of a surrogate pair");
          }
          if (u < 0x80) s += static_cast<char>(u);
          else {
            if (u < 0x800) s += static_cast<char>(0xC0 | (u >> 6));
            else {
              if (u < 0x10000) s += static_cast<char>(0xE0 | (u >> 12));
              else { s += static_cast<char>(0xF0 | (u >> 18)); s += static_cast<char>(0x80 | ((u >> 12) & 63)); }
              s += static_cast<char>(0x80 | ((u >> 6) & 63));
            }
            s += static_cast<char>(0x80 | (u & 63));
          }
          break;
        }
        default: fail("an unknown escape");
      }
    }
  }

  static bool digit(char c) { return c >= '0' && c <= '9'; }
  double number() {
    const size_t begin = at;
    auto digits = [&] {
      if (at >= text.size() || !digit(text[at])) fail("a digit is expected");
      while (at < text.size() && digit(text[at])) ++at;
    };
    if (text[at] == '-') ++at;
    if (at < text.size() && text[at] == '0') ++at;
    else digits();
    if (at < text.size() && text[at] == '.') { ++at; digits(); }
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
      ++at;
      if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
      digits();
    }
    return to_double(text.substr(begin, at - begin));
  }
  static double to_double(std::string_view s);
};

// std::from_chars knows no locale (strtod would read "0,5" in some).
inline double Json::Reader::to_double(std::string_view s) {
  double v = 0;
  const auto result = std::from_chars(s.data(), s.data() + s.size(), v);
  if (result.ec != std::errc()) throw Failure(QUERN_INVALID_ARGUMENT, "a number that does not fit a double: " + std::string(s));
  return v;
}

inline Json Json::parse(std::string_view text) {
  Reader r{text};
  if (r.peek() == '\0' && r.at >= text.size()) {
    Json empty;
    empty.kind_ = Kind::object;
    return empty;
  }
  Json j = r.value();
  r.space();
  if (r.at != text.size()) r.fail("something follows the value");
  return j;
}

}  // namespace quern_sdk
