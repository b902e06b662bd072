#include "core/pipeline/schema_walk.hpp"

#include <fmt/format.h>

#include <cmath>

#include "core/pipeline/yaml.hpp"

namespace quern {
namespace {

std::string shown(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null: return "nothing";
    case json::kind::object: return "a mapping";
    case json::kind::array: return "a list";
    case json::kind::string: {
      std::string text(v.get_string());
      if (text.size() > 60) text = text.substr(0, 57) + "...";
      return fmt::format("'{}'", text);
    }
    case json::kind::bool_: return v.get_bool() ? "true" : "false";
    default: return "the number " + to_text(v, false);
  }
}

std::string type_word(std::string_view type) {
  if (type == "string") return "a text";
  if (type == "integer") return "a whole number";
  if (type == "number") return "a number";
  if (type == "boolean") return "true or false";
  if (type == "array") return "a list";
  if (type == "object") return "a mapping";
  return "nothing";
}

bool has_type(const json::value& v, std::string_view type) {
  if (type == "string") return v.is_string();
  if (type == "integer") return v.is_int64() || v.is_uint64();
  if (type == "number") return v.is_number();
  if (type == "boolean") return v.is_bool();
  if (type == "array") return v.is_array();
  if (type == "object") return v.is_object();
  return v.is_null();
}

std::vector<std::string> types_of(const json::object& schema) {
  std::vector<std::string> out;
  if (const auto* t = schema.if_contains("type")) {
    if (t->is_string()) out.emplace_back(t->get_string());
    else if (t->is_array()) for (const auto& e : t->get_array()) out.emplace_back(e.as_string());
  }
  return out;
}

class Walk {
 public:
  explicit Walk(const json::value& root) : root_(root) {}

  // Appends issues; returns the normalised value.
  json::value check(const json::value& schema_value, const json::value& v, const std::string& at, std::vector<SchemaIssue>& issues) {
    if (!schema_value.is_object()) return v;
    const json::object& schema = resolve(schema_value).get_object();
    for (const char* word : {"oneOf", "anyOf"}) {
      if (const auto* branches = schema.if_contains(word)) return best_branch(schema, branches->get_array(), v, at, issues);
    }
    if (const auto* condition = schema.if_contains("if")) {
      std::vector<SchemaIssue> unfit;
      check(*condition, v, at, unfit);
      const auto* branch = schema.if_contains(unfit.empty() ? "then" : "else");
      return branch ? check(*branch, v, at, issues) : v;
    }
    const auto types = types_of(schema);
    if (!types.empty()) {
      bool fits = false;
      for (const auto& t : types) fits = fits || has_type(v, t);
      if (!fits) {
        std::vector<std::string> words;
        for (const auto& t : types) words.push_back(type_word(t));
        std::string hint;
        if (v.is_string() && (types[0] == "boolean")) hint = "write true or false";
        else if (v.is_string() && (types[0] == "number" || types[0] == "integer")) {
          // Only where a number was meant: "1,5" or one in quotes.
          const auto& text = v.get_string();
          if (text.find_first_of("0123456789") != std::string::npos) hint = "numbers are written with a decimal point and without quotes";
        }
        else if (types[0] == "string" && (v.is_number() || v.is_bool())) hint = "put it in quotes if it is meant as a text";
        else if (v.is_double() && types[0] == "integer") hint = "write it without a fraction";
        issues.push_back({at, false, fmt::format("{} should be {}, not {}", place(at), list_or(words), shown(v)), hint});
        return v;
      }
    }
    if (const auto* constant = schema.if_contains("const"); constant && !equal(*constant, v))
      issues.push_back({at, false, fmt::format("{} should be {}, not {}", place(at), plain(*constant), shown(v)), ""});
    if (const auto* choices = schema.if_contains("enum")) {
      bool fits = false;
      std::vector<std::string> words;
      for (const auto& c : choices->get_array()) {
        fits = fits || equal(c, v);
        words.push_back(plain(c));
      }
      if (!fits) {
        const std::string near = v.is_string() ? did_you_mean(v.get_string(), words) : "";
        issues.push_back({at, false, fmt::format("{} can't be {}{}", place(at), shown(v), near), "legal: " + list_of(words)});
      }
    }
    if (v.is_number()) return number(schema, types, v, at, issues);
    if (v.is_string()) {
      if (const auto* least = schema.if_contains("minLength"); least && v.get_string().size() < least->to_number<size_t>())
        issues.push_back({at, false, place(at) + " must not be empty", ""});
      return v;
    }
    if (v.is_array()) return array(schema, v.get_array(), at, issues);
    if (v.is_object()) return object(schema, v.get_object(), at, issues);
    return v;
  }

 private:
  const json::value& root_;

  const json::value& resolve(const json::value& schema) const {
    const json::value* s = &schema;
    for (int i = 0; i < 16; ++i) {
      const auto* ref = s->get_object().if_contains("$ref");
      if (!ref) return *s;
      std::string pointer(ref->as_string());
      if (pointer.starts_with("#")) pointer.erase(0, 1);
      boost::system::error_code error;
      const json::value* next = root_.find_pointer(pointer, error);
      if (!next || !next->is_object()) return *s;
      s = next;
    }
    return *s;
  }

  static std::string place(const std::string& at) {
    if (at.empty()) return "the document";
    return fmt::format("'{}'", at.substr(at.rfind('/') + 1).find_first_not_of("0123456789") == std::string::npos
                                   ? at.substr(1) : at.substr(at.rfind('/') + 1));
  }
  static std::string plain(const json::value& v) { return v.is_string() ? std::string(v.get_string()) : to_text(v, false); }
  static std::string list_or(const std::vector<std::string>& words) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
    return out;
  }
  static bool equal(const json::value& a, const json::value& b) {
    if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
    return a == b;
  }

