#include "core/rules/contract_json.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "core/base/error.hpp"
#include "core/rules/operators.hpp"

namespace quern {
namespace {

// What a stage does to the type of the value, and what it takes.
struct StageInfo {
  const char* name;
  StageKind kind;
  int operands;                      // beside options
  enum { integer, real, any, open } in, out;  // out: `any` as it came in, `open` as the unit's table says
};
constexpr std::array<StageInfo, 15> stage_infos = {{
    {"add", StageKind::add, 1, StageInfo::integer, StageInfo::integer},
    {"mul", StageKind::mul, 1, StageInfo::integer, StageInfo::integer},
    {"shl_sat", StageKind::shl_sat, 1, StageInfo::integer, StageInfo::integer},
    {"shr", StageKind::shr, 1, StageInfo::integer, StageInfo::integer},
    {"clamp", StageKind::clamp, 2, StageInfo::any, StageInfo::any},
    {"i2f32", StageKind::i2f32, 0, StageInfo::integer, StageInfo::real},
    {"i2f16", StageKind::i2f16, 0, StageInfo::integer, StageInfo::real},
    {"f32_f16", StageKind::f32_f16, 0, StageInfo::real, StageInfo::real},
    {"fadd32", StageKind::fadd32, 1, StageInfo::real, StageInfo::real},
    {"fmul32", StageKind::fmul32, 1, StageInfo::real, StageInfo::real},
    {"ffma32", StageKind::ffma32, 2, StageInfo::real, StageInfo::real},
    {"fdiv32", StageKind::fdiv32, 1, StageInfo::real, StageInfo::real},
    {"f2i", StageKind::f2i, 2, StageInfo::real, StageInfo::integer},
    {"pwl", StageKind::pwl, 1, StageInfo::integer, StageInfo::integer},
    {"lut", StageKind::lut, 1, StageInfo::integer, StageInfo::open},
}};

const StageInfo& info_of(StageKind kind) {
  for (const auto& i : stage_infos) if (i.kind == kind) return i;
  return stage_infos[0];
}

std::string_view word_of(Overflow o) {
  return o == Overflow::wrap ? "wrap" : o == Overflow::saturate ? "saturate" : "must_not";
}
constexpr std::array<const char*, 7> combine_words = {"add", "sub", "mul", "max", "min", "first", "div"};

class Reader {
 public:
  Reader(const std::string& id, const std::string& where) : id_(id), where_(where) {}

  Contract read(const json::value& value) {
    Contract c;
    c.id = id_;
    const json::object& o = object(value, "the contract");
    known_keys(o, {"form", "acc", "operands", "combine", "post", "exact", "max_error_lsb"});
    c.form = form(o);
    c.combine = c.form == KernelForm::dot ? Combine::mul : c.form == KernelForm::elementwise2 ? Combine::add : Combine::first;
    if (const auto* acc = o.if_contains("acc")) read_acc(*acc, c.acc);
    if (const auto* operands = o.if_contains("operands")) {
      for (const auto& [role, stages] : object(*operands, "operands")) {
        OperandRule rule;
        rule.role = std::string(role);
        rule.pre = read_stages(stages, "operands." + rule.role, Type::unknown, rule.role);
        c.operands.push_back(std::move(rule));
      }
    }
    if (const auto* combine = o.if_contains("combine")) c.combine = read_combine(*combine);
    else if (c.form == KernelForm::elementwise2) fail("combine is missing: an elementwise2 contract has to say how a and b meet");
    if (const auto* post = o.if_contains("post")) c.post = read_stages(*post, "post", Type::unknown, "");
    if (const auto* exact = o.if_contains("exact")) c.exact = boolean(*exact, "exact");
    if (const auto* error = o.if_contains("max_error_lsb")) c.max_error_lsb = number(*error, "max_error_lsb");
    if (c.exact && c.max_error_lsb != 0) fail("exact is true, but max_error_lsb is not 0");
    check(c);
    return c;
  }

 private:
  enum class Type { unknown, integer, real };

  [[noreturn]] void fail(const std::string& text) const {
    throw Error(ErrorCode::plugin, fmt::format("{}: contract '{}': {}", where_, id_, text));
  }
  [[noreturn]] void fail_stage(const std::string& text) const { fail(fmt::format("{}: {}", stage_, text)); }

