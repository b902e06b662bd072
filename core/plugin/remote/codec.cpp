#include "core/plugin/remote/codec.hpp"

#include "core/base/error.hpp"

namespace quern::remote {
namespace {

[[noreturn]] void broken() { throw Error(ErrorCode::plugin, "a message between the host and the process of a plugin is damaged"); }

// Lists of texts and sub-graphs do not cross the plugin interface at all.
enum class Kind : uint8_t { integer, real, text, integers, reals, tensor };

}  // namespace

Writer& Writer::tensor(const Tensor& t) {
  number(static_cast<int32_t>(t.type())).dims(t.dims());
  bytes_.append(static_cast<const char*>(t.data()), t.bytes());
  return *this;
}

void Writer::attribute(const Attribute& a) {
  if (const auto* i = std::get_if<int64_t>(&a)) number(static_cast<uint8_t>(Kind::integer)).number(*i);
  else if (const auto* f = std::get_if<float>(&a)) number(static_cast<uint8_t>(Kind::real)).number(*f);
  else if (const auto* s = std::get_if<std::string>(&a)) number(static_cast<uint8_t>(Kind::text)).text(*s);
  else if (const auto* is = std::get_if<std::vector<int64_t>>(&a)) number(static_cast<uint8_t>(Kind::integers)).numbers<int64_t>(*is);
  else if (const auto* fs = std::get_if<std::vector<float>>(&a)) number(static_cast<uint8_t>(Kind::reals)).numbers<float>(*fs);
  else number(static_cast<uint8_t>(Kind::tensor)).tensor(std::get<Tensor>(a));
}

void Writer::operand(const UnitOperand& o) {
  text(o.role).text(o.value).number(static_cast<int32_t>(o.dtype)).dims(o.dims);
  number(static_cast<uint8_t>(o.params ? 1 : 0));
  if (o.params) {
    const NumberFormat& f = o.params->format;
    number<int32_t>(f.bits).number(static_cast<uint8_t>(f.is_signed)).number(f.qmin).number(f.qmax).number<int32_t>(o.params->axis);
    numbers<float>(o.params->scale).numbers<int64_t>(o.params->zero_point);
  }
  number(static_cast<uint8_t>(o.constant ? 1 : 0));
  if (o.constant) tensor(*o.constant);
}

Writer& Writer::unit(const IntegerUnit& u) {
  text(u.name).text(u.config).text(u.contract ? u.contract->id : "").number(u.macs_per_sample);
  number<uint64_t>(u.members.size());
  for (const UnitMember& m : u.members) {
    text(m.name).text(m.domain).text(m.op).number<int32_t>(m.since_version);
    uint64_t crossing = 0;
    const auto crosses = [](const Attribute& a) {
      return !std::holds_alternative<std::vector<std::string>>(a) && !std::holds_alternative<std::shared_ptr<const Graph>>(a);
    };
    for (const auto& [name, value] : m.attributes) crossing += crosses(value);
    number(crossing);
    for (const auto& [name, value] : m.attributes) {
      if (!crosses(value)) continue;
      text(name);
      attribute(value);
    }
    numbers<int>(m.inputs);
  }
  number<uint64_t>(u.operands.size());
  for (const UnitOperand& o : u.operands) operand(o);
  operand(u.output);
  return tables(u.tables);
}

Writer& Writer::tables(const std::map<std::string, Tensor>& tables) {
  number<uint64_t>(tables.size());
  for (const auto& [name, t] : tables) text(name).tensor(t);
  return *this;
}

const char* Reader::take(size_t bytes) {
  if (bytes > rest_.size()) broken();
  const char* at = rest_.data();
  rest_.remove_prefix(bytes);
  return at;
}

uint64_t Reader::count(size_t each) {
  const auto n = number<uint64_t>();
  if (n > rest_.size() / each) broken();
  return n;
}

std::string Reader::text() {
  const uint64_t n = count(1);
  return std::string(take(n), n);
}

Tensor Reader::tensor() {
  const auto type = static_cast<DType>(number<int32_t>());
  Dims d = dims();
  if (size_of(type) == 0 || d.size() > 16) broken();
  int64_t elements = 1;
  for (const int64_t size : d)
    if (size < 0 || __builtin_mul_overflow(elements, size, &elements) || static_cast<uint64_t>(elements) > rest_.size()) broken();
  Tensor t(type, std::move(d));
  if (t.bytes() > 0) std::memcpy(t.mutable_bytes(), take(t.bytes()), t.bytes());
  return t;
}

Attribute Reader::attribute() {
  switch (static_cast<Kind>(number<uint8_t>())) {
    case Kind::integer: return number<int64_t>();
    case Kind::real: return number<float>();
    case Kind::text: return text();
    case Kind::integers: return numbers<int64_t>();
    case Kind::reals: return numbers<float>();
    case Kind::tensor: return tensor();
  }
  broken();
}

UnitOperand Reader::operand() {
  UnitOperand o;
  o.role = text();
  o.value = text();
  o.dtype = static_cast<DType>(number<int32_t>());
  o.dims = dims();
  if (number<uint8_t>()) {
    QuantParams p;
    p.format.bits = number<int32_t>();
    p.format.is_signed = number<uint8_t>() != 0;
    p.format.qmin = number<int64_t>();
    p.format.qmax = number<int64_t>();
    p.axis = number<int32_t>();
    p.scale = numbers<float>();
    p.zero_point = numbers<int64_t>();
    o.params = std::move(p);
  }
  if (number<uint8_t>()) o.constant = std::make_shared<const Tensor>(tensor());
  return o;
}

IntegerUnit Reader::unit() {
  IntegerUnit u;
  u.name = text();
  u.config = text();
  auto contract = std::make_shared<Contract>();  // a plugin sees its name alone
  contract->id = text();
  u.contract = std::move(contract);
  u.macs_per_sample = number<int64_t>();
  for (uint64_t n = count(1); n > 0; --n) {
    UnitMember m;
    m.name = text();
    m.domain = text();
    m.op = text();
    m.since_version = number<int32_t>();
    for (uint64_t a = count(1); a > 0; --a) {
      std::string name = text();
      m.attributes.emplace(std::move(name), attribute());
    }
    m.inputs = numbers<int>();
    u.members.push_back(std::move(m));
  }
  for (uint64_t n = count(1); n > 0; --n) u.operands.push_back(operand());
  u.output = operand();
  u.tables = tables();
  return u;
}

std::map<std::string, Tensor> Reader::tables() {
  std::map<std::string, Tensor> out;
  for (uint64_t n = count(1); n > 0; --n) {
    std::string name = text();
    out.emplace(std::move(name), tensor());
  }
  return out;
}

}  // namespace quern::remote
