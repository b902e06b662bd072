#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <climits>
#include <limits>
#include <set>

#include "core/base/error.hpp"
#include "core/onnx/operator_gate.hpp"
#include "core/onnx/tensor_proto.hpp"

namespace quern {
namespace {

// The first IR that may carry an opset; older readers refuse other pairs.
int64_t ir_for(int64_t opset) {
  return opset <= 18 ? 8 : opset <= 20 ? 9 : opset <= 22 ? 10 : opset == 23 ? 11 : opset == 24 ? 12 : 13;
}

struct OpsetNeed { int64_t low = 13, high = newest_known_opset(); std::string low_node, high_node; };

void collect(const Graph& graph, OpsetNeed& need, std::set<std::string>& domains) {
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    if (n.domain == "quern")
      throw Error(ErrorCode::internal, fmt::format("quern.{} can't be written as ONNX", n.op)).at_node(n.name);
    domains.insert(n.domain);
    if (!n.domain.empty()) continue;
    const auto [low, high] = opset_range(n.op, n.since_version);
    if (low > need.low) { need.low = low; need.low_node = n.name; }
    if (high < need.high) { need.high = high; need.high_node = n.name; }
    for (const auto& [key, value] : n.attributes)
      if (auto* inner = std::get_if<std::shared_ptr<const Graph>>(&value)) collect(**inner, need, domains);
  }
}

class Writer {
 public:
  // Initializers of at least this many bytes are left to the caller.
  size_t large = std::numeric_limits<size_t>::max();
  std::vector<ValueId> left;

  // `outer`: the names under which a branch finds what it takes from around it.
  void write(const Graph& graph, onnx::GraphProto* out, const std::map<ValueId, std::string>& outer = {}) {
    const bool branch = captures_;
    auto name_of_value = [&](ValueId id) -> const std::string& {
      static const std::string none;
      if (id == no_value) return none;
      auto it = outer.find(id);
      return it == outer.end() ? graph.value(id).name : it->second;
    };
    out->set_name(graph.name.empty() ? "graph" : graph.name);
    std::vector<char> used(graph.value_slots(), 0);
    for (ValueId id : graph.outputs()) used[static_cast<size_t>(id)] = 1;
    for (NodeId id : graph.order()) {
      const Node& n = graph.node(id);
      auto* node = out->add_node();
      node->set_name(n.name);
      node->set_op_type(n.op);
      node->set_domain(n.domain);
      const auto captured = captured_names(n);
      for (size_t i = 0; i < n.inputs.size() - captured.size(); ++i) {
        node->add_input(name_of_value(n.inputs[i]));
        if (n.inputs[i] != no_value) used[static_cast<size_t>(n.inputs[i])] = 1;
      }
      for (size_t i = n.inputs.size() - captured.size(); i < n.inputs.size(); ++i) used[static_cast<size_t>(n.inputs[i])] = 1;
      for (ValueId v : n.outputs) node->add_output(name_of_value(v));
      for (const auto& [key, value] : n.attributes) {
        if (key == "quern.captured") continue;
        auto* a = node->add_attribute();
        a->set_name(key);
        if (auto* inner = std::get_if<std::shared_ptr<const Graph>>(&value)) {
          std::map<ValueId, std::string> names;
          const Graph& g = **inner;
          for (ValueId in : g.inputs()) {
            auto at = std::find(captured.begin(), captured.end(), g.value(in).name);
            if (at != captured.end())
              names[in] = name_of_value(n.inputs[n.inputs.size() - captured.size() + static_cast<size_t>(at - captured.begin())]);
          }
          a->set_type(onnx::AttributeProto::GRAPH);
          captures_ = true;
          write(g, a->mutable_g(), names);
          captures_ = branch;
        } else {
          put(value, a);
        }
      }
    }
    for (size_t i = 0; i < used.size(); ++i) {
      const Value& v = graph.value(static_cast<ValueId>(i));
      if (!used[i] || !v.constant) continue;
      if (!branch && v.constant->bytes() >= large) left.push_back(static_cast<ValueId>(i));
      else put_tensor(*v.constant, v.name, out->add_initializer());
    }
    for (ValueId id : graph.inputs())
      if (!outer.count(id)) put(graph.value(id), out->add_input());
    for (ValueId id : graph.outputs()) {
      auto* info = out->add_output();
      put(graph.value(id), info);
      info->set_name(name_of_value(id));
    }
  }

