#include "core/rules/schema.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <memory>
#include <new>
#include <set>
#include <string>

#define VALIJSON_USE_EXCEPTIONS 1
// valijson asks for memory with `new (std::nothrow)` and does not look whether it got any. In the two headers where it does so, the
// word stands for the kind that throws.
namespace std { inline constexpr struct quern_throwing_t {} quern_throwing; }
void* operator new(std::size_t size, const std::quern_throwing_t&) { return ::operator new(size); }
#define nothrow quern_throwing
#include <valijson/internal/custom_allocator.hpp>
#include <valijson/subschema.hpp>
#undef nothrow

#include <valijson/adapters/boost_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace quern {
namespace {

std::string kind_word(const json::value& v) {
  switch (v.kind()) {
    case json::kind::object: return "object";
    case json::kind::array: return "array";
    case json::kind::string: return "string";
    case json::kind::bool_: return "boolean";
    case json::kind::null: return "null";
    case json::kind::double_: return "number";
    default: return "integer";
  }
}

std::string with_article(const std::string& word) {
  if (word == "null") return word;
  return (word.find_first_of("aeiou") == 0 ? "an " : "a ") + word;
}

bool has_type(const json::value& v, std::string_view type) {
  const std::string kind = kind_word(v);
  return kind == type || (type == "number" && kind == "integer");
}

std::string short_text(const json::value& v) {
  std::string text = to_text(v, false);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

// One walk over a value with its schema. Failures are values, not exceptions: branches of anyOf are tried.
class Walk {
 public:
  explicit Walk(const json::value& root) : root_(root) {}

  std::optional<JsonProblem> check(const json::value& v, const json::value& schema_value, int depth = 0) {
    if (!schema_value.is_object() || depth > 200) return {};
    const json::object& schema = schema_value.get_object();
    if (const auto* ref = schema.if_contains("$ref")) return check(v, resolve(ref->as_string()), depth + 1);
    for (const char* word : {"anyOf", "oneOf"}) {
      if (const auto* branches = schema.if_contains(word)) {
        if (auto p = check_branches(v, branches->as_array(), depth)) return p;
      }
    }
    if (auto p = check_type(v, schema)) return p;
    if (auto p = check_words(v, schema)) return p;
    if (auto p = check_bounds(v, schema)) return p;
    if (v.is_object()) return check_object(v.get_object(), schema, depth);
    if (v.is_array()) {
      if (const auto* items = schema.if_contains("items")) {
        for (size_t i = 0; i < v.get_array().size(); ++i) {
          path_.push_back(std::to_string(i));
          auto p = check(v.get_array()[i], *items, depth + 1);
          path_.pop_back();
          if (p) return p;
        }
      }
    }
    return {};
  }

 private:
  const json::value& resolve(std::string_view ref) const {
    if (ref.empty() || ref[0] != '#') throw Error(ErrorCode::internal, fmt::format("schema: '{}' is not local", ref));
    boost::system::error_code error;
    const auto* found = root_.find_pointer(ref.substr(1), error);
    if (!found) throw Error(ErrorCode::internal, fmt::format("schema: '{}' is not there", ref));
    return *found;
  }

  const json::object* object_of(const json::value& schema) const {
    const json::value* s = &schema;
    for (int i = 0; i < 20 && s->is_object(); ++i) {
      const auto* ref = s->get_object().if_contains("$ref");
      if (!ref) return &s->get_object();
      s = &resolve(ref->as_string());
    }
    return nullptr;
  }

  JsonProblem problem(std::string message) const {
    JsonProblem p;
    p.path = path_;
    p.message = std::move(message);
    return p;
  }

  static std::vector<std::string> types_of(const json::object& schema) {
    std::vector<std::string> out;
    if (const auto* type = schema.if_contains("type")) {
      if (type->is_string()) out.emplace_back(type->as_string());
      else for (const auto& t : type->as_array()) out.emplace_back(t.as_string());
    }
    return out;
  }

  static bool admits(const json::value& v, const json::object& schema) {
    const auto types = types_of(schema);
    return types.empty() || std::any_of(types.begin(), types.end(), [&](const auto& t) { return has_type(v, t); });
  }

  static std::string wants(const std::vector<std::string>& types) {
    std::string out;
    for (size_t i = 0; i < types.size(); ++i) out += (i ? " or " : "") + with_article(types[i]);
    return out;
  }

  std::optional<JsonProblem> check_branches(const json::value& v, const json::array& branches, int depth) {
    std::vector<std::string> types, words;
    std::optional<JsonProblem> nearest;
    size_t fit = 0;
    for (const auto& branch : branches) {
      const json::object* schema = object_of(branch);
      if (!schema) continue;
      for (auto& t : types_of(*schema)) {
        if (std::find(types.begin(), types.end(), t) == types.end()) types.push_back(t);
      }
      if (!admits(v, *schema)) continue;
      ++fit;
      auto p = check(v, branch, depth + 1);
      if (!p) return {};
      if (const auto* list = schema->if_contains("enum"); list && v.is_string()) {
        for (const auto& w : list->as_array()) if (w.is_string()) words.emplace_back(w.as_string());
      }
      if (!nearest || p->path.size() > nearest->path.size()) nearest = std::move(p);
    }
    if (fit == 0) return problem(fmt::format("is {}; it has to be {}", with_article(kind_word(v)), wants(types)));
    if (!words.empty()) {
      return problem(fmt::format("'{}' is not known here{}; legal: {}", std::string_view(v.as_string()),
                                 did_you_mean(v.as_string(), words), list_of(words)));
    }
    return nearest;
  }

  std::optional<JsonProblem> check_type(const json::value& v, const json::object& schema) {
    if (admits(v, schema)) return {};
    return problem(fmt::format("is {}; it has to be {}", with_article(kind_word(v)), wants(types_of(schema))));
  }

  std::optional<JsonProblem> check_words(const json::value& v, const json::object& schema) {
    if (const auto* constant = schema.if_contains("const"); constant && *constant != v) {
      return problem(fmt::format("is {}; it has to be {}", short_text(v), short_text(*constant)));
    }
    const auto* list = schema.if_contains("enum");
    if (!list) return {};
    std::vector<std::string> words;
    for (const auto& w : list->as_array()) {
      if (w == v) return {};
      words.emplace_back(w.is_string() ? std::string(w.as_string()) : short_text(w));
    }
    const std::string text = v.is_string() ? std::string(v.as_string()) : short_text(v);
    return problem(fmt::format("'{}' is not known here{}; legal: {}", text, did_you_mean(text, words), list_of(words)));
  }

  std::optional<JsonProblem> check_bounds(const json::value& v, const json::object& schema) {
    const auto bound = [&](const char* key) -> std::optional<double> {
      const auto* b = schema.if_contains(key);
      if (!b) return {};
      return b->to_number<double>();
    };
    if (v.is_number()) {
      const double x = v.to_number<double>();
      if (auto b = bound("minimum"); b && x < *b) return problem(fmt::format("is {}; the least is {}", short_text(v), *b));
      if (auto b = bound("maximum"); b && x > *b) return problem(fmt::format("is {}; the most is {}", short_text(v), *b));
      if (auto b = bound("exclusiveMinimum"); b && x <= *b) return problem(fmt::format("is {}; it has to be above {}", short_text(v), *b));
      if (auto b = bound("exclusiveMaximum"); b && x >= *b) return problem(fmt::format("is {}; it has to be below {}", short_text(v), *b));
    }
    if (v.is_string()) {
      if (auto b = bound("minLength"); b && static_cast<double>(v.get_string().size()) < *b) return problem("is an empty or too short string");
    }
    if (v.is_array()) {
      const auto n = static_cast<double>(v.get_array().size());
      if (auto b = bound("minItems"); b && n < *b) return problem(fmt::format("has {} elements; the least is {}", n, *b));
      if (auto b = bound("maxItems"); b && n > *b) return problem(fmt::format("has {} elements; the most is {}", n, *b));
    }
    return {};
  }

  std::optional<JsonProblem> check_object(const json::object& object, const json::object& schema, int depth) {
    const auto* properties_value = schema.if_contains("properties");
    const json::object* properties = properties_value ? &properties_value->as_object() : nullptr;
    const auto* additional = schema.if_contains("additionalProperties");
    for (const auto& [key, member] : object) {
      const json::value* sub = properties ? properties->if_contains(key) : nullptr;
      if (!sub) sub = pattern_schema(schema, key);
      if (!sub && additional && additional->is_bool() && !additional->get_bool()) return unknown_key(key, object, properties);
      if (!sub && additional && additional->is_object()) sub = additional;
      if (!sub) continue;
      path_.emplace_back(key);
      auto p = check(member, *sub, depth + 1);
      path_.pop_back();
      if (p) return p;
    }
    if (const auto* required = schema.if_contains("required")) {
      for (const auto& key : required->as_array()) {
        if (object.contains(key.as_string())) continue;
        auto p = problem(fmt::format("the key '{}' is missing", std::string_view(key.as_string())));
        p.key = std::string(key.as_string());
        return p;
      }
    }
    const auto count = [&](const char* key) { const auto* b = schema.if_contains(key); return b ? b->to_number<int64_t>() : -1; };
    const auto n = static_cast<int64_t>(object.size());
    const std::string legal = properties ? "; legal keys: " + list_of(legal_keys(*properties)) : "";
    if (const int64_t b = count("minProperties"); b >= 0 && n < b) return problem(fmt::format("has {} keys; the least is {}{}", n, b, legal));
    if (const int64_t b = count("maxProperties"); b >= 0 && n > b) return problem(fmt::format("has {} keys; the most is {}{}", n, b, legal));
    return {};
  }

  static const json::value* pattern_schema(const json::object& schema, std::string_view key) {
    const auto* patterns = schema.if_contains("patternProperties");
    if (!patterns) return nullptr;
    for (const auto& [pattern, sub] : patterns->as_object()) {
      std::string_view text = pattern;
      if (!text.empty() && text[0] == '^' && key.substr(0, text.size() - 1) == text.substr(1)) return &sub;
    }
    return nullptr;
  }

  static std::vector<std::string> legal_keys(const json::object& properties) {
    std::vector<std::string> keys;
    for (const auto& [key, sub] : properties) { (void)sub; if (key != "$schema") keys.emplace_back(key); }
    return keys;
  }

  JsonProblem unknown_key(std::string_view key, const json::object& object, const json::object* properties) const {
    std::vector<std::string> legal, free;
    if (properties) legal = legal_keys(*properties);
    // A key that stands there already is no suggestion.
    for (const auto& k : legal) if (!object.contains(k)) free.push_back(k);
    std::string hint = did_you_mean(key, free);
    if (hint.empty() && !legal.empty()) hint = "; legal keys: " + list_of(legal);
    JsonProblem p = problem(fmt::format("unknown key '{}'{}", key, hint));
    p.key = std::string(key);
    p.unknown_key = true;
    return p;
  }

  const json::value& root_;
  std::vector<std::string> path_;
};

// valijson writes a context as "<root>", "[ops]", "[0]".
std::vector<std::string> steps_of(const std::vector<std::string>& context) {
  std::vector<std::string> steps;
  for (const auto& c : context) {
    if (c.size() >= 2 && c.front() == '[' && c.back() == ']') steps.push_back(c.substr(1, c.size() - 2));
  }
  return steps;
}

}  // namespace

std::optional<JsonProblem> find_problem(const json::value& value, std::string_view schema_text) {
  const json::value schema_json = parse_json(schema_text, "schema");
  if (auto p = Walk(schema_json).check(value, schema_json)) return p;
  try {
    valijson::Schema schema;
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(valijson::adapters::BoostJsonAdapter(schema_json), schema);
    valijson::Validator validator(valijson::Validator::kStrongTypes);
    valijson::ValidationResults results;
    if (validator.validate(schema, valijson::adapters::BoostJsonAdapter(value), &results)) return {};
    JsonProblem best;
    best.message = "does not fit the schema";
    bool first = true;
    for (const auto& e : results) {  // the deepest is the most telling
      auto steps = steps_of(e.context);
      if (!first && steps.size() <= best.path.size()) continue;
      first = false;
      best.path = std::move(steps);
      best.message = e.description;
    }
    return best;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw Error(ErrorCode::internal, fmt::format("the schema can't be used: {}", e.what()));
  }
}

void validate_json(const json::value& value, std::string_view schema_text, const std::string& source, ErrorCode code) {
  if (auto p = find_problem(value, schema_text)) {
    throw Error(code, fmt::format("{}: {}", json_path(p->path), p->message)).at_file(source);
  }
}

std::string json_path(const std::vector<std::string>& steps) {
  std::string out = "$";
  for (const auto& s : steps) {
    const bool index = !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
    out += index ? "[" + s + "]" : "." + s;
  }
  return out;
}

json::value without_x_keys(const json::value& value) {
  if (value.is_object()) {
    json::object out;
    for (const auto& [key, member] : value.get_object()) {
      if (!key.starts_with("x-")) out.emplace(key, without_x_keys(member));
    }
    return out;
  }
  if (value.is_array()) {
    json::array out;
    for (const auto& e : value.get_array()) out.push_back(without_x_keys(e));
    return out;
  }
  return value;
}

json::value with_sorted_keys(const json::value& value) {
  if (value.is_object()) {
    std::vector<std::pair<std::string, const json::value*>> members;
    for (const auto& [key, member] : value.get_object()) members.emplace_back(std::string(key), &member);
    std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    json::object out;
    for (const auto& [key, member] : members) out.emplace(key, with_sorted_keys(*member));
    return out;
  }
  if (value.is_array()) {
    json::array out;
    for (const auto& e : value.get_array()) out.push_back(with_sorted_keys(e));
    return out;
  }
  return value;
}

void merge_patch(json::value& target, const json::value& patch) {
  if (!patch.is_object()) { target = patch; return; }
  if (!target.is_object()) target = json::object();
  for (const auto& [key, member] : patch.get_object()) {
    if (member.is_null()) target.get_object().erase(key);
    else merge_patch(target.get_object()[key], member);
  }
}

}  // namespace quern
