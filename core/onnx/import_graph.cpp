#include "core/onnx/import_graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/base/json.hpp"
#include "core/onnx/operator_gate.hpp"

namespace quern {
namespace {

constexpr int64_t largest_dim = int64_t{1} << 40;

class Builder {
 public:
  Builder(onnx::GraphProto& proto, const ImportContext& context, std::vector<std::string>* captured)
      : proto_(proto), context_(context), captured_(captured) {}

  Graph build() {
    graph_.name = proto_.name();
    if (proto_.sparse_initializer_size() > 0) throw Error(ErrorCode::model, "sparse initializers are not supported");
    constants();
    inputs();
    for (auto& node : *proto_.mutable_node()) is_constant(node) ? add_constant(node) : outputs_of(node);
    declared_types();
    for (auto& node : *proto_.mutable_node()) add(node);
    std::vector<ValueId> outputs;
    for (const auto& output : proto_.output()) outputs.push_back(resolve(output.name(), "the graph's outputs"));
    graph_.set_inputs(inputs_);
    graph_.set_outputs(outputs);
    return std::move(graph_);
  }

 private:
  void constants() {
    for (auto& initializer : *proto_.mutable_initializer()) {
      if (initializer.name().empty()) throw Error(ErrorCode::model, "an initializer has no name");
      const std::string what = fmt::format("initializer '{}'", initializer.name());
      if (graph_.find_value(initializer.name()) != no_value)
        throw Error(ErrorCode::model, fmt::format("two initializers are called '{}'", initializer.name()));
      graph_.add_constant(initializer.name(), take_tensor(initializer, *context_.external, what));
    }
  }

  struct Declared { DType dtype = DType::undefined; std::optional<Dims> shape; std::vector<std::string> names; };

  Declared declared(const onnx::ValueInfoProto& info, const std::string& what) {
    Declared d;
    if (!info.has_type()) return d;
    if (!info.type().has_tensor_type()) throw Error(ErrorCode::model, fmt::format("{}: only tensors are supported, no sequences, maps or optionals", what));
    const auto& type = info.type().tensor_type();
    if (type.elem_type() != 0) d.dtype = dtype_of_proto(type.elem_type(), what);
    if (!type.has_shape()) return d;
    d.shape.emplace();
    bool named = false;
    for (const auto& dim : type.shape().dim()) {
      int64_t size = -1;
      if (dim.has_dim_value() && dim.dim_value() >= 0) size = dim.dim_value();
      if (size > largest_dim) throw Error(ErrorCode::model, fmt::format("{}: a dimension of {} is more than any memory holds", what, size));
      d.shape->push_back(size);
      d.names.push_back(dim.has_dim_param() ? dim.dim_param() : "");
      named = named || !d.names.back().empty();
    }
    if (d.shape->size() > 64) throw Error(ErrorCode::model, fmt::format("{}: has {} dimensions", what, d.shape->size()));
    if (!named) d.names.clear();
    return d;
  }

  void inputs() {
    std::set<std::string> seen;
    for (const auto& input : proto_.input()) {
      const std::string what = fmt::format("graph input '{}'", input.name());
      if (input.name().empty()) throw Error(ErrorCode::model, "a graph input has no name");
      if (!seen.insert(input.name()).second) throw Error(ErrorCode::model, fmt::format("two graph inputs are called '{}'", input.name()));
      if (graph_.find_value(input.name()) != no_value) continue;  // an initializer with a declaration (older files)
      Declared d = declared(input, what);
      if (d.dtype == DType::undefined) throw Error(ErrorCode::model, fmt::format("{}: has no element type", what));
      const ValueId id = graph_.add_value(input.name(), d.dtype, d.shape);
      graph_.value(id).dim_names = d.names;
      inputs_.push_back(id);
    }
  }

  void outputs_of(const onnx::NodeProto& node) {
    for (const std::string& output : node.output()) {
      if (output.empty()) continue;
      if (graph_.find_value(output) != no_value)
        throw Error(ErrorCode::model, fmt::format("value '{}' is made twice", output)).at_node(name_of_node(node));
      graph_.add_value(output);
    }
  }

  // What the file says of values in between; a rule of ours overrides it, but an operator without one needs it.
  void declared_types() {
    auto take = [&](const onnx::ValueInfoProto& info) {
      const ValueId id = graph_.find_value(info.name());
      if (id == no_value || graph_.value(id).is_constant() || graph_.value(id).dtype != DType::undefined) return;
      try {
        Declared d = declared(info, fmt::format("value '{}'", info.name()));
        graph_.value(id).dtype = d.dtype;
        graph_.value(id).shape = d.shape;
        graph_.value(id).dim_names = d.names;
      } catch (const Error&) {
        // A type we can't hold: it matters only if somebody needs it, and then the operator says so.
      }
    };
    for (const auto& info : proto_.value_info()) take(info);
    for (const auto& info : proto_.output()) take(info);
  }