 private:
  static std::vector<std::string> captured_names(const Node& n) {
    auto it = n.attributes.find("quern.captured");
    if (it == n.attributes.end()) return {};
    const auto* names = std::get_if<std::vector<std::string>>(&it->second);
    return names && names->size() <= n.inputs.size() ? *names : std::vector<std::string>{};
  }

  static void put(const Attribute& value, onnx::AttributeProto* a) {
    if (auto* i = std::get_if<int64_t>(&value)) { a->set_type(onnx::AttributeProto::INT); a->set_i(*i); }
    else if (auto* f = std::get_if<float>(&value)) { a->set_type(onnx::AttributeProto::FLOAT); a->set_f(*f); }
    else if (auto* s = std::get_if<std::string>(&value)) { a->set_type(onnx::AttributeProto::STRING); a->set_s(*s); }
    else if (auto* is = std::get_if<std::vector<int64_t>>(&value)) {
      a->set_type(onnx::AttributeProto::INTS);
      for (int64_t v : *is) a->add_ints(v);
    } else if (auto* fs = std::get_if<std::vector<float>>(&value)) {
      a->set_type(onnx::AttributeProto::FLOATS);
      for (float v : *fs) a->add_floats(v);
    } else if (auto* ss = std::get_if<std::vector<std::string>>(&value)) {
      a->set_type(onnx::AttributeProto::STRINGS);
      for (const auto& v : *ss) a->add_strings(v);
    } else if (auto* t = std::get_if<Tensor>(&value)) {
      a->set_type(onnx::AttributeProto::TENSOR);
      put_tensor(*t, "", a->mutable_t());
    }
  }

  static void put(const Value& v, onnx::ValueInfoProto* info) {
    info->set_name(v.name);
    auto* type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(static_cast<int32_t>(v.dtype));
    if (!v.shape) return;
    auto* shape = type->mutable_shape();
    for (size_t i = 0; i < v.shape->size(); ++i) {
      auto* dim = shape->add_dim();
      if ((*v.shape)[i] >= 0) dim->set_dim_value((*v.shape)[i]);
      else if (i < v.dim_names.size() && !v.dim_names[i].empty()) dim->set_dim_param(v.dim_names[i]);
    }
  }

  bool captures_ = false;
};

size_t constant_bytes(const Graph& graph) {
  size_t n = 0;
  for (size_t i = 0; i < graph.value_slots(); ++i)
    if (const auto& c = graph.value(static_cast<ValueId>(i)).constant) n += c->bytes();
  return n;
}

// Everything but the graph.
onnx::ModelProto model_of(const Graph& graph, const ExportOptions& options) {
  OpsetNeed need;
  std::set<std::string> domains{""};
  collect(graph, need, domains);
  const int64_t opset = options.opset > 0 ? options.opset : need.low;
  if (opset < need.low && !need.low_node.empty())
    throw Error(ErrorCode::model, fmt::format("can't be written with opset {}: it needs {}", opset, need.low)).at_node(need.low_node);
  if (opset > need.high)
    throw Error(ErrorCode::model, fmt::format("can't be written with opset {}: its definition ends with {}", opset, need.high))
        .at_node(need.high_node);
  onnx::ModelProto model;
  model.set_ir_version(std::max(options.ir_version, ir_for(opset)));
  model.set_producer_name(options.producer);
  if (!options.producer_version.empty()) model.set_producer_version(options.producer_version);
  for (const std::string& domain : domains) {
    auto* set = model.add_opset_import();
    set->set_domain(domain);
    set->set_version(domain.empty() ? opset : 1);
  }
  for (const auto& [key, value] : graph.metadata) {
    auto* property = model.add_metadata_props();
    property->set_key(key);
    property->set_value(value);
  }
  return model;
}

std::string bytes_of(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > static_cast<size_t>(INT_MAX))
    throw Error(ErrorCode::model, "the model is larger than 2 GB, which a single ONNX file can't hold");
  std::string bytes;
  bytes.reserve(size);
  {
    google::protobuf::io::StringOutputStream raw(&bytes);
    google::protobuf::io::CodedOutputStream out(&raw);
    out.SetSerializationDeterministic(true);
    if (!message.SerializeToCodedStream(&out)) throw Error(ErrorCode::internal, "the ONNX model can't be written");
  }
  return bytes;
}