  const json::object& object(const json::value& v, const std::string& what) const {
    if (!v.is_object()) fail(what + " has to be an object");
    return v.get_object();
  }
  bool boolean(const json::value& v, const std::string& what) const {
    if (!v.is_bool()) fail(what + " has to be true or false");
    return v.get_bool();
  }
  double number(const json::value& v, const std::string& what) const {
    if (!v.is_number()) fail(what + " has to be a number");
    return v.to_number<double>();
  }
  int64_t integer(const json::value& v, const std::string& what, int64_t low, int64_t high) const {
    if (!v.is_int64() || v.get_int64() < low || v.get_int64() > high) {
      fail(fmt::format("{} has to be an integer from {} to {}", what, low, high));
    }
    return v.get_int64();
  }
  std::string word(const json::value& v, const std::string& what) const {
    if (!v.is_string()) fail(what + " has to be a word");
    return std::string(v.get_string());
  }
  std::string choice(const json::value& v, const std::string& what, const std::vector<std::string>& legal) const {
    const std::string w = word(v, what);
    for (const auto& l : legal) if (l == w) return w;
    fail(fmt::format("{}: '{}' is not known here{}; legal: {}", what, w, did_you_mean(w, legal), list_of(legal)));
  }
  void known_keys(const json::object& o, const std::vector<std::string>& legal) const {
    for (const auto& [key, v] : o) {
      (void)v;
      if (key.starts_with("x-")) continue;
      bool known = false;
      for (const auto& l : legal) known = known || key == l;
      if (!known) fail(fmt::format("unknown key '{}'{}", std::string_view(key), did_you_mean(key, legal)));
    }
  }

  KernelForm form(const json::object& o) const {
    const auto* f = o.if_contains("form");
    if (!f) fail("the key 'form' is missing");
    std::vector<std::string> words;
    for (int i = 0; i <= static_cast<int>(KernelForm::table); ++i) words.emplace_back(name_of(static_cast<KernelForm>(i)));
    const std::string w = choice(*f, "form", words);
    for (size_t i = 0; i < words.size(); ++i) if (words[i] == w) return static_cast<KernelForm>(i);
    return KernelForm::dot;
  }

  Combine read_combine(const json::value& v) const {
    const std::string w = choice(v, "combine", {combine_words.begin(), combine_words.end()});
    for (size_t i = 0; i < combine_words.size(); ++i) if (w == combine_words[i]) return static_cast<Combine>(i);
    return Combine::add;
  }

  void read_acc(const json::value& value, Accumulator& acc) const {
    const auto& o = object(value, "acc");
    known_keys(o, {"bits", "signed", "overflow", "order", "saturate_every", "init", "padding"});
    if (const auto* v = o.if_contains("bits")) acc.bits = static_cast<int>(integer(*v, "acc.bits", 8, 64));
    if (const auto* v = o.if_contains("signed")) acc.is_signed = boolean(*v, "acc.signed");
    if (const auto* v = o.if_contains("overflow")) {
      const std::string w = choice(*v, "acc.overflow", {"wrap", "saturate", "must_not"});
      acc.overflow = w == "wrap" ? Overflow::wrap : w == "saturate" ? Overflow::saturate : Overflow::must_not;
    }
    if (const auto* v = o.if_contains("order")) acc.ordered = choice(*v, "acc.order", {"free", "ordered"}) == "ordered";
    if (const auto* v = o.if_contains("saturate_every")) acc.saturate_every = integer(*v, "acc.saturate_every", 0, int64_t{1} << 40);
    if (const auto* v = o.if_contains("init")) acc.init = word(*v, "acc.init");
    if (const auto* v = o.if_contains("padding")) acc.pad_with_zero_point = choice(*v, "acc.padding", {"zero_point", "zero"}) == "zero_point";
    if (acc.saturate_every > 0 && acc.overflow != Overflow::saturate) fail("acc.saturate_every wants acc.overflow to be saturate");
    if (acc.saturate_every > 0 && !acc.ordered) fail("acc.saturate_every wants acc.order to be ordered: what saturates depends on the order");
  }

