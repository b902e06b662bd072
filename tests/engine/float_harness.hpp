// Runs one operator through the own float provider, without an engine: prepare on a graph of one node, run on views.
//
//   auto y = FloatOp("Relu", 14).in(x).run()[0];
//
// Options: operands in channels-last order, output 0 in the memory of input 0, inputs as constants. Output memory is filled
// with 0xCD before the run, so that an element nobody wrote is seen.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "core/base/error.hpp"
#include "core/engine/provider.hpp"
#include "core/graph/shapes.hpp"

namespace quern::test {

class FloatOp {
 public:
  FloatOp(std::string op, int since_version) { node_.name = "node"; node_.op = std::move(op); node_.since_version = since_version; }
  FloatOp& in(Tensor t) { inputs_.push_back({std::move(t), false}); return *this; }
  FloatOp& constant(Tensor t) { inputs_.push_back({std::move(t), true}); return *this; }
  FloatOp& absent() { inputs_.push_back({}); return *this; }
  FloatOp& with(const std::string& key, Attribute value) { node_.attributes[key] = std::move(value); return *this; }
  FloatOp& outputs(size_t n) { outputs_ = n; return *this; }
  FloatOp& channels_last() { channels_last_ = true; return *this; }
  FloatOp& in_place() { in_place_ = true; return *this; }