// Protobuf's number, and the head of a field that has a length.
std::string number(uint64_t v) {
  std::string s;
  for (; v >= 128; v >>= 7) s += static_cast<char>(v % 128 + 128);
  return s + static_cast<char>(v);
}
std::string field(int id, uint64_t length) { return number(static_cast<uint64_t>(id) << 3 | 2) + number(length); }

}  // namespace

namespace {

// The graph with operators newer than its opset written out, where that helps.
std::optional<Graph> expanded_for(const Graph& graph, const ExportOptions& options) {
  const int64_t wanted = options.opset > 0 ? options.opset : std::max<int64_t>(13, graph.opset);
  if (!needs_expansion(graph, wanted)) return {};
  Graph expanded = graph;  // constants are shared
  expand_for_opset(expanded, wanted);
  if (needs_expansion(expanded, wanted)) return {};
  return expanded;
}

}  // namespace

std::string export_onnx(const Graph& graph, const ExportOptions& options) {
  if (const auto expanded = expanded_for(graph, options)) return export_onnx(*expanded, options);
  if (constant_bytes(graph) > options.external_above)
    throw Error(ErrorCode::model, "the model is larger than 2 GB, which a single ONNX file can't hold");
  onnx::ModelProto model = model_of(graph, options);
  Writer().write(graph, model.mutable_graph());
  return bytes_of(model);
}

void write_onnx(const Graph& graph, const fs::path& path, const ExportOptions& options) {
  if (const auto expanded = expanded_for(graph, options)) return write_onnx(*expanded, path, options);
  constexpr size_t large = size_t{64} << 10;
  constexpr uint64_t page = 4096;  // so that readers can map each tensor by itself
  const std::string head = bytes_of(model_of(graph, options));
  onnx::GraphProto proto;
  Writer writer;
  writer.large = large;
  writer.write(graph, &proto);
  const bool outside = constant_bytes(graph) > options.external_above;
  const auto data_of = [&](ValueId v) {
    const Tensor& t = *graph.value(v).constant;
    return std::span(static_cast<const std::byte*>(t.data()), t.bytes());
  };
  if (outside) {
    const fs::path data_path = path.string() + ".data";
    FileWriter data(data_path);
    for (ValueId v : writer.left) {
      data.pad_to(page);
      const Tensor& t = *graph.value(v).constant;
      auto* tensor = proto.add_initializer();
      tensor->set_name(graph.value(v).name);
      tensor->set_data_type(static_cast<int32_t>(t.type()));
      for (int64_t d : t.dims()) tensor->add_dims(d);
      tensor->set_data_location(onnx::TensorProto::EXTERNAL);
      const auto entry = [&](const char* key, std::string value) {
        auto* e = tensor->add_external_data();
        e->set_key(key);
        e->set_value(std::move(value));
      };
      entry("location", data_path.filename().string());
      entry("offset", std::to_string(data.size()));
      entry("length", std::to_string(t.bytes()));
      data.add(data_of(v));
    }
    data.finish();
    writer.left.clear();
  }
  // model = head + graph; graph = small parts + one record (a tensor's head, then its bytes) per large initializer.
  const std::string small = bytes_of(proto);
  std::vector<std::string> tensors;
  uint64_t size = small.size();
  for (ValueId v : writer.left) {
    const Tensor& t = *graph.value(v).constant;
    onnx::TensorProto tensor;
    tensor.set_name(graph.value(v).name);
    tensor.set_data_type(static_cast<int32_t>(t.type()));
    for (int64_t d : t.dims()) tensor.add_dims(d);
    const std::string about = bytes_of(tensor) + field(onnx::TensorProto::kRawDataFieldNumber, t.bytes());
    tensors.push_back(field(onnx::GraphProto::kInitializerFieldNumber, about.size() + t.bytes()) + about);
    size += tensors.back().size() + t.bytes();
  }
  const std::string graph_field = field(onnx::ModelProto::kGraphFieldNumber, size);
  if (head.size() + graph_field.size() + size > static_cast<size_t>(INT_MAX))
    throw Error(ErrorCode::model, "the model is larger than 2 GB, which a single ONNX file can't hold").at_file(path.string());
  FileWriter out(path);
  out.add(head);
  out.add(graph_field);
  out.add(small);
  for (size_t i = 0; i < tensors.size(); ++i) {
    out.add(tensors[i]);
    out.add(data_of(writer.left[i]));
  }
  out.finish();
}

}  // namespace quern
