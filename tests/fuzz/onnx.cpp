// ONNX models: import (external data beside the model included), the rewrites with folding, shapes, export.
//
// Random bytes seldom get past protobuf, so half of the changes are made in the parsed model: attributes, dimensions,
// operators, wires.
#include <onnx/onnx_pb.h>

#include <random>
#include <set>

#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"
#include "tests/fuzz/fuzzing.hpp"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace quern::fuzz {
namespace {

const std::string& folder() {
  static const std::string path = [] {
    const std::string at = memory_folder();
    write_file(fs::path(at) / "w.bin", std::string(1 << 17, '\1'));
    return at;
  }();
  return path;
}

onnx::ModelProto external_model(const std::string& location, int64_t elements) {
  onnx::ModelProto m;
  m.set_ir_version(8);
  m.add_opset_import()->set_version(13);
  auto* g = m.mutable_graph();
  g->set_name("g");
  auto* t = g->add_initializer();
  t->set_name("w");
  t->set_data_type(1);
  t->add_dims(elements);
  t->set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : {std::pair<std::string, std::string>{"location", location}, {"offset", "64"}, {"length", std::to_string(elements * 4)}}) {
    auto* e = t->add_external_data();
    e->set_key(key);
    e->set_value(value);
  }
  auto* in = g->add_input();
  in->set_name("x");
  in->mutable_type()->mutable_tensor_type()->set_elem_type(1);
  in->mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(elements);
  auto* n = g->add_node();
  n->set_op_type("Add");
  n->add_input("x");
  n->add_input("w");
  n->add_output("y");
  auto* out = g->add_output();
  out->set_name("y");
  out->mutable_type()->mutable_tensor_type()->set_elem_type(1);
  return m;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  void change(onnx::ModelProto& model) {
    onnx::GraphProto& g = *model.mutable_graph();
    if (below(16) == 0 && model.opset_import_size()) {
      model.mutable_opset_import(0)->set_version(7 + below(15));
      return;
    }
    switch (below(10)) {
      case 0: case 1: case 2:
        if (auto* n = pick(g.mutable_node())) attribute(*n);
        return;
      case 3:
        if (auto* n = pick(g.mutable_node())) wire(g, *n);
        return;
      case 4:
        if (auto* n = pick(g.mutable_node())) n->set_op_type(pick_word());
        return;
      case 5: case 6:
        if (auto* t = pick(g.mutable_initializer())) tensor(*t);
        return;
      case 7:
        if (auto* v = pick(below(2) ? g.mutable_input() : g.mutable_value_info())) describe(*v);
        return;
      case 8:
        if (auto* n = pick(g.mutable_node()))
          if (n->input_size()) {
            if (below(2)) n->mutable_input()->RemoveLast();
            else n->add_input(names(g));
          }
        return;
      default:
        if (g.node_size() && g.node_size() < 12) {
          auto* n = g.add_node();
          *n = g.node(below(g.node_size() - 1));
          for (auto& out : *n->mutable_output()) out += "_";
          if (below(2) && n->output_size()) g.add_output()->set_name(n->output(0));
        }
    }
  }

 private:
  std::mt19937 random_;
  int below(int n) { return n > 0 ? static_cast<int>(random_() % static_cast<unsigned>(n)) : 0; }
  template <class R> auto pick(R* list) -> decltype(list->Mutable(0)) { return list->empty() ? nullptr : list->Mutable(below(list->size())); }

