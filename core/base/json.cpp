#include "core/base/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/base/error.hpp"

namespace quern {
namespace {

std::pair<int, int> line_and_column(std::string_view text, size_t offset) {
  offset = std::min(offset, text.size());
  int line = 1, column = 1;
  for (size_t i = 0; i < offset; ++i) {
    if (text[i] == '\n') { ++line; column = 1; } else ++column;
  }
  return {line, column};
}

// Finds a key written twice in one object. A scan of its own, since the parser keeps the last silently; run on text
// that has parsed, so it need not be strict.
void refuse_duplicate_keys(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> open;
  size_t i = 0;
  auto skip_blank = [&](size_t p) {
    for (;;) {
      while (p < text.size() && (text[p] == ' ' || text[p] == '\n' || text[p] == '\r' || text[p] == '\t')) ++p;
      if (p + 1 < text.size() && text[p] == '/' && text[p + 1] == '/') {
        while (p < text.size() && text[p] != '\n') ++p;
      } else if (p + 1 < text.size() && text[p] == '/' && text[p + 1] == '*') {
        const size_t end = text.find("*/", p + 2);
        p = end == std::string_view::npos ? text.size() : end + 2;
      } else {
        return p;
      }
    }
  };
  while (i < text.size()) {
    const size_t p = skip_blank(i);
    if (p >= text.size()) return;
    const char c = text[p];
    i = p + 1;
    if (c == '{') open.emplace_back();
    else if (c == '}') { if (!open.empty()) open.pop_back(); }
    else if (c == '"') {
      size_t end = p + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      if (end >= text.size()) return;
      const size_t after = skip_blank(end + 1);
      if (after < text.size() && text[after] == ':' && !open.empty()) {
        std::string key(text.substr(p + 1, end - p - 1));
        if (!open.back().insert(key).second) {
          const auto [line, column] = line_and_column(text, p);
          throw Error(ErrorCode::config, fmt::format("the key '{}' stands twice in one object", key)).at_file(file, line, column);
        }
      }
      i = end + 1;
    }
  }
}

void append_number(std::string& out, double value) {
  char buffer[40];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string_view text(buffer, static_cast<size_t>(r.ptr - buffer));
  out += text;
  if (text.find_first_of(".en") == std::string_view::npos) out += ".0";
}

void append(std::string& out, const json::value& v, int depth, bool indent) {
  const auto newline = [&](int d) {
    if (!indent) return;
    out += '\n';
    out.append(static_cast<size_t>(d) * 2, ' ');
  };
  switch (v.kind()) {
    case json::kind::object: {
      const auto& o = v.get_object();
      if (o.empty()) { out += "{}"; return; }
      out += '{';
      bool first = true;
      for (const auto& [key, member] : o) {
        if (!first) out += ',';
        first = false;
        newline(depth + 1);
        out += json::serialize(json::string(key));
        out += indent ? ": " : ":";
        append(out, member, depth + 1, indent);
      }
      newline(depth);
      out += '}';
      return;
    }
    case json::kind::array: {
      const auto& a = v.get_array();
      // Arrays of numbers and short words stay on one line: they are shapes, scales, names.
      const bool flat = std::none_of(a.begin(), a.end(), [](const json::value& e) { return e.is_object() || e.is_array(); });
      out += '[';
      for (size_t i = 0; i < a.size(); ++i) {
        if (i) out += flat && indent ? ", " : ",";
        if (!flat) newline(depth + 1);
        append(out, a[i], depth + 1, indent);
      }
      if (!flat) newline(depth);
      out += ']';
      return;
    }
    case json::kind::double_: append_number(out, v.get_double()); return;
    default: out += json::serialize(v);
  }
}

size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

}  // namespace

json::value parse_json(std::string_view text, const std::string& file_name, bool relaxed) {
  json::parse_options options;
  options.allow_comments = relaxed;
  options.allow_trailing_commas = relaxed;
  options.max_depth = 64;
  json::stream_parser parser({}, options);
  boost::system::error_code error;
  size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error) {
    // What follows the value may only be blanks (or comments, which the parser has eaten).
    used = std::min(text.find_first_not_of(" \t\r\n", used), text.size());
    if (used < text.size() || (parser.finish(error), error)) {
      if (!error) error = make_error_code(json::error::extra_data);
    }
  }
  if (error) {
    const auto [line, column] = line_and_column(text, used);
    throw Error(ErrorCode::config, fmt::format("not valid JSON: {}", error.message())).at_file(file_name, line, column);
  }
  refuse_duplicate_keys(text, file_name);
  return parser.release();
}

std::string to_text(const json::value& value, bool indent) {
  std::string out;
  append(out, value, 0, indent);
  if (indent) out += '\n';
  return out;
}

double json_number(float value) {
  char buffer[40];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, value);
  double d = 0;
  std::from_chars(buffer, r.ptr, d);
  return d;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& choices) {
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& c : choices) {
    const size_t d = distance(word, c);
    if (d < best_distance) { best_distance = d; best = &c; }
  }
  return best ? fmt::format(" (did you mean '{}'?)", *best) : "";
}

std::string list_of(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  return out;
}

}  // namespace quern
