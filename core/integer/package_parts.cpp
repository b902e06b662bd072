#include "core/integer/package_parts.hpp"

#include <fmt/format.h>

#include <cmath>

#include "core/base/error.hpp"

namespace quern {

json::object attributes_to_json(const std::map<std::string, Attribute>& attributes, BlobWriter& blob, const std::string& node) {
  json::object out;
  for (const auto& [name, attribute] : attributes) {
    json::object o;
    if (const auto* i = std::get_if<int64_t>(&attribute)) o["int"] = *i;
    else if (const auto* f = std::get_if<float>(&attribute)) o["float"] = real_to_json(*f);
    else if (const auto* s = std::get_if<std::string>(&attribute)) o["string"] = *s;
    else if (const auto* is = std::get_if<std::vector<int64_t>>(&attribute)) o["ints"] = json::array(is->begin(), is->end());
    else if (const auto* fs = std::get_if<std::vector<float>>(&attribute)) {
      json::array a;
      for (float f : *fs) a.push_back(real_to_json(f));
      o["floats"] = std::move(a);
    } else if (const auto* ss = std::get_if<std::vector<std::string>>(&attribute)) {
      json::array a;
      for (const auto& s2 : *ss) a.emplace_back(s2);
      o["strings"] = std::move(a);
    } else if (const auto* t = std::get_if<Tensor>(&attribute)) {
      o["tensor"] = blob.add(*t);
    } else {
      throw Error(ErrorCode::model, fmt::format("attribute '{}' holds a graph, which a package can't hold yet", name)).at_node(node);
    }
    out[name] = std::move(o);
  }
  return out;
}

std::map<std::string, Attribute> attributes_from_json(const Fields& fields, const BlobReader& blob) {
  std::map<std::string, Attribute> out;
  for (const auto& member : fields.object()) {
    const std::string name(member.key());
    const Fields f = fields.at(name);
    if (f.has("int")) out[name] = f.integer("int");
    else if (f.has("float")) out[name] = static_cast<float>(f.real("float"));
    else if (f.has("string")) out[name] = f.text("string");
    else if (f.has("ints")) out[name] = f.integers("ints");
    else if (f.has("strings")) out[name] = f.texts("strings");
    else if (f.has("tensor")) out[name] = blob.get(f.at("tensor").object());
    else if (f.has("floats")) {
      std::vector<float> v;
      for (const auto& e : f.array("floats")) v.push_back(real_from_json(e, f.where()));
      out[name] = std::move(v);
    } else {
      f.fail("attribute '" + name + "' has no known kind");
    }
  }
  return out;
}

json::object params_to_json(const QuantParams& p) {
  json::array scale;
  for (float s : p.scale) scale.push_back(json_number(s));
  return {{"bits", p.format.bits}, {"signed", p.format.is_signed}, {"qmin", p.format.qmin}, {"qmax", p.format.qmax}, {"axis", p.axis},
          {"scale", std::move(scale)}, {"zero_point", json::array(p.zero_point.begin(), p.zero_point.end())}};
}

QuantParams params_from_json(const Fields& f) {
  QuantParams p;
  p.format.bits = static_cast<int>(f.integer("bits"));
  p.format.is_signed = f.boolean("signed");
  p.format.qmin = f.integer("qmin");
  p.format.qmax = f.integer("qmax");
  p.axis = static_cast<int>(f.integer("axis"));
  for (const auto& s : f.array("scale")) p.scale.push_back(real_from_json(s, f.where()));
  p.zero_point = f.integers("zero_point");
  const NumberFormat widest = p.format.bits >= 1 && p.format.bits <= 32 ? make_format(p.format.bits, p.format.is_signed, false) : NumberFormat{0, false, 0, 0};
  bool good = widest.bits != 0 && p.format.qmin >= widest.qmin && p.format.qmax <= widest.qmax && p.format.qmin < p.format.qmax &&
              !p.scale.empty() && p.scale.size() == p.zero_point.size() && p.axis >= -1 && p.axis < 8;
  for (float s : p.scale) good = good && std::isfinite(s) && s > 0;
  for (int64_t z : p.zero_point) good = good && z >= p.format.qmin && z <= p.format.qmax;
  if (!good) f.fail("quantization parameters that no format can have");
  return p;
}

namespace {

json::object operand_to_json(const UnitOperand& o, BlobWriter& blob) {
  json::object out{{"role", o.role}, {"value", o.value}, {"dtype", name_of(o.dtype)}, {"dims", json::array(o.dims.begin(), o.dims.end())}};
  if (o.params) out["params"] = params_to_json(*o.params);
  if (o.constant) out["constant"] = blob.add(*o.constant);
  return out;
}

UnitOperand operand_from_json(const Fields& f, const BlobReader& blob) {
  UnitOperand o;
  o.role = f.text("role");
  o.value = f.text("value");
  o.dtype = dtype_from_name(f.text("dtype"));
  o.dims = f.integers("dims");
  if (f.has("params")) o.params = params_from_json(f.at("params"));
  if (f.has("constant")) o.constant = std::make_shared<const Tensor>(blob.get(f.at("constant").object()));
  return o;
}

}  // namespace

json::object unit_to_json(const IntegerUnit& unit, BlobWriter& blob) {
  json::array members, operands;
  for (const auto& m : unit.members) {
    json::array inputs;
    for (int i : m.inputs) {
      if (i == absent_input) inputs.push_back(nullptr); else inputs.push_back(i);
    }
    members.push_back(json::object{{"name", m.name}, {"domain", m.domain}, {"op", m.op}, {"since_version", m.since_version},
                                   {"attributes", attributes_to_json(m.attributes, blob, m.name)}, {"inputs", std::move(inputs)}});
  }
  for (const auto& o : unit.operands) operands.push_back(operand_to_json(o, blob));
  json::object tables;
  for (const auto& [name, tensor] : unit.tables) tables[name] = blob.add(tensor);
  return {{"config", unit.config}, {"contract", unit.contract->id}, {"macs_per_sample", unit.macs_per_sample}, {"members", std::move(members)},
          {"operands", std::move(operands)}, {"output", operand_to_json(unit.output, blob)}, {"tables", std::move(tables)}};
}

std::shared_ptr<IntegerUnit> unit_from_json(const Fields& f, const BlobReader& blob,
                                            const std::map<std::string, std::shared_ptr<const Contract>>& contracts) {
  auto unit = std::make_shared<IntegerUnit>();
  unit->config = f.text("config");
  unit->macs_per_sample = f.integer("macs_per_sample");
  const auto contract = contracts.find(f.text("contract"));
  if (contract == contracts.end()) f.fail("a unit under a contract that is not in the file");
  unit->contract = contract->second;
  for (const auto& o : f.array("operands")) unit->operands.push_back(operand_from_json(Fields(o, f.where()), blob));
  for (const auto& value : f.array("members")) {
    const Fields m(value, f.where());
    UnitMember member;
    member.name = m.text("name");
    member.domain = m.text("domain");
    member.op = m.text("op");
    member.since_version = static_cast<int>(m.integer("since_version"));
    member.attributes = attributes_from_json(m.at("attributes"), blob);
    for (const auto& i : m.array("inputs")) {
      if (i.is_null()) { member.inputs.push_back(absent_input); continue; }
      const int64_t index = i.is_int64() ? i.get_int64() : (i.is_uint64() ? static_cast<int64_t>(i.get_uint64()) : absent_input);
      if (index >= static_cast<int64_t>(unit->operands.size()) || index < -static_cast<int64_t>(unit->members.size()))
        m.fail("a member with an input that is neither an operand nor an earlier member");
      member.inputs.push_back(static_cast<int>(index));
    }
    unit->members.push_back(std::move(member));
  }
  if (unit->members.empty()) f.fail("a unit without members");
  unit->output = operand_from_json(f.at("output"), blob);
  const Fields tables = f.at("tables");
  for (const auto& t : tables.object()) unit->tables[std::string(t.key())] = blob.get(tables.at(std::string(t.key())).object());
  return unit;
}

}  // namespace quern
