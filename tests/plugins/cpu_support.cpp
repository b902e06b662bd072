#include "tests/plugins/cpu_support.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

struct quern_status { int32_t code; std::string message; };

namespace cpu_test {
namespace {

template <class T> T header() {
  T t{};
  t.h = {sizeof(T), QUERN_ABI_MAJOR, QUERN_ABI_MINOR};
  return t;
}
std::string text(quern_str s) { return std::string(s.data ? s.data : "", s.size); }
quern_str str(const std::string& s) { return {s.data(), s.size()}; }

quern_host make_host() {
  auto h = header<quern_host>();
  h.make_status = [](void*, int32_t code, quern_str m) { return new quern_status{code, text(m)}; };
  h.log = [](void*, int32_t, quern_str) {};
  h.alloc = [](void*, uint64_t size, uint64_t align) { return std::aligned_alloc(align, (size + align - 1) / align * align); };
  h.release = [](void*, void* p) { std::free(p); };
  h.cancelled = [](void*) { return 0; };
  h.parallel_for = [](void*, int64_t n, quern_status* (*body)(void*, int64_t), void* arg) -> quern_status* {
    std::vector<std::thread> threads;
    std::vector<quern_status*> results(static_cast<size_t>(n), nullptr);
    for (int64_t i = 0; i < n; ++i) threads.emplace_back([&, i] { results[static_cast<size_t>(i)] = body(arg, i); });
    for (auto& t : threads) t.join();
    for (auto* r : results)
      if (r) return r;
    return nullptr;
  };
  h.random = [](void*, quern_str, uint64_t index) { return index; };
  h.extension = [](void*, quern_str) -> const void* { return nullptr; };
  h.status_code = [](void*, const quern_status* s) { return s->code; };
  h.status_message = [](void*, const quern_status* s) { return str(s->message); };
  h.release_status = [](void*, quern_status* s) { delete s; };
  return h;
}

std::string take(quern_status* status, int32_t* code = nullptr) {
  if (!status) return "";
  std::string m = status->message.empty() ? "an empty message" : status->message;
  if (code) *code = status->code;
  delete status;
  return m;
}

Dims row_major(const Dims& d) {
  Dims s(d.size(), 1);
  for (size_t i = d.size(); i-- > 1;) s[i - 1] = s[i] * d[i];
  return s;
}
Dims channels_last(const Dims& d) {
  if (d.size() < 3) return row_major(d);
  Dims order{d[0]};
  order.insert(order.end(), d.begin() + 2, d.end());
  order.push_back(d[1]);
  const Dims s = row_major(order);
  Dims out{s[0], 1};
  out.insert(out.end(), s.begin() + 1, s.end() - 1);
  return out;
}
size_t width(uint32_t t) { return t == QUERN_DTYPE_F32 || t == QUERN_DTYPE_S32 ? 4 : t == QUERN_DTYPE_S64 ? 8 : t == QUERN_DTYPE_U16 ? 2 : 1; }

// Memory as the ABI promises it: aligned to 64, 64 readable bytes behind.
struct Buffer {
  explicit Buffer(size_t n) : bytes(n), memory(n + 192, 0xa5) {
    data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  }
  bool overrun() const {
    for (size_t i = bytes; i < bytes + 64; ++i)
      if (data[i] != 0xa5) return true;
    return false;
  }
  size_t bytes;
  std::vector<uint8_t> memory;
  uint8_t* data;
};

template <class F> void each(const Dims& dims, const Dims& strides, F&& f) {
  Dims at(dims.size(), 0);
  const int64_t n = count(dims);
  for (int64_t i = 0; i < n; ++i) {
    int64_t o = 0;
    for (size_t a = 0; a < at.size(); ++a) o += at[a] * strides[a];
    f(static_cast<size_t>(i), static_cast<size_t>(o));
    for (size_t a = at.size(); a-- > 0;) {
      if (++at[a] < dims[a]) break;
      at[a] = 0;
    }
  }
}

void put(const Operand& o, const Dims& strides, uint8_t* to) {
  each(o.dims, strides, [&](size_t i, size_t at) {
    if (o.dtype == QUERN_DTYPE_F32) { std::memcpy(to + 4 * at, &o.floats[i], 4); return; }
    const int64_t v = o.codes[i];
    std::memcpy(to + width(o.dtype) * at, &v, width(o.dtype));  // little endian
  });
}

// The structs of the boundary for one unit, alive as long as this.
struct Built {
  explicit Built(const Unit& unit) : source(unit), op(header<quern_op>()) {
    for (const auto& o : unit.operands) add(o);
    add(unit.output);
    for (const auto& n : unit.nodes) {
      auto& node = *nodes.emplace_back(std::make_unique<quern_node>(header<quern_node>()));
      node.name = str(n.op);
      node.op = str(n.op);
      node.since_version = n.since;
      auto& list = *attr_lists.emplace_back(std::make_unique<std::vector<const quern_attr*>>());
      for (const auto& [key, value] : n.attributes) {
        auto& a = *attrs.emplace_back(std::make_unique<quern_attr>(header<quern_attr>()));
        a.name = str(key);
        if (const auto* i = std::get_if<int64_t>(&value)) { a.kind = QUERN_ATTR_INT; a.i = *i; }
        if (const auto* f = std::get_if<float>(&value)) { a.kind = QUERN_ATTR_FLOAT; a.f = *f; }
        if (const auto* s = std::get_if<std::string>(&value)) { a.kind = QUERN_ATTR_STRING; a.s = str(*s); }
        if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) { a.kind = QUERN_ATTR_INTS; a.ints = v->data(); a.count = static_cast<uint32_t>(v->size()); }
        list.push_back(&a);
      }
      node.attrs = list.data();
      node.n_attrs = static_cast<uint32_t>(list.size());
      node.inputs = n.inputs.data();
      node.n_inputs = static_cast<uint32_t>(n.inputs.size());
      node_list.push_back(&node);
    }
    for (size_t i = 0; i + 1 < operands.size(); ++i) input_list.push_back(operands[i].get());
    output_list.push_back(operands.back().get());
    op.name = str(name);
    op.contract = str(unit.contract);
    op.nodes = node_list.data();
    op.n_nodes = static_cast<uint32_t>(node_list.size());
    op.inputs = input_list.data();
    op.n_inputs = static_cast<uint32_t>(input_list.size());
    op.outputs = output_list.data();
    op.n_outputs = 1;
  }
  void add(const Operand& o) {
    auto& out = *operands.emplace_back(std::make_unique<quern_operand>(header<quern_operand>()));
    out.role = str(o.role);
    out.value = str(o.role);
    out.tensor = header<quern_tensor>();
    out.tensor.dtype = o.dtype;
    out.tensor.rank = static_cast<uint32_t>(o.dims.size());
    out.tensor.dims = o.dims.data();
    out.tensor.strides = strides.emplace_back(std::make_unique<Dims>(row_major(o.dims)))->data();
    if (o.constant) {
      auto& b = *buffers.emplace_back(std::make_unique<Buffer>(static_cast<size_t>(count(o.dims)) * width(o.dtype)));
      put(o, row_major(o.dims), b.data);
      out.tensor.data = b.data;
      out.tensor.bytes = b.bytes;
    }
    if (o.quant) {
      auto& q = *quants.emplace_back(std::make_unique<quern_quant>(header<quern_quant>()));
      q.bits = o.dtype == QUERN_DTYPE_S32 ? 32 : 8;
      q.is_signed = o.quant->is_signed;
      q.qmin = q.is_signed ? (o.quant->narrow ? -127 : -128) : 0;
      q.qmax = q.is_signed ? 127 : 255;
      if (q.bits == 32) { q.qmin = INT32_MIN; q.qmax = INT32_MAX; }
      q.axis = o.quant->axis;
      q.count = static_cast<uint32_t>(o.quant->scale.size());
      q.scale = o.quant->scale.data();
      q.zero_point = zeros.emplace_back(std::make_unique<Dims>(o.quant->scale.size(), o.quant->zero_point))->data();
      out.quant = &q;
    }
  }
  void set_tables(const std::map<std::string, Table>& tables) {
    for (const auto& [key, t] : tables) {
      auto& q = *table_structs.emplace_back(std::make_unique<quern_table>(header<quern_table>()));
      q.name = str(key);
      q.tensor = header<quern_tensor>();
      q.tensor.dtype = t.dtype;
      q.tensor.rank = static_cast<uint32_t>(t.dims.size());
      q.tensor.dims = t.dims.data();
      q.tensor.data = const_cast<uint8_t*>(t.bytes.data());
      q.tensor.bytes = t.bytes.size();
      table_list.push_back(&q);
    }
    op.tables = table_list.data();
    op.n_tables = static_cast<uint32_t>(table_list.size());
  }
  const Unit& source;
  std::string name = "unit";
  quern_op op;
  std::vector<std::unique_ptr<quern_node>> nodes;
  std::vector<std::unique_ptr<std::vector<const quern_attr*>>> attr_lists;
  std::vector<std::unique_ptr<quern_attr>> attrs;
  std::vector<std::unique_ptr<quern_operand>> operands;
  std::vector<std::unique_ptr<quern_quant>> quants;
  std::vector<std::unique_ptr<Dims>> strides, zeros;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<std::unique_ptr<quern_table>> table_structs;
  std::vector<const quern_node*> node_list;
  std::vector<const quern_operand*> input_list, output_list;
  std::vector<const quern_table*> table_list;
};

}  // namespace