  // Nothing where the provider declines.
  std::optional<std::vector<Tensor>> try_run() {
    Graph graph;
    Node node = node_;
    std::vector<ValueId> fed;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].tensor.empty()) { node.inputs.push_back(no_value); continue; }
      const std::string name = "in" + std::to_string(i);
      if (inputs_[i].constant) {
        node.inputs.push_back(graph.add_constant(name, inputs_[i].tensor));
      } else {
        node.inputs.push_back(graph.add_value(name, inputs_[i].tensor.type(), inputs_[i].tensor.dims()));
        fed.push_back(node.inputs.back());
      }
    }
    for (size_t i = 0; i < outputs_; ++i) node.outputs.push_back(graph.add_value("out" + std::to_string(i)));
    graph.set_inputs(fed);
    const NodeId id = graph.add_node(node);
    graph.set_outputs(graph.node(id).outputs);
    infer_shapes(graph);
    return run_in(graph, id);
  }
  std::vector<Tensor> run() {
    auto made = try_run();
    if (!made) throw Error(ErrorCode::internal, "the provider declined " + node_.op);
    return *made;
  }
  PreparedKernel prepared;  // of the last run

 private:
  struct Input { Tensor tensor; bool constant = false; };
  struct Memory { std::vector<char> bytes; Dims dims, strides; TensorView view; };

  static void lay_out(Memory& m, DType type, Dims dims, Layout layout) {
    m.strides = layout == Layout::channels_last ? channels_last_strides(dims) : row_major_strides(dims);
    m.dims = std::move(dims);
    m.bytes.assign(static_cast<size_t>(element_count(m.dims)) * size_of(type) + 64, static_cast<char>(0xCD));
    m.view = {m.bytes.data(), type, m.dims, m.strides};
  }

  std::optional<std::vector<Tensor>> run_in(const Graph& graph, NodeId id) {
    const Node& node = graph.node(id);
    KernelRequest request{.graph = graph, .members = {id}, .inputs = {}, .outputs = {}, .input_values = {}, .output_values = node.outputs, .threads = 1};
    std::vector<const Tensor*> data;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == no_value) continue;
      request.input_values.push_back(v);
      const Tensor& t = inputs_[i].tensor;
      data.push_back(&t);
      request.inputs.push_back({.dtype = t.type(), .dims = t.dims(), .layout = channels_last_ && !inputs_[i].constant ? Layout::channels_last : Layout::row_major,
                                .constant = inputs_[i].constant ? &t : nullptr});
    }
    for (ValueId v : node.outputs) request.outputs.push_back({.dtype = graph.value(v).dtype, .dims = graph.value(v).shape.value()});
    auto made = own_float_provider()->prepare(request);
    if (!made) return {};
    prepared = std::move(*made);
    EXPECT_TRUE(prepared.portable);
    EXPECT_EQ(prepared.input_layouts.size(), request.inputs.size());
    EXPECT_EQ(prepared.output_layouts.size(), request.outputs.size());
    const Layout came = channels_last_ ? Layout::channels_last : Layout::row_major;
    std::vector<Memory> in(request.inputs.size()), out(request.outputs.size());
    std::vector<TensorView> in_views, out_views;
    for (size_t i = 0; i < in.size(); ++i) {
      const Layout wanted = prepared.input_layouts[i];
      lay_out(in[i], request.inputs[i].dtype, request.inputs[i].dims, request.inputs[i].constant ? Layout::row_major : wanted == Layout::any ? came : wanted);
      const Dims plain = row_major_strides(in[i].dims);
      if (element_count(in[i].dims) > 0) copy({const_cast<void*>(data[i]->data()), data[i]->type(), in[i].dims, plain}, in[i].view);
      in_views.push_back(in[i].view);
      if (request.inputs[i].constant) in_views.back().data = nullptr;  // the engine need not pass constants
    }
    for (size_t i = 0; i < out.size(); ++i) {
      const Layout wanted = prepared.output_layouts[i];
      lay_out(out[i], request.outputs[i].dtype, request.outputs[i].dims, wanted == Layout::any ? came : wanted);
      if (i == 0 && in_place_) {
        if (!prepared.may_alias) throw Error(ErrorCode::internal, node_.op + " does not run in place");
        out[0].view.data = in_views.at(0).data;
      }
      out_views.push_back(out[i].view);
    }
    std::vector<char> workspace(prepared.kernel->workspace_bytes() + 64);
    prepared.kernel->run(in_views, out_views, workspace.data(), nullptr);
    std::vector<Tensor> results;
    for (size_t i = 0; i < out.size(); ++i) {
      Tensor t(request.outputs[i].dtype, out[i].dims);
      const Dims plain = row_major_strides(out[i].dims);
      if (t.count() > 0) copy(out_views[i], {t.mutable_bytes(), t.type(), t.dims(), plain});
      if (!(i == 0 && in_place_)) {
        const char* end = out[i].bytes.data() + t.bytes();
        EXPECT_TRUE(std::all_of(end, end + 64, [](char c) { return c == static_cast<char>(0xCD); })) << node_.op << " wrote behind its output";
      }
      results.push_back(std::move(t));
    }
    return results;
  }

  Node node_;
  std::vector<Input> inputs_;
  size_t outputs_ = 1;
  bool channels_last_ = false, in_place_ = false;
};

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.type() == b.type() && a.dims() == b.dims() && (a.bytes() == 0 || std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

class Random {
 public:
  explicit Random(unsigned seed = 1) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) { return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1)); }
  double real(double low, double high) { return low + (high - low) * (static_cast<double>(engine_()) / 4294967296.0); }
  template <class T = float>
  Tensor tensor(Dims dims, double low = -3, double high = 3) {
    Tensor t(dtype_of<T>::value, std::move(dims));
    for (T& v : t.mutable_values<T>()) v = static_cast<T>(std::is_integral_v<T> ? static_cast<double>(integer(static_cast<int64_t>(low), static_cast<int64_t>(high))) : real(low, high));
    return t;
  }
  Dims dims(int rank, int64_t low = 1, int64_t high = 5) {
    Dims d;
    for (int i = 0; i < rank; ++i) d.push_back(integer(low, high));
    return d;
  }

 private:
  std::mt19937 engine_;
};

// The place of every element, in row-major order.
template <class F>
void for_each_place(const Dims& dims, const F& f) {
  if (element_count(dims) == 0) return;
  Dims at(dims.size(), 0);
  for (;;) {
    f(at);
    size_t a = dims.size();
    for (;;) {
      if (a == 0) return;
      --a;
      if (++at[a] < dims[a]) break;
      at[a] = 0;
    }
  }
}
inline size_t flat(const Dims& dims, const Dims& at) {
  int64_t i = 0;
  for (size_t a = 0; a < dims.size(); ++a) i = i * dims[a] + at[a];
  return static_cast<size_t>(i);
}

}  // namespace quern::test