  StageOperand operand(const json::value& v, const StageInfo& info) const {
    StageOperand out;
    if (v.is_int64()) {
      out.integer = v.get_int64();
      out.real = static_cast<float>(out.integer);
      // A float stage takes 1 for 1.0; clamp works on both and keeps what was written.
      out.kind = info.in == StageInfo::real && info.kind != StageKind::f2i ? StageOperand::Kind::real : StageOperand::Kind::integer;
      if (out.kind == StageOperand::Kind::real) out.integer = 0;
      return out;
    }
    if (v.is_number()) {
      const double d = v.to_number<double>();
      if (info.in == StageInfo::integer || info.kind == StageKind::f2i) fail_stage("wants an integer, not " + to_text(v, false));
      out.kind = StageOperand::Kind::real;
      out.real = static_cast<float>(d);
      if (!std::isfinite(out.real)) fail_stage("a number that no 32-bit float holds: " + to_text(v, false));
      return out;
    }
    if (!v.is_string()) fail_stage("an operand is a number or a word, not " + to_text(v, false));
    std::string text(v.get_string());
    if (text == "#window") { out.kind = StageOperand::Kind::window_count; return out; }
    if (!text.empty() && text[0] == '#') fail_stage(fmt::format("'{}' is not known; there is only #window", text));
    if (!text.empty() && text[0] == '-') { out.negate = true; text.erase(0, 1); }
    out.kind = StageOperand::Kind::table;
    if (!text.empty() && text[0] == '@') { out.kind = StageOperand::Kind::tensor; text.erase(0, 1); }
    if (text.empty()) fail_stage("an operand's name is empty");
    for (const char c : text) {
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.' && c != '*') {
        fail_stage(fmt::format("'{}' is no name: letters, digits, '_' and '.' only", text));
      }
    }
    out.name = std::move(text);
    return out;
  }

  Round round(const json::value& v) const {
    const std::vector<std::string> words = {"floor", "to_zero", "half_up", "half_down", "half_away", "half_even"};
    const std::string w = v.is_string() ? std::string(v.get_string()) : "";
    for (size_t i = 0; i < words.size(); ++i) if (words[i] == w) return static_cast<Round>(i);
    fail_stage(fmt::format("round '{}' is not known{}; legal: {}", w, did_you_mean(w, words), list_of(words)));
  }

  // Options of the object form, and the check that nothing else stands there.
  void only(const json::object& o, const std::vector<std::string>& legal) const {
    for (const auto& [key, v] : o) {
      (void)v;
      bool known = key.starts_with("x-");
      for (const auto& l : legal) known = known || key == l;
      if (!known) fail_stage(fmt::format("unknown key '{}'{}; legal keys: {}", std::string_view(key), did_you_mean(key, legal), list_of(legal)));
    }
  }
  const json::value& at(const json::object& o, const char* key) const {
    const auto* v = o.if_contains(key);
    if (!v) fail_stage(fmt::format("the key '{}' is missing", key));
    return *v;
  }