Plugin::Plugin(const std::string& name) : name_(name) {
  const char* build = std::getenv("QUERN_BUILD_DIR");
  const std::string file = std::string(build ? build : ".") + "/lib/quern/plugins/" + name + ".so";
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) { ADD_FAILURE() << "can't open the plugin: " << dlerror(); std::abort(); }
  using Entry = quern_status* (*)(const quern_host*, quern_plugin*);
  const auto entry = reinterpret_cast<Entry>(dlsym(library, "quern_plugin_entry_v1"));
  static const quern_host host = make_host();
  auto plugin = header<quern_plugin>();
  const std::string failed = entry ? take(entry(&host, &plugin)) : "no entry";
  if (!failed.empty() || plugin.kind != QUERN_KIND_TARGET || !plugin.target) { ADD_FAILURE() << failed; std::abort(); }
  target_ = plugin.target;
  const std::vector<std::string> all = name == "cpu"          ? std::vector<std::string>{"vnni", "avx512", "avx2", "sse41"}
                                      : name == "gpu_opencl" ? std::vector<std::string>{"opencl12"}
                                                             : std::vector<std::string>{"sim"};
  any_profile_ = all.front();
  for (const std::string& p : all) {
    reason_.clear();
    if (available(reason_, p)) profiles_.push_back(p);
  }
}