  static bool is_constant(const onnx::NodeProto& node) {
    if (node.op_type() != "Constant" || !(node.domain().empty() || node.domain() == "ai.onnx") || node.output_size() != 1) return false;
    for (const auto& a : node.attribute())
      if (a.name() == "sparse_value" || a.name() == "value_string" || a.name() == "value_strings") return false;
    return node.attribute_size() == 1;
  }

  static std::string name_of_node(const onnx::NodeProto& node) {
    if (!node.name().empty()) return node.name();
    for (const std::string& output : node.output())
      if (!output.empty()) return output;
    return node.op_type();
  }

  ValueId resolve(const std::string& name, const std::string& user) {
    const ValueId id = graph_.find_value(name);
    if (id != no_value) return id;
    if (!captured_)
      throw Error(ErrorCode::model, fmt::format("value '{}' is used, but no node makes it and it is neither an input nor an "
                                                "initializer", name)).at_node(user);
    const ValueId fresh = graph_.add_value(name);
    inputs_.push_back(fresh);
    captured_->push_back(name);
    return fresh;
  }

  Attribute attribute(onnx::AttributeProto& a, const std::string& node, std::vector<std::string>& captured) {
    auto type = a.type();
    if (type == onnx::AttributeProto::UNDEFINED) {  // files of IR 1 and 2 do not say
      if (a.has_f()) type = onnx::AttributeProto::FLOAT;
      else if (a.has_i()) type = onnx::AttributeProto::INT;
      else if (a.has_s()) type = onnx::AttributeProto::STRING;
      else if (a.has_t()) type = onnx::AttributeProto::TENSOR;
      else if (a.floats_size()) type = onnx::AttributeProto::FLOATS;
      else if (a.ints_size()) type = onnx::AttributeProto::INTS;
      else if (a.strings_size()) type = onnx::AttributeProto::STRINGS;
    }
    switch (type) {
      case onnx::AttributeProto::FLOAT: return a.f();
      case onnx::AttributeProto::INT: return int64_t{a.i()};
      case onnx::AttributeProto::STRING: return a.s();
      case onnx::AttributeProto::FLOATS: return std::vector<float>(a.floats().begin(), a.floats().end());
      case onnx::AttributeProto::INTS: return std::vector<int64_t>(a.ints().begin(), a.ints().end());
      case onnx::AttributeProto::STRINGS: return std::vector<std::string>(a.strings().begin(), a.strings().end());
      case onnx::AttributeProto::TENSOR:
        return take_tensor(*a.mutable_t(), *context_.external, fmt::format("attribute '{}'", a.name()));
      case onnx::AttributeProto::GRAPH: {
        Graph inner = build_graph(*a.mutable_g(), context_, &captured);
        return std::make_shared<const Graph>(std::move(inner));
      }
      default:
        throw Error(ErrorCode::model, fmt::format("attribute '{}' is of a kind that is not supported (AttributeProto type {})",
                                                  a.name(), static_cast<int>(a.type()))).at_node(node);
    }
  }

  void add_constant(onnx::NodeProto& node) {
    auto& a = *node.mutable_attribute(0);
    std::vector<std::string> none;
    const Attribute value = attribute(a, name_of_node(node), none);
    Tensor tensor;
    if (auto* t = std::get_if<Tensor>(&value)) tensor = *t;
    else if (auto* i = std::get_if<int64_t>(&value)) tensor = Tensor::scalar(*i);
    else if (auto* f = std::get_if<float>(&value)) tensor = Tensor::scalar(*f);
    else if (auto* is = std::get_if<std::vector<int64_t>>(&value)) tensor = Tensor::of<int64_t>({static_cast<int64_t>(is->size())}, *is);
    else if (auto* fs = std::get_if<std::vector<float>>(&value)) tensor = Tensor::of<float>({static_cast<int64_t>(fs->size())}, *fs);
    else throw Error(ErrorCode::model, "Constant: holds no value of a kind that Quern knows").at_node(name_of_node(node));
    if (graph_.find_value(node.output(0)) != no_value)
      throw Error(ErrorCode::model, fmt::format("value '{}' is made twice", node.output(0))).at_node(name_of_node(node));
    graph_.add_constant(node.output(0), std::move(tensor));
  }