  void read_arguments(const json::value& v, const StageInfo& info, Stage& s) const {
    const auto pair_of = [&](const char* shape) -> const json::array& {
      if (!v.is_array() || v.get_array().size() != 2) fail_stage(fmt::format("wants {}", shape));
      return v.get_array();
    };
    switch (info.kind) {
      case StageKind::i2f32: case StageKind::i2f16: case StageKind::f32_f16:
        if (!v.is_object() || !v.get_object().empty()) fail_stage("takes nothing: write {}");
        return;
      case StageKind::shr: {
        if (v.is_object()) {
          only(v.get_object(), {"by", "round"});
          s.a = operand(at(v.get_object(), "by"), info);
          s.round = round(at(v.get_object(), "round"));
          return;
        }
        const auto& a = pair_of("[by, {\"round\": ...}]");
        s.a = operand(a[0], info);
        if (!a[1].is_object()) fail_stage("wants {\"round\": ...} as its second part");
        only(a[1].get_object(), {"round"});
        s.round = round(at(a[1].get_object(), "round"));
        return;
      }
      case StageKind::f2i: {
        if (!v.is_object()) fail_stage("wants {\"round\": ..., \"low\": ..., \"high\": ...}");
        only(v.get_object(), {"round", "low", "high"});
        s.round = round(at(v.get_object(), "round"));
        s.a = operand(at(v.get_object(), "low"), info);
        s.b = operand(at(v.get_object(), "high"), info);
        return;
      }
      case StageKind::clamp: {
        if (v.is_object()) {
          only(v.get_object(), {"low", "high"});
          s.a = operand(at(v.get_object(), "low"), info);
          s.b = operand(at(v.get_object(), "high"), info);
          return;
        }
        const auto& a = pair_of("[low, high]");
        s.a = operand(a[0], info);
        s.b = operand(a[1], info);
        return;
      }
      case StageKind::ffma32: {
        const auto& a = pair_of("[a, b]: the value becomes fma(a, b, value)");
        s.a = operand(a[0], info);
        s.b = operand(a[1], info);
        return;
      }
      case StageKind::lut: {
        if (v.is_array()) {
          const auto& a = pair_of("\"table\" or [\"table\", low]");
          s.a = operand(a[0], info);
          s.b = operand(a[1], info);
        } else {
          s.a = operand(v, info);
          s.b = operand(json::value(int64_t{0}), info);
        }
        if (s.a.kind != StageOperand::Kind::table) fail_stage("wants the name of a table");
        return;
      }
      case StageKind::pwl:
        s.a = operand(v, info);
        if (s.a.kind != StageOperand::Kind::table) fail_stage("wants the name of a table");
        return;
      default: s.a = operand(v, info);
    }
  }

  std::vector<Stage> read_stages(const json::value& value, const std::string& list, Type type, const std::string& self) {
    if (!value.is_array()) fail(list + " has to be an array of stages");
    std::vector<Stage> stages;
    for (size_t i = 0; i < value.get_array().size(); ++i) {
      stage_ = fmt::format("{}[{}]", list, i);
      const json::value& v = value.get_array()[i];
      if (!v.is_object()) fail_stage("a stage is an object with one stage key");
      const StageInfo* info = nullptr;
      const json::value* arguments = nullptr;
      Stage s;
      for (const auto& [key, member] : v.get_object()) {
        if (key.starts_with("x-")) continue;
        if (key == "when") {
          if (!member.is_string() || member.get_string().empty()) fail_stage("when wants the name of an operand role or a table");
          s.when = std::string(member.get_string());
          continue;
        }
        if (key == "width") {
          if (!member.is_int64() || member.get_int64() < 1 || member.get_int64() > 64) fail_stage("width is 1 to 64 bits");
          s.width = static_cast<int>(member.get_int64());
          continue;
        }
        const StageInfo* found = nullptr;
        std::vector<std::string> names = {"when", "width"};
        for (const auto& candidate : stage_infos) {
          names.emplace_back(candidate.name);
          if (key == candidate.name) found = &candidate;
        }
        if (!found) fail_stage(fmt::format("unknown stage '{}'{}", std::string_view(key), did_you_mean(key, names)));
        if (info) fail_stage(fmt::format("two stage keys, '{}' and '{}': write two stages", info->name, found->name));
        info = found;
        arguments = &member;
      }
      if (!info) fail_stage("no stage key");
      stage_ = fmt::format("{}[{}] ({})", list, i, info->name);
      s.kind = info->kind;
      read_arguments(*arguments, *info, s);
      if (!self.empty() && ((s.a.kind == StageOperand::Kind::tensor) || (s.b.kind == StageOperand::Kind::tensor))) {
        fail_stage("a pre-stage may not read another operand; combine them in post");
      }
      type = next_type(type, *info, !s.when.empty());
      stages.push_back(std::move(s));
    }
    stage_.clear();
    return stages;
  }

  // Finds a float stage on a certain integer and the reverse. A conditional stage that changes the type leaves it open.
  Type next_type(Type type, const StageInfo& info, bool conditional) const {
    if (info.in == StageInfo::any) return type;
    if (info.in == StageInfo::real && type == Type::integer) fail_stage("wants a float, but the value is an integer here: put i2f32 before it");
    if (info.in == StageInfo::integer && type == Type::real) fail_stage("wants an integer, but the value is a float here: put f2i before it");
    if (info.out == StageInfo::open) return Type::unknown;
    const Type after = info.out == StageInfo::real ? Type::real : Type::integer;
    const Type before = info.in == StageInfo::real ? Type::real : Type::integer;
    return conditional && after != before ? Type::unknown : after;
  }