Plugin& Plugin::get(const std::string& name) {
  static std::map<std::string, std::unique_ptr<Plugin>> plugins;
  auto& p = plugins[name];
  if (!p) p.reset(new Plugin(name));
  return *p;
}

bool Plugin::available(std::string& reason, const std::string& profile) const {
  auto sink = header<quern_text_sink>();
  sink.self = &reason;
  sink.write = [](void* self, quern_str t) { *static_cast<std::string*>(self) += text(t); };
  int32_t yes = 0;
  const std::string failed = take(target_->available(target_->self, str(profile), &yes, &sink));
  if (!failed.empty()) reason = failed;
  return failed.empty() && yes;
}

bool Plugin::supports(const Unit& unit, std::string& reason) const {
  const Built built(unit);
  auto sink = header<quern_text_sink>();
  sink.self = &reason;
  sink.write = [](void* self, quern_str t) { *static_cast<std::string*>(self) += text(t); };
  int32_t yes = 0;
  const std::string failed = take(target_->supports(target_->self, str(any_profile_), &built.op, &yes, &sink));
  if (!failed.empty()) reason = failed;
  return failed.empty() && yes;
}

std::string Plugin::derive(const Unit& unit, std::map<std::string, Table>& tables, int32_t* code) const {
  const Built built(unit);
  auto sink = header<quern_table_sink>();
  sink.self = &tables;
  sink.emit = [](void* self, quern_str name, uint32_t dtype, uint32_t rank, const int64_t* dims, const void* data) -> quern_status* {
    Table t{dtype, {}, {}, Dims(dims, dims + rank)};
    t.bytes.resize(static_cast<size_t>(count(t.dims)) * width(dtype));
    if (!t.bytes.empty()) std::memcpy(t.bytes.data(), data, t.bytes.size());
    if (dtype == QUERN_DTYPE_F32) {
      t.floats.resize(t.bytes.size() / 4);
      if (!t.bytes.empty()) std::memcpy(t.floats.data(), data, t.bytes.size());
    }
    (*static_cast<std::map<std::string, Table>*>(self))[text(name)] = t;
    return nullptr;
  };
  return take(target_->derive(target_->self, str(any_profile_), &built.op, &sink), code);
}

