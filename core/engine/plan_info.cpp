// What a plan says about itself: steps, the copies they need, and how much they multiply.
#include "core/engine/plan.hpp"
#include "core/engine/reorder.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

int64_t product(const Dims& dims, size_t from) {
  int64_t n = 1;
  for (size_t i = from; i < dims.size(); ++i) n *= dims[i];
  return n;
}

// Multiply-accumulates by complete shapes; 0 for what is no product of matrices. `batch`: samples of the run, as units count by sample.
int64_t macs_of_step(const Node& node, const std::vector<Dims>& in, const Dims& out, int64_t batch) {
  if (const auto* unit = dynamic_cast<const IntegerUnit*>(node.payload.get())) return unit->macs_per_sample * batch;
  if (in.size() < 2) return 0;
  if (node.op == "Conv") return product(out, 0) * product(in[1], 1);
  if (node.op == "ConvTranspose") return product(in[0], 0) * product(in[1], 1);
  if (node.op == "Gemm") return product(out, 0) * (in[0].empty() ? 1 : in[0][node.integer("transA", 0) ? 0 : in[0].size() - 1]);
  if (node.op == "MatMul") return product(out, 0) * (in[0].empty() ? 1 : in[0].back());
  if ((node.op == "LSTM" || node.op == "GRU" || node.op == "RNN") && in.size() >= 3 && in[0].size() == 3)
    return in[0][0] * in[0][1] * (product(in[1], 0) + product(in[2], 0));
  return 0;
}

}  // namespace

PlanInfo Plan::info(const Graph& graph) const {
  PlanInfo info{.steps = {}, .arena_bytes = arena_bytes, .workspace_bytes = workspace_bytes, .reorders = reorders};
  const auto dims_of = [&](ValueId v) { return v == no_value ? Dims{} : table_.dims[static_cast<size_t>(v)].value_or(Dims{}); };
  const int64_t batch = input_dims.empty() || input_dims[0].empty() ? 1 : input_dims[0][0];
  for (const Step& step : steps) {
    PlanStep out;
    out.node = graph.node(step.members[0]).name;
    out.kernel = step.kernel_name;
    out.provider = step.provider->name();
    out.portable = step.portable;
    out.segment = segment;
    for (NodeId id : step.members) {
      const Node& node = graph.node(id);
      out.op += (out.op.empty() ? "" : "+") + node.op;
      out.members.push_back(node.name);
      std::vector<Dims> in;
      for (ValueId v : node.inputs) in.push_back(dims_of(v));
      if (!node.outputs.empty() && step.kernel) out.macs += macs_of_step(node, in, dims_of(node.outputs[0]), batch);
    }
    for (const BufferCopy& copy : step.copies) {
      const Buffer &from = buffers[static_cast<size_t>(copy.from)], &to = buffers[static_cast<size_t>(copy.to)];
      out.copies.push_back({.value = graph.value(to.value).name, .turns = from.layout != to.layout && !layouts_coincide(to.dims),
                            .bytes = static_cast<size_t>(element_count(to.dims)) * size_of(to.type)});
    }
    info.steps.push_back(std::move(out));
  }
  return info;
}

}  // namespace quern