  int64_t whole() {
    static const int64_t odd[] = {0,  1,  -1, 2,  3,  -2, 4,  7,  8,  16, 31, 64,  127, 128, 255, 256, 1000, 65535, 1 << 20, INT32_MAX, INT32_MIN, 1ll << 32, 1ll << 40, 1ll << 62, INT64_MAX, INT64_MIN};
    return odd[below(std::size(odd))];
  }
  float real() {
    static const float odd[] = {0, -0.0f, 1, -1, 0.5f, 2, 1e-40f, 1e38f, INFINITY, -INFINITY, NAN, 255, 1e9f, -1e20f};
    return odd[below(std::size(odd))];
  }
  std::string pick_word() {
    const auto& gates = operator_gates();
    return gates[static_cast<size_t>(below(static_cast<int>(gates.size())))].op;
  }
  std::string names(const onnx::GraphProto& g) {
    std::vector<std::string> all{""};
    for (const auto& i : g.input()) all.push_back(i.name());
    for (const auto& i : g.initializer()) all.push_back(i.name());
    for (const auto& n : g.node()) for (const auto& o : n.output()) all.push_back(o);
    return all[static_cast<size_t>(below(static_cast<int>(all.size())))];
  }
  void wire(onnx::GraphProto& g, onnx::NodeProto& n) {
    if (n.input_size()) n.set_input(below(n.input_size()), names(g));
  }
  void attribute(onnx::NodeProto& n) {
    static const char* const known[] = {"axis", "axes", "group", "strides", "pads", "dilations", "kernel_shape", "auto_pad", "ceil_mode", "count_include_pad", "keepdims", "perm", "alpha", "beta", "transA", "transB", "epsilon", "to", "mode", "blocksize", "output_padding", "output_shape", "hidden_size", "direction", "layout", "equation", "split", "num_outputs", "coordinate_transformation_mode", "nearest_mode", "exclude_outside", "allowzero", "noop_with_empty_axes", "batch_dims", "select_last_index", "size", "largest", "sorted", "exclusive", "reverse", "p", "storage_order", "num_groups", "value_ints", "shape"};
    if (n.attribute_size() == 0 || below(5) == 0) {
      auto* a = n.add_attribute();
      a->set_name(known[below(std::size(known))]);
      if (below(2)) {
        a->set_type(onnx::AttributeProto::INT);
        a->set_i(whole());
      } else {
        a->set_type(onnx::AttributeProto::INTS);
        for (int k = below(5); k > 0; --k) a->add_ints(whole());
      }
      return;
    }
    auto& a = *n.mutable_attribute(below(n.attribute_size()));
    switch (a.type()) {
      case onnx::AttributeProto::INT: a.set_i(whole()); break;
      case onnx::AttributeProto::FLOAT: a.set_f(real()); break;
      case onnx::AttributeProto::INTS:
        if (a.ints_size() && below(3)) a.set_ints(below(a.ints_size()), whole());
        else if (a.ints_size() && below(2)) a.mutable_ints()->RemoveLast();
        else a.add_ints(whole());
        break;
      case onnx::AttributeProto::FLOATS: if (a.floats_size()) a.set_floats(below(a.floats_size()), real()); break;
      case onnx::AttributeProto::TENSOR: tensor(*a.mutable_t()); break;
      case onnx::AttributeProto::GRAPH:
        if (auto* inner = pick(a.mutable_g()->mutable_node())) below(2) ? attribute(*inner) : wire(*a.mutable_g(), *inner);
        break;
      default: n.mutable_attribute()->RemoveLast();
    }
  }
  void tensor(onnx::TensorProto& t) {
    switch (below(6)) {
      case 0: if (t.dims_size()) t.set_dims(below(t.dims_size()), whole()); break;
      case 1: t.add_dims(whole()); break;
      case 2: if (t.dims_size()) t.mutable_dims()->RemoveLast(); break;
      case 3: t.set_data_type(below(18)); break;
      case 4:
        if (auto* e = pick(t.mutable_external_data())) {
          static const char* const odd[] = {"", "w.bin", "../w.bin", "/etc/passwd", "./w.bin", "0", "-1", "4096", "18446744073709551615", "w.bin/", "."};
          e->set_value(odd[below(std::size(odd))]);
        }
        break;
      default: values(t);
    }
  }
  // A small tensor of shapes, axes or sizes gets another number and stays well formed.
  void values(onnx::TensorProto& t) {
    if (t.int64_data_size()) t.set_int64_data(below(t.int64_data_size()), whole());
    else if (t.float_data_size()) t.set_float_data(below(t.float_data_size()), real());
    else if (t.int32_data_size()) t.set_int32_data(below(t.int32_data_size()), static_cast<int>(whole()));
    else if (t.data_type() == 7 && t.raw_data().size() >= 8) {
      const int64_t v = whole();
      t.mutable_raw_data()->replace(8 * static_cast<size_t>(below(static_cast<int>(t.raw_data().size() / 8))), 8, reinterpret_cast<const char*>(&v), 8);
    } else if (t.data_type() == 1 && t.raw_data().size() >= 4) {
      const float v = real();
      t.mutable_raw_data()->replace(4 * static_cast<size_t>(below(static_cast<int>(t.raw_data().size() / 4))), 4, reinterpret_cast<const char*>(&v), 4);
    }
  }
  void describe(onnx::ValueInfoProto& v) {
    auto* type = v.mutable_type()->mutable_tensor_type();
    if (below(4) == 0) { type->set_elem_type(below(18)); return; }
    if (auto* d = pick(type->mutable_shape()->mutable_dim())) {
      if (below(3) == 0) d->set_dim_param("N");
      else d->set_dim_value(whole());
    } else {
      type->mutable_shape()->add_dim()->set_dim_value(whole());
    }
  }
};

}  // namespace

std::vector<Seed> seeds() {
  std::vector<Seed> out{{"digits", source_file("examples/digits/digits.onnx")},
                        {"external", external_model("w.bin", 1000).SerializeAsString()},
                        {"external_mapped", external_model("w.bin", 20000).SerializeAsString()},
                        {"external_outside", external_model("../../etc/hostname", 4).SerializeAsString()}};
  return out;
}

}  // namespace quern::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 4 == 0 || !model.ParseFromArray(data, static_cast<int>(size))) return LLVMFuzzerMutate(data, size, max_size);
  quern::fuzz::Mutator mutator(seed);
  for (unsigned n = 1 + seed / 4 % 3; n > 0; --n) mutator.change(model);
  const std::string out = model.SerializeAsString();
  if (out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  fuzz::tolerate([&] {
    Graph graph = import_onnx_bytes({reinterpret_cast<const std::byte*>(data), size}, "fuzz.onnx", fuzz::folder());
    std::map<std::string, Dims> shapes;
    for (ValueId id : graph.inputs())
      if (graph.value(id).shape) {
        Dims dims = *graph.value(id).shape;
        for (int64_t& d : dims) d = d < 0 ? 2 : d;
        shapes[graph.value(id).name] = dims;
      }
    fuzz::tolerate([&] { shapes_for(graph, shapes); });
    canonicalize(graph, evaluate_constant_node);
    graph.check();
    infer_shapes(graph);
    fuzz::tolerate([&] { shapes_for(graph, shapes); });
    std::string written;
    if (!fuzz::tolerate([&] { written = export_onnx(graph); })) return;
    import_onnx_bytes(std::as_bytes(std::span(written.data(), written.size())), "written.onnx");
  });
  return 0;
}
