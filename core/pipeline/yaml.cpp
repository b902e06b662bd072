#include "core/pipeline/yaml.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <sstream>

namespace quern {
namespace {

// The document as written: aliases share their node.
struct YamlNode {
  enum class Kind { scalar, list, mapping } kind = Kind::scalar;
  json::value scalar;
  std::vector<std::shared_ptr<YamlNode>> items;                                                 // list
  std::vector<std::pair<std::string, std::pair<Position, std::shared_ptr<YamlNode>>>> members;  // mapping
  Position position;
  bool complete = false;
};
using NodePtr = std::shared_ptr<YamlNode>;

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A plain scalar by the core schema of YAML 1.2. from_chars knows no locale.
json::value plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  std::string_view digits = text;
  const bool negative = digits.front() == '-';
  if (digits.front() == '-' || digits.front() == '+') digits.remove_prefix(1);
  if (all_digits(digits)) {
    int64_t value = 0;
    const std::string signed_text = (negative ? "-" : "") + std::string(digits);
    const auto r = std::from_chars(signed_text.data(), signed_text.data() + signed_text.size(), value);
    if (r.ec == std::errc()) return value;
  }
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
    int64_t value = 0;
    const auto r = std::from_chars(text.data() + 2, text.data() + text.size(), value, text[1] == 'x' ? 16 : 8);
    if (r.ec == std::errc() && r.ptr == text.data() + text.size()) return value;
  }
  if (!digits.empty() && (digits.front() == '.' || (digits.front() >= '0' && digits.front() <= '9'))) {
    double value = 0;
    const auto r = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (r.ec == std::errc() && r.ptr == digits.data() + digits.size() && std::isfinite(value)) return negative ? -value : value;
  }
  return json::string(text);
}

class Builder : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& file) : file_(file) {}
  NodePtr root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto node = make(mark, anchor);
    node->scalar = nullptr;
    finish(node);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) fail(mark, "an alias can't be a key");
    const auto& node = anchors_[anchor];
    if (!node || !node->complete) fail(mark, "an alias that contains itself");
    attach(node);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& text) override {
    if (expects_key()) {
      auto& top = open_.back();
      for (const auto& [key, member] : top->members) {
        if (key == text)
          fail(mark, fmt::format("the key '{}' stands twice in one mapping; first in line {}", text, member.first.line));
      }
      top->members.push_back({text, {position(mark), nullptr}});
      return;
    }
    auto node = make(mark, anchor);
    // "?": plain, no tag. "!": quoted, or said to be text.
    if (tag == "?" || tag.empty()) node->scalar = plain_scalar(text);
    else if (tag == "!" || tag == "tag:yaml.org,2002:str") node->scalar = json::string(text);
    else fail(mark, fmt::format("the tag '{}' is not supported", tag));
    finish(node);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::mapping);
  }
  void OnMapEnd() override { close(); }

 private:
  std::string file_;
  std::vector<NodePtr> open_;
  std::map<YAML::anchor_t, NodePtr> anchors_;
  size_t count_ = 0;

  static Position position(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1, {}}; }
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) const {
    throw Error(ErrorCode::config, message).at_file(file_, mark.line + 1, mark.column + 1);
  }
  bool expects_key() const {
    return !open_.empty() && open_.back()->kind == YamlNode::Kind::mapping &&
           (open_.back()->members.empty() || open_.back()->members.back().second.second != nullptr);
  }
  NodePtr make(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (expects_key()) fail(mark, "a key must be a plain word");
    if (++count_ > yaml_node_limit) fail(mark, fmt::format("more than {} values in one configuration", yaml_node_limit));
    auto node = std::make_shared<YamlNode>();
    node->position = position(mark);
    if (anchor) anchors_[anchor] = node;
    return node;
  }
  void attach(const NodePtr& node) {
    if (open_.empty()) root = node;
    else if (open_.back()->kind == YamlNode::Kind::list) open_.back()->items.push_back(node);
    else open_.back()->members.back().second.second = node;
  }
  void finish(const NodePtr& node) {
    node->complete = true;
    attach(node);
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (tag != "?" && !tag.empty() && tag != "!") fail(mark, fmt::format("the tag '{}' is not supported", tag));
    auto node = make(mark, anchor);
    node->kind = kind;
    if (open_.size() >= static_cast<size_t>(yaml_depth_limit)) fail(mark, fmt::format("nested deeper than {} levels", yaml_depth_limit));
    open_.push_back(node);
  }
  void close() {
    const NodePtr node = open_.back();
    open_.pop_back();
    finish(node);
  }
};