  void check(const Contract& c) const {
    for (size_t i = 0; i < c.operands.size(); ++i) {
      if (c.operands[i].role.empty()) fail("operands: a role is empty");
    }
    if (c.form == KernelForm::dot && c.combine != Combine::mul) fail("a dot multiplies its operands: combine is mul");
    const auto counts_window = [](const StageOperand& o) { return o.kind == StageOperand::Kind::window_count; };
    for (const auto& s : c.post) {
      if ((counts_window(s.a) || counts_window(s.b)) && c.form != KernelForm::pool_sum && c.form != KernelForm::reduce) {
        fail("#window is known only to pool_sum and reduce");
      }
    }
    for (const auto& o : c.operands) {
      for (const auto& s : o.pre) if (counts_window(s.a) || counts_window(s.b)) fail("operands." + o.role + ": #window is known only in post");
    }
  }

  const std::string& id_;
  const std::string& where_;
  std::string stage_;
};

json::value operand_to_json(const StageOperand& o) {
  switch (o.kind) {
    case StageOperand::Kind::integer: return o.integer;
    case StageOperand::Kind::real: return json_number(o.real);
    case StageOperand::Kind::table: return json::value((o.negate ? "-" : "") + o.name);
    case StageOperand::Kind::tensor: return json::value((o.negate ? "-@" : "@") + o.name);
    case StageOperand::Kind::window_count: return json::value("#window");
    case StageOperand::Kind::none: break;
  }
  return nullptr;
}

json::value stages_to_json(const std::vector<Stage>& stages) {
  json::array out;
  for (const auto& s : stages) {
    json::object o;
    json::value arguments;
    switch (s.kind) {
      case StageKind::i2f32: case StageKind::i2f16: case StageKind::f32_f16: arguments = json::object(); break;
      case StageKind::shr: arguments = json::object({{"by", operand_to_json(s.a)}, {"round", name_of(s.round)}}); break;
      case StageKind::f2i:
        arguments = json::object({{"round", name_of(s.round)}, {"low", operand_to_json(s.a)}, {"high", operand_to_json(s.b)}});
        break;
      case StageKind::clamp: case StageKind::ffma32: case StageKind::lut: {
        json::array pair;  // an initializer list would make an object of two strings
        pair.push_back(operand_to_json(s.a));
        pair.push_back(operand_to_json(s.b));
        arguments = std::move(pair);
        break;
      }
      default: arguments = operand_to_json(s.a);
    }
    o.emplace(info_of(s.kind).name, std::move(arguments));
    if (!s.when.empty()) o.emplace("when", s.when);
    if (s.width != 64) o.emplace("width", s.width);
    out.push_back(std::move(o));
  }
  return out;
}

}  // namespace

Contract parse_contract(const std::string& id, const json::value& value, const std::string& where) {
  return Reader(id, where).read(value);
}

json::value contract_to_json(const Contract& c) {
  json::object out;
  out.emplace("form", name_of(c.form));
  out.emplace("acc", json::object({{"bits", c.acc.bits},
                                   {"signed", c.acc.is_signed},
                                   {"overflow", word_of(c.acc.overflow)},
                                   {"order", c.acc.ordered ? "ordered" : "free"},
                                   {"saturate_every", c.acc.saturate_every},
                                   {"init", c.acc.init},
                                   {"padding", c.acc.pad_with_zero_point ? "zero_point" : "zero"}}));
  json::object operands;
  for (const auto& o : c.operands) operands.emplace(o.role, stages_to_json(o.pre));
  out.emplace("operands", std::move(operands));
  out.emplace("combine", combine_words[static_cast<size_t>(c.combine)]);
  out.emplace("post", stages_to_json(c.post));
  if (!c.exact) {
    out.emplace("exact", false);
    out.emplace("max_error_lsb", c.max_error_lsb);
  }
  return out;
}

}  // namespace quern