  json::value number(const json::object& schema, const std::vector<std::string>& types, const json::value& v, const std::string& at,
                     std::vector<SchemaIssue>& issues) const {
    const double x = v.to_number<double>();
    const auto limit = [&](const char* key, auto holds, const char* word) {
      if (const auto* l = schema.if_contains(key); l && !holds(x, l->to_number<double>()))
        issues.push_back({at, false, fmt::format("{} should be {} {}, not {}", place(at), word, to_text(*l, false), to_text(v, false)), ""});
    };
    limit("minimum", [](double a, double b) { return a >= b; }, "at least");
    limit("maximum", [](double a, double b) { return a <= b; }, "at most");
    limit("exclusiveMinimum", [](double a, double b) { return a > b; }, "greater than");
    limit("exclusiveMaximum", [](double a, double b) { return a < b; }, "less than");
    // `1` where a number is asked for is 1.0: one spelling for digests and plugins.
    const bool integer_too = std::find(types.begin(), types.end(), "integer") != types.end();
    if (!types.empty() && !integer_too && !v.is_double()) return x;
    return v;
  }

  json::value array(const json::object& schema, const json::array& list, const std::string& at, std::vector<SchemaIssue>& issues) {
    if (const auto* least = schema.if_contains("minItems"); least && list.size() < least->to_number<size_t>())
      issues.push_back({at, false, fmt::format("{} should have at least {} element(s)", place(at), to_text(*least, false)), ""});
    if (const auto* most = schema.if_contains("maxItems"); most && list.size() > most->to_number<size_t>())
      issues.push_back({at, false, fmt::format("{} should have at most {} element(s)", place(at), to_text(*most, false)), ""});
    const auto* items = schema.if_contains("items");
    if (!items) return list;
    json::array out;
    for (size_t i = 0; i < list.size(); ++i) out.push_back(check(*items, list[i], child(at, i), issues));
    return out;
  }

  json::value object(const json::object& schema, const json::object& object, const std::string& at, std::vector<SchemaIssue>& issues) {
    const json::object none;
    const auto* properties_value = schema.if_contains("properties");
    const json::object& properties = properties_value ? properties_value->get_object() : none;
    const auto* others = schema.if_contains("additionalProperties");
    const bool closed = others && others->is_bool() && !others->get_bool();
    json::object out;
    for (const auto& [key, property] : properties) {
      if (const auto* member = object.if_contains(key)) {
        out[key] = check(property, *member, child(at, key), issues);
      } else if (property.is_object()) {
        if (const auto* fallback = property.get_object().if_contains("default"); fallback)
          out[key] = check(property, *fallback, child(at, key), issues);
      }
    }
    for (const auto& [key, member] : object) {
      if (properties.contains(key)) continue;
      if (closed) {
        std::vector<std::string> legal;
        for (const auto& [name, ignored] : properties) legal.emplace_back(name);
        issues.push_back({child(at, key), true, fmt::format("unknown key '{}'{}", std::string_view(key), did_you_mean(key, legal)),
                          legal.empty() ? "nothing can be set here" : "legal here: " + list_of(legal)});
        continue;
      }
      out[key] = others && others->is_object() ? check(*others, member, child(at, key), issues) : member;
    }
    if (const auto* required = schema.if_contains("required")) {
      for (const auto& name : required->get_array()) {
        if (!object.contains(name.as_string()))
          issues.push_back({at, false, fmt::format("the key '{}' is missing", std::string_view(name.as_string())), ""});
      }
    }
    return out;
  }

  // The first branch without an issue; else the issues of the branch that was meant: right type, and a fitting `const`.
  json::value best_branch(const json::object& schema, const json::array& branches, const json::value& v, const std::string& at,
                          std::vector<SchemaIssue>& issues) {
    std::vector<SchemaIssue> best;
    double best_score = -1;
    std::vector<std::string> words;
    for (const auto& branch : branches) {
      std::vector<SchemaIssue> found;
      json::value out = check(branch, v, at, found);
      if (found.empty()) return out;
      const json::object& resolved = resolve(branch).get_object();
      const auto types = types_of(resolved);
      bool fits = types.empty();
      for (const auto& t : types) { fits = fits || has_type(v, t); words.push_back(type_word(t)); }
      double score = fits ? 10 : 0;
      if (fits && v.is_object()) {
        if (const auto* properties = resolved.if_contains("properties")) {
          for (const auto& [key, member] : v.get_object())
            score += properties->get_object().contains(key) ? 1 : 0;
        }
      }
      score -= 0.01 * static_cast<double>(found.size());
      if (score > best_score) { best_score = score; best = std::move(found); }
    }
    if (best_score < 9 && !words.empty()) {  // no branch has the type
      std::vector<std::string> distinct;
      for (const auto& w : words) if (std::find(distinct.begin(), distinct.end(), w) == distinct.end()) distinct.push_back(w);
      issues.push_back({at, false, fmt::format("{} should be {}, not {}", place(at), list_or(distinct), shown(v)), ""});
    } else {
      issues.insert(issues.end(), best.begin(), best.end());
    }
    (void)schema;
    return v;
  }
};

}  // namespace

SchemaResult apply_schema(const json::value& schema, const json::value& value, const std::string& pointer) {
  SchemaResult result;
  Walk walk(schema);
  result.value = walk.check(schema, value, pointer, result.issues);
  return result;
}

}  // namespace quern