// Expands aliases; `left` bounds the size of the result.
json::value expand(const YamlNode& node, const std::string& pointer, Document& document, size_t& left, int depth) {
  if (left == 0 || depth > yaml_depth_limit * 2) {
    throw Error(ErrorCode::config, fmt::format("aliases expand to more than {} values", yaml_node_limit))
        .at_file(document.file, node.position.line, node.position.column);
  }
  --left;
  document.values[pointer] = node.position;
  if (node.kind == YamlNode::Kind::list) {
    json::array list;
    for (size_t i = 0; i < node.items.size(); ++i)
      list.push_back(expand(*node.items[i], child(pointer, i), document, left, depth + 1));
    return list;
  }
  if (node.kind == YamlNode::Kind::mapping) {
    json::object object;
    for (const auto& [key, member] : node.members) {
      const std::string at = child(pointer, key);
      document.keys[at] = member.first;
      object[key] = expand(*member.second, at, document, left, depth + 1);
    }
    return object;
  }
  return node.scalar;
}

// yaml-cpp's words in plain ones, and what is usually behind them.
Error yaml_error(const YAML::Exception& e, std::string_view text, const std::string& file) {
  static const struct { const char *theirs, *ours, *hint; } words[] = {
      {"end of sequence flow not found", "a list opened with '[' is not closed before this place", "write the missing ']'"},
      {"end of map flow not found", "a mapping opened with '{' is not closed before this place", "write the missing '}' or ','"},
      {"end of map not found", "this line does not fit the mapping around it", "check its indentation and the ':' after the key"},
      {"end of sequence not found", "this line does not fit the list around it", "every element begins with '- ', all in one column"},
      {"illegal map value", "a ':' where no value can follow", "check the indentation, and quote texts that contain ': '"},
      {"illegal block entry", "a list element ('- ') where none can stand", "check the indentation"},
      {"illegal flow end", "a ']' or '}' that closes nothing", ""},
  };
  std::string message = "not valid YAML: " + e.msg, hint;
  for (const auto& w : words)
    if (e.msg == w.theirs) { message = std::string("not valid YAML: ") + w.ours; hint = w.hint; }
  // A tab in an indentation explains nearly every error near it.
  int line = 1;
  for (size_t at = 0; at < text.size() && line <= e.mark.line + 1; ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const size_t first = std::min(text.find_first_not_of(' ', at), end);
    if (first < end && text[first] == '\t' && line >= e.mark.line)
      return Error(ErrorCode::config, "not valid YAML: a tab in the indentation").at_file(file, line, static_cast<int>(first - at) + 1).hint("indent with spaces");
    at = end + 1;
  }
  return Error(ErrorCode::config, message).at_file(file, e.mark.line + 1, e.mark.column + 1).hint(hint);
}

bool plain_safe(std::string_view text) {
  if (text.empty() || text.size() > 200) return false;
  const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (!word(text[0]) && text[0] != '/' && text[0] != '.') return false;
  for (char c : text)
    if (!word(c) && !(c >= '0' && c <= '9') && c != '/' && c != '.' && c != '-' && c != '+') return false;
  static const char* const reserved[] = {"yes", "no", "on", "off", "y", "n", "true", "false", "null", "nan", "inf"};
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  for (const char* r : reserved)
    if (lower == r) return false;
  return plain_scalar(std::string(text)).is_string() && text[0] != '.' ? true : text.starts_with("./") || text.starts_with("../");
}

