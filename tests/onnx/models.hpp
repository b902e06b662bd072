// Small ONNX models written by hand, good and hostile, for the tests of this room.
#pragma once
#include <onnx/onnx_pb.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/onnx/onnx.hpp"

namespace quern::test {

inline onnx::ModelProto empty_model(int64_t opset = 13, int64_t ir = 8) {
  onnx::ModelProto m;
  m.set_ir_version(ir);
  auto* o = m.add_opset_import();
  o->set_domain("");
  o->set_version(opset);
  m.mutable_graph()->set_name("g");
  return m;
}

inline onnx::ValueInfoProto* describe(onnx::ValueInfoProto* v, const std::string& name, std::vector<int64_t> dims, int type = 1) {
  v->set_name(name);
  auto* t = v->mutable_type()->mutable_tensor_type();
  t->set_elem_type(type);
  for (int64_t d : dims) {
    auto* dim = t->mutable_shape()->add_dim();
    if (d >= 0) dim->set_dim_value(d);
    else dim->set_dim_param("N");
  }
  return v;
}

inline onnx::NodeProto* add_node(onnx::ModelProto& m, const std::string& op, std::vector<std::string> in, std::vector<std::string> out,
                                 const std::string& name = "") {
  auto* n = m.mutable_graph()->add_node();
  n->set_op_type(op);
  n->set_name(name);
  for (auto& i : in) n->add_input(i);
  for (auto& o : out) n->add_output(o);
  return n;
}

inline onnx::AttributeProto* add_ints(onnx::NodeProto* n, const std::string& name, std::vector<int64_t> v) {
  auto* a = n->add_attribute();
  a->set_name(name);
  a->set_type(onnx::AttributeProto::INTS);
  for (int64_t i : v) a->add_ints(i);
  return a;
}
inline void add_int(onnx::NodeProto* n, const std::string& name, int64_t v) {
  auto* a = n->add_attribute();
  a->set_name(name);
  a->set_type(onnx::AttributeProto::INT);
  a->set_i(v);
}
inline void add_float(onnx::NodeProto* n, const std::string& name, float v) {
  auto* a = n->add_attribute();
  a->set_name(name);
  a->set_type(onnx::AttributeProto::FLOAT);
  a->set_f(v);
}

inline onnx::TensorProto* add_floats(onnx::ModelProto& m, const std::string& name, std::vector<int64_t> dims, std::vector<float> v) {
  auto* t = m.mutable_graph()->add_initializer();
  t->set_name(name);
  t->set_data_type(1);
  for (int64_t d : dims) t->add_dims(d);
  t->set_raw_data(v.data(), v.size() * sizeof(float));
  return t;
}

// x [N,2] -> Relu -> y
inline onnx::ModelProto relu_model(int64_t opset = 13, int64_t ir = 8) {
  auto m = empty_model(opset, ir);
  describe(m.mutable_graph()->add_input(), "x", {-1, 2});
  describe(m.mutable_graph()->add_output(), "y", {-1, 2});
  add_node(m, "Relu", {"x"}, {"y"}, "relu");
  return m;
}

inline Graph import(const onnx::ModelProto& m, const fs::path& folder = {}) {
  const std::string bytes = m.SerializeAsString();
  return import_onnx_bytes(std::as_bytes(std::span(bytes.data(), bytes.size())), "test.onnx", folder);
}

// The text of the one clear error that `f` must end in; it must be the model's and name the file.
inline std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::model) return std::string("error of another kind: ") + e.what();
    if (e.file().empty()) return std::string("no file named: ") + e.what();
    return e.what();
  } catch (const std::exception& e) {
    return std::string("not an Error: ") + e.what();
  }
  return "accepted";
}
inline std::string refusal(const onnx::ModelProto& m, const fs::path& folder = {}) { return refusal([&] { import(m, folder); }); }

}  // namespace quern::test
