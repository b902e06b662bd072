#include "core/graph/einsum.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "core/base/error.hpp"

namespace quern {
namespace {

constexpr char dots = '.';

// "a...b" as letters with one dot for the ellipsis.
std::string letters_of(const std::string& equation, const std::string& term) {
  std::string out;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term.compare(i, 3, "...") == 0 && out.find(dots) == std::string::npos) {
      out += dots;
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(term[i]))) {
      out += term[i];
    } else {
      throw Error(ErrorCode::model, fmt::format("equation '{}': '{}' is no letter", equation, term[i])).hint("terms are letters and one '...', as in \"...ij,jk->...ik\"");
    }
  }
  return out;
}

}  // namespace

Einsum parse_einsum(const std::string& equation, std::span<const int64_t> ranks) {
  std::string text;
  for (char c : equation)
    if (c != ' ') text += c;
  const size_t arrow = text.find("->");
  std::vector<std::string> terms(1);
  for (char c : text.substr(0, arrow)) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  if (terms.size() != ranks.size())
    throw Error(ErrorCode::model, fmt::format("equation '{}' is for {} inputs, not {}", equation, terms.size(), ranks.size()));
  Einsum e;
  std::map<char, int> letter;
  std::map<char, int> uses;
  const auto label = [&](char c) {
    const auto [it, fresh] = letter.emplace(c, e.labels);
    if (fresh) { ++e.labels; e.names.emplace_back(1, c); }
    return it->second;
  };
  int64_t hidden_most = 0;
  std::vector<std::string> read;
  bool has_dots = false;
  for (size_t i = 0; i < terms.size(); ++i) {
    const std::string s = read.emplace_back(letters_of(equation, terms[i]));
    const bool open = s.find(dots) != std::string::npos;
    const int64_t named = static_cast<int64_t>(s.size()) - open;
    if (open ? ranks[i] < named : ranks[i] != named)
      throw Error(ErrorCode::model, fmt::format("equation '{}' does not fit input {} of rank {}", equation, i + 1, ranks[i]));
    if (open) hidden_most = std::max(hidden_most, ranks[i] - named);
    has_dots = has_dots || open;
  }
  std::vector<int> hidden;  // labels of the ellipsis, from the right
  for (int64_t k = 0; k < hidden_most; ++k) {
    hidden.push_back(e.labels++);
    e.names.push_back(fmt::format("...{}", k));
  }
  const auto expand = [&](const std::string& s, int64_t hidden_count) {
    std::vector<int> out;
    for (char c : s) {
      if (c != dots) { out.push_back(label(c)); continue; }
      for (int64_t k = hidden_count; k-- > 0;) out.push_back(hidden[static_cast<size_t>(k)]);
    }
    return out;
  };
  for (size_t i = 0; i < read.size(); ++i) {
    const bool open = read[i].find(dots) != std::string::npos;
    e.terms.push_back(expand(read[i], open ? ranks[i] - static_cast<int64_t>(read[i].size()) + 1 : 0));
    for (char c : read[i])
      if (c != dots) ++uses[c];
  }
  std::string result;
  if (arrow != std::string::npos) {
    result = letters_of(equation, text.substr(arrow + 2));
  } else {
    if (has_dots) result += dots;
    for (const auto& [c, n] : uses)
      if (n == 1) result += c;
  }
  for (char c : result) {
    if (c != dots && !uses.count(c)) throw Error(ErrorCode::model, fmt::format("equation '{}': '{}' is in no input", equation, c));
    if (std::count(result.begin(), result.end(), c) > 1)
      throw Error(ErrorCode::model, fmt::format("equation '{}': '{}' is twice in the result", equation, c == dots ? std::string("...") : std::string(1, c)));
  }
  e.output = expand(result, hidden_most);
  return e;
}

}  // namespace quern
