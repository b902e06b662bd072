// What a plugin written in C++17 sees of the host: failures as exceptions, strings and arrays as views, operators and
// their attributes by name. Header-only over quern/abi.h; needs nothing else.
//
//   using namespace quern_sdk;
//   void derive(std::string_view profile, const OpView& op, TableSink& tables) {
//     QuantView x = op.input("input").quant(), w = op.input("weight").quant();
//     int64_t group = op.node(0).integer("group", 1);
//     if (x.count() != 1) throw Failure(QUERN_UNIMPLEMENTED, "per-channel activations");
//     tables.emit("multiplier", multipliers);
//   }
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "quern/abi.h"

namespace quern_sdk {

// ---- strings, arrays, headers -----------------------------------------------------------------------------------
inline quern_str str(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view view(quern_str text) { return text.data ? std::string_view(text.data, text.size) : std::string_view(); }

template <class T>
class Span {
 public:
  Span() = default;
  Span(T* data, size_t size) : data_(data), size_(size) {}
  template <class C, class = std::enable_if_t<std::is_convertible<decltype(std::declval<C&>().data()), T*>::value>>
  Span(C& container) : data_(container.data()), size_(container.size()) {}  // NOLINT: like std::span
  T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) const { return data_[i]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// A struct of the boundary, zeroed, with its header filled in: auto op = make<quern_op>();
template <class T>
T make() {
  T t{};
  t.h.struct_size = sizeof(T);
  t.h.major = QUERN_ABI_MAJOR;
  t.h.minor = QUERN_ABI_MINOR;
  return t;
}

// ---- the host ----------------------------------------------------------------------------------------------------
// Set once, in the entry function. Hidden, so that every plugin has its own.
__attribute__((visibility("hidden"))) inline const quern_host* the_host = nullptr;

// Throw it anywhere inside a plugin; the boundary turns it into a status. Other exceptions become QUERN_INTERNAL.
class Failure : public std::exception {
 public:
  Failure(int32_t code, std::string message) : code_(code), message_(std::move(message)) {}
  int32_t code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  int32_t code_;
  std::string message_;
};

// A status that came from the host, on its way back to it. Thrown by check(); catch it to handle the failure here.
class HostFailure : public std::exception {
 public:
  explicit HostFailure(quern_status* status) noexcept : status_(status) {}
  HostFailure(HostFailure&& other) noexcept : status_(std::exchange(other.status_, nullptr)) {}
  // Exceptions must be copyable; the status goes to the copy, and no two objects ever hold it.
  HostFailure(const HostFailure& other) noexcept : status_(std::exchange(other.status_, nullptr)) {}
  HostFailure& operator=(const HostFailure&) = delete;
  ~HostFailure() override {
    if (status_ && the_host && QUERN_HAS(the_host, release_status)) the_host->release_status(the_host->self, status_);
  }
  int32_t code() const {
    return status_ && the_host && QUERN_HAS(the_host, status_code) ? the_host->status_code(the_host->self, status_)
                                                                   : QUERN_UNKNOWN;
  }
  std::string message() const {
    if (!status_ || !the_host || !QUERN_HAS(the_host, status_message)) return "a call into the host failed";
    return std::string(view(the_host->status_message(the_host->self, status_)));
  }
  const char* what() const noexcept override { return "a call into the host failed"; }
  quern_status* release() const noexcept { return std::exchange(status_, nullptr); }

 private:
  mutable quern_status* status_;
};

inline void check(quern_status* status) {
  if (status) throw HostFailure(status);
}

inline quern_status* make_status(int32_t code, std::string_view message) noexcept {
  return the_host->make_status(the_host->self, code, str(message));
}

// Runs `body` and gives its outcome as a status. Nothing gets past it: this is the inside of every function of a table.
template <class F>
quern_status* guarded(F&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const HostFailure& e) {
    if (quern_status* status = e.release()) return status;
    return make_status(QUERN_UNKNOWN, "a call into the host failed");
  } catch (const Failure& e) {
    return make_status(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return make_status(QUERN_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& e) {
    return make_status(QUERN_INTERNAL, e.what());
  } catch (...) {
    return make_status(QUERN_INTERNAL, "an exception of unknown type");
  }
}

inline void log(int32_t level, std::string_view text) { the_host->log(the_host->self, level, str(text)); }
inline bool cancelled() { return the_host->cancelled(the_host->self) != 0; }
inline uint64_t random(std::string_view stream, uint64_t index) { return the_host->random(the_host->self, str(stream), index); }

// body(index) for 0..count-1 on the host's threads. Results must not depend on the order.
template <class F>
void parallel_for(int64_t count, F&& body) {
  using Body = std::remove_reference_t<F>;
  check(the_host->parallel_for(
      the_host->self, count,
      [](void* arg, int64_t index) -> quern_status* { return guarded([&] { (*static_cast<Body*>(arg))(index); }); },
      const_cast<void*>(static_cast<const void*>(&body))));
}

// The entry function of a plugin: remembers the host, lets `fill` say what there is, and writes no more than the host knows.
template <class F>
quern_status* enter(const quern_host* host, quern_plugin* out, F&& fill) noexcept {
  the_host = host;
  return guarded([&] {
    auto own = make<quern_plugin>();
    const uint32_t known = out->h.struct_size;
    fill(own);
    if (known < own.h.struct_size) own.h.struct_size = known;
    std::memcpy(static_cast<void*>(out), &own, own.h.struct_size);
  });
}

// ---- tensors -----------------------------------------------------------------------------------------------------
template <class T> struct dtype_of;
template <> struct dtype_of<float> { static constexpr uint32_t value = QUERN_DTYPE_F32; };
template <> struct dtype_of<double> { static constexpr uint32_t value = QUERN_DTYPE_F64; };
template <> struct dtype_of<uint8_t> { static constexpr uint32_t value = QUERN_DTYPE_U8; };
template <> struct dtype_of<int8_t> { static constexpr uint32_t value = QUERN_DTYPE_S8; };
template <> struct dtype_of<uint16_t> { static constexpr uint32_t value = QUERN_DTYPE_U16; };
template <> struct dtype_of<int16_t> { static constexpr uint32_t value = QUERN_DTYPE_S16; };
template <> struct dtype_of<uint32_t> { static constexpr uint32_t value = QUERN_DTYPE_U32; };
template <> struct dtype_of<int32_t> { static constexpr uint32_t value = QUERN_DTYPE_S32; };
template <> struct dtype_of<uint64_t> { static constexpr uint32_t value = QUERN_DTYPE_U64; };
template <> struct dtype_of<int64_t> { static constexpr uint32_t value = QUERN_DTYPE_S64; };
template <> struct dtype_of<bool> { static constexpr uint32_t value = QUERN_DTYPE_BOOL; };

inline size_t size_of(uint32_t dtype) {
  switch (dtype) {
    case QUERN_DTYPE_U8: case QUERN_DTYPE_S8: case QUERN_DTYPE_BOOL: return 1;
    case QUERN_DTYPE_U16: case QUERN_DTYPE_S16: case QUERN_DTYPE_F16: return 2;
    case QUERN_DTYPE_F32: case QUERN_DTYPE_S32: case QUERN_DTYPE_U32: return 4;
    case QUERN_DTYPE_F64: case QUERN_DTYPE_S64: case QUERN_DTYPE_U64: return 8;
    default: return 0;
  }
}

class TensorView {
 public:
  TensorView() = default;
  TensorView(const quern_tensor& t) : t_(&t) {}  // NOLINT: a view
  const quern_tensor& raw() const { return *t_; }
  uint32_t dtype() const { return t_->dtype; }
  uint32_t rank() const { return t_->rank; }
  int64_t dim(size_t i) const { return t_->dims[i]; }
  Span<const int64_t> dims() const { return {t_->dims, t_->rank}; }
  Span<const int64_t> strides() const { return {t_->strides, t_->rank}; }
  void* data() const { return t_->data; }
  bool complete() const {
    for (int64_t d : dims()) if (d < 0) return false;
    return true;
  }
  int64_t count() const {  // elements; dims must be complete
    int64_t n = 1;
    for (int64_t d : dims()) n *= d;
    return n;
  }
  // The elements in memory order (constants are row major and dense). Failure when the type is another one.
  template <class T>
  Span<T> values() const {
    if (t_->dtype != dtype_of<std::remove_const_t<T>>::value)
      throw Failure(QUERN_INVALID_ARGUMENT, "a tensor has type " + std::to_string(t_->dtype) + ", not the one asked for");
    return {static_cast<T*>(t_->data), static_cast<size_t>(count())};
  }

 private:
  const quern_tensor* t_ = nullptr;
};

// A dense row-major tensor of a plugin's own data, to be handed to the host for one call.
class OwnTensor {
 public:
  template <class T>
  OwnTensor(Span<const T> data, std::vector<int64_t> dims) : dims_(std::move(dims)), strides_(dims_.size()), t_(make<quern_tensor>()) {
    int64_t n = 1;
    for (size_t i = dims_.size(); i-- > 0;) { strides_[i] = n; n *= dims_[i]; }
    t_.data = const_cast<T*>(data.data());
    t_.bytes = static_cast<uint64_t>(n) * sizeof(T);
    t_.dtype = dtype_of<T>::value;
    t_.rank = static_cast<uint32_t>(dims_.size());
    t_.dims = dims_.data();
    t_.strides = strides_.data();
  }
  OwnTensor(OwnTensor&&) = default;  // moved vectors keep their memory, so the pointers stay right
  const quern_tensor& raw() const { return t_; }

 private:
  std::vector<int64_t> dims_, strides_;
  quern_tensor t_;
};

// real = (q - zero_point) * scale. Not there (operator bool) for float and index operands.
class QuantView {
 public:
  explicit QuantView(const quern_quant* q = nullptr) : q_(q) {}
  explicit operator bool() const { return q_ != nullptr; }
  const quern_quant& raw() const { return *q_; }
  uint32_t bits() const { return q_->bits; }
  bool is_signed() const { return q_->is_signed != 0; }
  int64_t qmin() const { return q_->qmin; }
  int64_t qmax() const { return q_->qmax; }
  int32_t axis() const { return q_->axis; }
  bool per_tensor() const { return q_->axis < 0; }
  size_t count() const { return q_->count; }
  float scale(size_t channel = 0) const { return q_->scale[q_->count == 1 ? 0 : channel]; }
  int64_t zero_point(size_t channel = 0) const { return q_->zero_point[q_->count == 1 ? 0 : channel]; }

 private:
  const quern_quant* q_;
};

// ---- operators ---------------------------------------------------------------------------------------------------
// Attributes of a node of a unit (quern_node) or of a graph (quern_node_view), with defaults.
template <class Raw>
class Attributes {
 public:
  explicit Attributes(const Raw& raw) : raw_(&raw) {}
  const Raw& raw() const { return *raw_; }
  std::string_view op() const { return view(raw_->op); }
  std::string_view name() const { return view(raw_->name); }
  const quern_attr* find(std::string_view name) const {
    for (uint32_t i = 0; i < raw_->n_attrs; ++i)
      if (view(raw_->attrs[i]->name) == name) return raw_->attrs[i];
    return nullptr;
  }
  bool has(std::string_view name) const { return find(name) != nullptr; }
  int64_t integer(std::string_view name, int64_t fallback) const {
    const quern_attr* a = typed(name, QUERN_ATTR_INT);
    return a ? a->i : fallback;
  }
  float real(std::string_view name, float fallback) const {
    const quern_attr* a = typed(name, QUERN_ATTR_FLOAT);
    return a ? a->f : fallback;
  }
  std::string_view text(std::string_view name, std::string_view fallback) const {
    const quern_attr* a = typed(name, QUERN_ATTR_STRING);
    return a ? view(a->s) : fallback;
  }
  std::vector<int64_t> integers(std::string_view name, std::vector<int64_t> fallback = {}) const {
    const quern_attr* a = typed(name, QUERN_ATTR_INTS);
    return a ? std::vector<int64_t>(a->ints, a->ints + a->count) : fallback;
  }
  std::vector<float> reals(std::string_view name, std::vector<float> fallback = {}) const {
    const quern_attr* a = typed(name, QUERN_ATTR_FLOATS);
    return a ? std::vector<float>(a->floats, a->floats + a->count) : fallback;
  }

 private:
  const quern_attr* typed(std::string_view name, uint32_t kind) const {
    const quern_attr* a = find(name);
    if (a && a->kind != kind)
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op()) + ": attribute " + std::string(name) + " has an unexpected type");
    return a;
  }
  const Raw* raw_;
};

class NodeView : public Attributes<quern_node> {
 public:
  using Attributes::Attributes;
  int32_t since_version() const { return raw().since_version; }
  std::string_view domain() const { return view(raw().domain); }
  Span<const int32_t> inputs() const { return {raw().inputs, raw().n_inputs}; }
};

class OperandView {
 public:
  explicit OperandView(const quern_operand* o = nullptr) : o_(o) {}
  explicit operator bool() const { return o_ != nullptr; }
  const quern_operand& raw() const { return *o_; }
  std::string_view role() const { return view(o_->role); }
  std::string_view value() const { return view(o_->value); }
  TensorView tensor() const { return o_->tensor; }
  uint32_t dtype() const { return o_->tensor.dtype; }
  bool is_constant() const { return o_->tensor.data != nullptr; }
  QuantView quant() const { return QuantView(o_->quant); }

 private:
  const quern_operand* o_;
};

class OpView {
 public:
  explicit OpView(const quern_op& op) : op_(&op) {}
  const quern_op& raw() const { return *op_; }
  std::string_view name() const { return view(op_->name); }
  std::string_view contract() const { return view(op_->contract); }
  std::string_view config() const { return view(op_->config); }
  size_t nodes() const { return op_->n_nodes; }
  NodeView node(size_t i) const { return NodeView(*op_->nodes[i]); }
  std::string_view op() const { return node(0).op(); }  // of the first member, which gives the kernel its form
  size_t inputs() const { return op_->n_inputs; }
  OperandView input_at(size_t i) const { return OperandView(op_->inputs[i]); }
  size_t outputs() const { return op_->n_outputs; }
  OperandView output(size_t i = 0) const { return OperandView(op_->outputs[i]); }
  OperandView find(std::string_view role) const {  // none: an OperandView that is false
    for (size_t i = 0; i < inputs(); ++i)
      if (input_at(i).role() == role) return input_at(i);
    return OperandView();
  }
  bool has(std::string_view role) const { return static_cast<bool>(find(role)); }
  OperandView input(std::string_view role) const {
    OperandView o = find(role);
    if (!o) throw Failure(QUERN_INVALID_ARGUMENT, std::string(name()) + ": no operand " + std::string(role));
    return o;
  }
  // The i-th operand that is not a constant: what execute gets, in this order.
  std::vector<OperandView> variable_inputs() const {
    std::vector<OperandView> out;
    for (size_t i = 0; i < inputs(); ++i)
      if (!input_at(i).is_constant()) out.push_back(input_at(i));
    return out;
  }
  const quern_tensor* find_table(std::string_view name) const {
    for (uint32_t i = 0; i < op_->n_tables; ++i)
      if (view(op_->tables[i]->name) == name) return &op_->tables[i]->tensor;
    return nullptr;
  }
  template <class T>
  Span<const T> table(std::string_view table_name) const {
    const quern_tensor* t = find_table(table_name);
    if (!t) throw Failure(QUERN_INVALID_ARGUMENT, std::string(name()) + ": no derived table " + std::string(table_name));
    return TensorView(*t).values<const T>();
  }

 private:
  const quern_op* op_;
};

// ---- sinks -------------------------------------------------------------------------------------------------------
class TableSink {
 public:
  explicit TableSink(const quern_table_sink& sink) : sink_(&sink) {}
  template <class T>
  void emit(std::string_view name, Span<const T> values, const std::vector<int64_t>& dims) {
    int64_t n = 1;
    for (int64_t d : dims) n *= d;
    if (n != static_cast<int64_t>(values.size())) throw Failure(QUERN_INTERNAL, "table " + std::string(name) + ": dims and size differ");
    check(sink_->emit(sink_->self, str(name), dtype_of<T>::value, static_cast<uint32_t>(dims.size()), dims.data(), values.data()));
  }
  template <class T>
  void emit(std::string_view name, const std::vector<T>& values) {
    emit(name, Span<const T>(values), {static_cast<int64_t>(values.size())});
  }
  template <class T>
  void emit(std::string_view name, const std::vector<T>& values, const std::vector<int64_t>& dims) {
    emit(name, Span<const T>(values), dims);
  }
  template <class T, class = std::enable_if_t<std::is_arithmetic<T>::value>>
  void emit(std::string_view name, T value) { emit(name, Span<const T>(&value, 1), {}); }

 private:
  const quern_table_sink* sink_;
};

}  // namespace quern_sdk