  void check_gate(const Node& node, int64_t opset) {
    if (node.since_version < 0)
      throw Error(ErrorCode::model, fmt::format("{}: its definition under opset {} is not one that Quern reads (opsets {} to {})",
                                                node.op, opset, oldest_known_opset(), newest_known_opset()))
          .at_node(node.name).hint("convert the model with onnx.version_converter, or export it with another opset");
    for (const auto& [domain, name] : context_.functions)
      if (domain == node.domain && name == node.op)
        throw Error(ErrorCode::model, fmt::format("{}: is a function of the model file, which Quern does not read", node.op))
            .at_node(node.name).hint("inline the functions with onnx.inliner.inline_local_functions");
    if (node.since_version == 0 && context_.refuse_unknown) {
      std::vector<std::string> known;
      for (const auto& gate : operator_gates()) known.push_back(gate.op);
      throw Error(ErrorCode::model, fmt::format("the operator {}{}{} is not known{}", node.domain, node.domain.empty() ? "" : ".", node.op,
                                                node.domain.empty() ? did_you_mean(node.op, known) : "")).at_node(node.name);
    }
    // Newer definitions are read where what they add is not used.
    if ((node.op == "QuantizeLinear" || node.op == "DequantizeLinear") && node.domain.empty() && node.integer("block_size", 0) != 0)
      throw Error(ErrorCode::model, fmt::format("{}: blocked quantization (block_size) is not supported", node.op)).at_node(node.name);
    if (node.op == "SpaceToDepth" && node.text("mode", "DCR") != "DCR")
      throw Error(ErrorCode::model, "SpaceToDepth: only mode DCR is supported").at_node(node.name);
  }

  void add(onnx::NodeProto& proto) {
    if (is_constant(proto)) return;  // done before: they may stand behind their users
    Node node;
    node.name = name_of_node(proto);
    node.domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
    node.op = proto.op_type();
    if (node.op.empty()) throw Error(ErrorCode::model, "a node has no operator").at_node(node.name);
    if (node.domain == "quern") throw Error(ErrorCode::model, "the domain 'quern' is reserved").at_node(node.name);
    if (graph_.find_node(node.name) != no_node) node.name = graph_.unique_name(node.name);
    node.origin = {node.name};
    auto opset = context_.opsets.find(node.domain);
    if (opset == context_.opsets.end() && node.domain.empty())
      throw Error(ErrorCode::model, "the model declares no opset for ai.onnx").at_node(node.name);
    node.since_version = opset == context_.opsets.end() ? 0 : since_version_for(node.domain, node.op, opset->second);

    for (const std::string& input : proto.input()) node.inputs.push_back(input.empty() ? no_value : resolve(input, node.name));
    std::vector<std::string> captured;
    for (auto& a : *proto.mutable_attribute()) {
      if (a.has_ref_attr_name() && !a.ref_attr_name().empty())
        throw Error(ErrorCode::model, fmt::format("attribute '{}' refers to an attribute of a function", a.name())).at_node(node.name);
      // Loops and what else we don't know is only listed, never run: its graphs and odd attributes are not kept.
      const bool odd = a.type() == onnx::AttributeProto::GRAPH || a.type() > onnx::AttributeProto::STRINGS;
      if (odd && node.since_version == 0) continue;
      try {
        if (!node.attributes.emplace(a.name(), attribute(a, node.name, captured)).second)
          throw Error(ErrorCode::model, fmt::format("attribute '{}' is given twice", a.name()));
      } catch (Error& e) {
        if (e.node().empty()) e.set_node(node.name);
        throw;
      }
    }
    if (!captured.empty() || node.op == "If") {
      // Both branches may take the same value: one input each.
      std::vector<std::string> unique;
      for (const std::string& name : captured) {
        if (std::find(unique.begin(), unique.end(), name) != unique.end()) continue;
        unique.push_back(name);
        node.inputs.push_back(resolve(name, node.name));
      }
      node.attributes["quern.captured"] = unique;
    }
    for (const std::string& output : proto.output()) node.outputs.push_back(output.empty() ? no_value : graph_.find_value(output));
    while (!node.inputs.empty() && node.inputs.back() == no_value) node.inputs.pop_back();
    while (!node.outputs.empty() && node.outputs.back() == no_value) node.outputs.pop_back();
    if (node.outputs.empty()) throw Error(ErrorCode::model, fmt::format("{}: has no outputs", node.op)).at_node(node.name);
    check_gate(node, opset == context_.opsets.end() ? 0 : opset->second);
    graph_.add_node(std::move(node));
  }

  onnx::GraphProto& proto_;
  const ImportContext& context_;
  std::vector<std::string>* captured_;
  Graph graph_;
  std::vector<ValueId> inputs_;
};

}  // namespace

Graph build_graph(onnx::GraphProto& proto, const ImportContext& context, std::vector<std::string>* captured) {
  return Builder(proto, context, captured).build();
}

}  // namespace quern