std::string scalar_text(const json::value& value) {
  if (value.is_string()) {
    const std::string_view text = value.get_string();
    return plain_safe(text) ? std::string(text) : json::serialize(value);
  }
  if (value.is_null()) return "null";
  return to_text(value, false);
}

bool is_plain_list(const json::value& value) {
  return value.is_array() && std::none_of(value.get_array().begin(), value.get_array().end(), [](const json::value& v) {
    return v.is_object() || v.is_array();
  });
}

// Values that stand on the line of their key.
std::string inline_text(const json::value& value) {
  if (value.is_object()) return "{}";
  if (!value.is_array()) return scalar_text(value);
  std::string out = "[";
  for (size_t i = 0; i < value.get_array().size(); ++i) out += (i ? ", " : "") + scalar_text(value.get_array()[i]);
  return out + "]";
}
bool stands_inline(const json::value& value) {
  return (!value.is_object() && !value.is_array()) || is_plain_list(value) || (value.is_object() && value.get_object().empty());
}

void emit(std::string& out, const json::value& value, size_t indent, bool first_is_placed) {
  const std::string pad(indent, ' ');
  bool placed = first_is_placed;
  const auto begin = [&] { if (!placed) out += pad; placed = false; };
  if (value.is_object()) {
    for (const auto& [key, member] : value.get_object()) {
      begin();
      out += plain_safe(std::string_view(key)) ? std::string(key) : json::serialize(json::string(key));
      out += ':';
      if (stands_inline(member)) { out += ' ' + inline_text(member) + '\n'; continue; }
      out += '\n';
      emit(out, member, indent + 2, false);
    }
  } else if (value.is_array()) {
    for (const auto& item : value.get_array()) {
      begin();
      out += "- ";
      if (stands_inline(item)) out += inline_text(item) + '\n';
      else emit(out, item, indent + 2, true);
    }
  }
}

}  // namespace

std::string child(const std::string& pointer, std::string_view key) {
  std::string out = pointer + "/";
  for (char c : key) {
    if (c == '~') out += "~0";
    else if (c == '/') out += "~1";
    else out += c;
  }
  return out;
}
std::string child(const std::string& pointer, size_t index) { return pointer + "/" + std::to_string(index); }

Position Document::position(const std::string& pointer, bool key) const {
  if (key) {
    if (auto it = keys.find(pointer); it != keys.end()) return it->second;
  }
  for (std::string p = pointer;;) {
    if (auto it = values.find(p); it != values.end()) return it->second;
    const size_t slash = p.rfind('/');
    if (slash == std::string::npos) return {};
    p.resize(slash);
  }
}

Error Document::error(const std::string& pointer, const std::string& message, bool key) const {
  const Position p = position(pointer, key);
  return Error(ErrorCode::config, message).at_file(p.source.empty() ? file : p.source, p.line, p.column);
}

Document parse_yaml(std::string_view text, const std::string& file_name) {
  if (text.find('\0') != std::string_view::npos)
    throw Error(ErrorCode::config, "is not a text file; a configuration is YAML").at_file(file_name);
  Document document;
  document.file = file_name;
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  Builder builder(file_name);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (!builder.root) throw Error(ErrorCode::config, "is empty; a configuration begins with 'quern: 1'").at_file(file_name, 1, 1);
    Builder second(file_name);
    if (parser.HandleNextDocument(second) && second.root)
      throw Error(ErrorCode::config, "a second document; a configuration has one").at_file(file_name, second.root->position.line, 1);
  } catch (const YAML::Exception& e) {
    throw yaml_error(e, text, file_name);
  }
  size_t left = yaml_node_limit;
  document.value = expand(*builder.root, "", document, left, 0);
  return document;
}

std::string to_yaml(const json::value& value) {
  if (stands_inline(value)) return inline_text(value) + "\n";
  std::string out;
  emit(out, value, 0, false);
  return out;
}

}  // namespace quern