const std::vector<std::string>& Plugin::profiles() const { return profiles_; }

Result Plugin::run(const Unit& unit, const RunOptions& options, const std::string& profile) const {
  if (!profile.empty()) return run_profile(unit, options, profile);
  Result first;
  for (const std::string& name : profiles()) {
    Result r = run_profile(unit, options, name);
    if (name == profiles().front()) {
      first = std::move(r);
      continue;
    }
    EXPECT_EQ(r.error, first.error) << name;
    EXPECT_TRUE(r.codes == first.codes) << r.kernel << " (" << name << ") and " << first.kernel << " differ";
    const bool same = r.floats.size() == first.floats.size() && (r.floats.empty() || std::memcmp(r.floats.data(), first.floats.data(), r.floats.size() * 4) == 0);
    EXPECT_TRUE(same) << r.kernel << " (" << name << ") and " << first.kernel << " differ";
  }
  return first;
}

Result Plugin::run_profile(const Unit& unit, const RunOptions& options, const std::string& profile) const {
  Result r;
  r.error = derive(unit, r.tables, &r.code);
  if (!r.error.empty()) return r;
  Built built(unit);
  built.set_tables(r.tables);
  quern_kernel* kernel = nullptr;
  r.error = take(target_->compile(target_->self, str(profile), &built.op, options.threads, &kernel), &r.code);
  if (!r.error.empty()) return r;
  auto info = header<quern_kernel_info>();
  EXPECT_EQ(take(target_->kernel_info(target_->self, kernel, &info)), "");
  r.kernel = text(info.kernel_name);
  quern_context* context = nullptr;
  EXPECT_EQ(take(target_->create_context(target_->self, kernel, &context)), "");

  std::vector<quern_tensor> inputs;
  std::vector<std::unique_ptr<Buffer>> memory;
  std::vector<std::unique_ptr<Dims>> strides;
  uint32_t first_layout = QUERN_LAYOUT_ROW_MAJOR;
  for (const auto& o : unit.operands) {
    if (o.constant) continue;
    uint32_t layout = info.input_layouts[std::min<size_t>(inputs.size(), 15)];
    if (layout == QUERN_LAYOUT_ANY) layout = options.any_is_channels_last ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR;
    if (inputs.empty() || o.dims.size() == unit.output.dims.size()) first_layout = layout;
    auto& s = *strides.emplace_back(std::make_unique<Dims>(layout == QUERN_LAYOUT_CHANNELS_LAST ? channels_last(o.dims) : row_major(o.dims)));
    auto& b = *memory.emplace_back(std::make_unique<Buffer>(static_cast<size_t>(count(o.dims)) * width(o.dtype)));
    put(o, s, b.data);
    auto t = header<quern_tensor>();
    t.data = b.data;
    t.bytes = b.bytes;
    t.dtype = o.dtype;
    t.rank = static_cast<uint32_t>(o.dims.size());
    t.dims = o.dims.data();
    t.strides = s.data();
    t.layout = layout;
    inputs.push_back(t);
  }
  EXPECT_EQ(info.n_inputs, inputs.size());
  uint32_t layout = info.output_layout == QUERN_LAYOUT_ANY ? first_layout : info.output_layout;
  const Dims& dims = unit.output.dims;
  const Dims out_strides = layout == QUERN_LAYOUT_CHANNELS_LAST ? channels_last(dims) : row_major(dims);
  const bool floats = unit.output.dtype == QUERN_DTYPE_F32;
  Buffer workspace(info.workspace_bytes);
  std::vector<uint8_t> first;
  for (int i = 0; i < options.repeat; ++i) {
    Buffer out(static_cast<size_t>(count(dims)) * (floats ? 4 : 1));
    std::fill_n(out.data, out.bytes, static_cast<uint8_t>(0x5a + i));
    auto t = header<quern_tensor>();
    t.data = out.data;
    t.bytes = out.bytes;
    t.dtype = unit.output.dtype;
    t.rank = static_cast<uint32_t>(dims.size());
    t.dims = dims.data();
    t.strides = out_strides.data();
    t.layout = layout;
    r.error = take(target_->execute(target_->self, context, inputs.data(), static_cast<uint32_t>(inputs.size()), &t, 1, workspace.data), &r.code);
    EXPECT_FALSE(out.overrun()) << r.kernel << " wrote behind its output";
    EXPECT_FALSE(workspace.overrun()) << r.kernel << " wrote behind its workspace";
    const std::vector<uint8_t> bytes(out.data, out.data + out.bytes);
    if (i == 0) first = bytes;
    EXPECT_TRUE(bytes == first) << r.kernel << ": run " << i << " differs from the first";
  }
  target_->destroy_context(target_->self, context);
  target_->destroy_kernel(target_->self, kernel);
  r.codes.resize(floats ? 0 : static_cast<size_t>(count(dims)));
  r.floats.resize(floats ? static_cast<size_t>(count(dims)) : 0);
  each(dims, out_strides, [&](size_t i, size_t at) {
    if (floats) std::memcpy(&r.floats[i], first.data() + 4 * at, 4);
    else r.codes[i] = unit.output.dtype == QUERN_DTYPE_S8 ? static_cast<int8_t>(first[at]) : static_cast<int64_t>(first[at]);
  });
  return r;
}

int64_t count(const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}
Quant u8(float scale, int64_t zero_point) { return {false, {scale}, zero_point, -1, false}; }
Quant s8(float scale) { return {true, {scale}, 0, -1, false}; }
Operand flowing(const std::string& role, const Dims& dims, const Quant& quant) {
  Operand o;
  o.role = role;
  o.dtype = quant.is_signed ? QUERN_DTYPE_S8 : QUERN_DTYPE_U8;
  o.dims = dims;
  o.quant = quant;
  return o;
}
Operand constant_s64(const std::vector<int64_t>& values) {
  Operand o;
  o.dtype = QUERN_DTYPE_S64;
  o.dims = {static_cast<int64_t>(values.size())};
  o.codes = values;
  o.constant = true;
  return o;
}
Operand constant_f32(float value) {
  Operand o;
  o.dtype = QUERN_DTYPE_F32;
  o.floats = {value};
  o.constant = true;
  return o;
}

int64_t half_even(float v) {
  const double d = v, down = std::floor(d), rest = d - down;
  const auto i = static_cast<int64_t>(down);
  if (rest > 0.5 || (rest == 0.5 && i % 2 != 0)) return i + 1;
  return i;
}

int64_t to_code(float v, const Operand& output) {
  const float with_zero = v + static_cast<float>(output.zero());
  const int64_t low = output.dtype == QUERN_DTYPE_S8 ? -128 : 0;
  if (with_zero <= -1e9f) return low;
  if (with_zero >= 1e9f) return low + 255;
  return std::clamp<int64_t>(half_even(with_zero), low, low + 255);
}

}  // namespace cpu_test
