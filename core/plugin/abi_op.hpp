// An IntegerUnit as a plugin sees it: quern_op with everything it points to. The unit must outlive it.
//
//   AbiOp op(unit);                                  // derive, supports: unknown dims stay -1
//   AbiOp op(unit, input_dims, output_dims);         // compile: complete
//   target.derive(self, profile, op.get(), &sink);
#pragma once
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "core/plugin/host.hpp"
#include "core/rules/unit.hpp"

namespace quern {

// An attribute as a plugin sees it; it looks into `name` and `value`. `tensor` gives the struct of a tensor, kept by the caller.
// none for lists of texts and sub-graphs, which do not cross the boundary.
std::optional<quern_attr> abi_attribute(const std::string& name, const Attribute& value,
                                        const std::function<const quern_tensor*(const Tensor&)>& tensor);

class AbiOp {
 public:
  explicit AbiOp(const IntegerUnit& unit) { build(unit, nullptr, nullptr); }
  // `input_dims`: of the operands that are not constants, in order.
  AbiOp(const IntegerUnit& unit, const std::vector<Dims>& input_dims, const Dims& output_dims) { build(unit, &input_dims, &output_dims); }
  AbiOp(const AbiOp&) = delete;
  AbiOp& operator=(const AbiOp&) = delete;
  const quern_op* get() const { return &op_; }

 private:
  void build(const IntegerUnit& unit, const std::vector<Dims>* input_dims, const Dims* output_dims);
  quern_tensor tensor(DType dtype, const Dims& dims, const Tensor* data);
  const quern_operand* operand(const UnitOperand& o, const Dims& dims);
  const quern_attr* attribute(const std::string& name, const Attribute& value);
  const quern_node* node(const UnitMember& member, const std::vector<std::optional<Dims>>& dims);

  quern_op op_{};
  // Deques: what was put in never moves.
  std::deque<std::map<std::string, Attribute>> attributes_;
  std::deque<Tensor> copies_;
  std::deque<Dims> dims_;
  std::deque<std::vector<int32_t>> input_lists_;
  std::deque<std::vector<const quern_attr*>> attr_lists_;
  std::deque<quern_quant> quants_;
  std::deque<quern_attr> attrs_;
  std::deque<quern_tensor> attr_tensors_;
  std::deque<quern_node> nodes_;
  std::deque<quern_operand> operands_;
  std::deque<quern_table> tables_;
  std::vector<const quern_node*> node_list_;
  std::vector<const quern_operand*> input_list_, output_list_;
  std::vector<const quern_table*> table_list_;
};

}  // namespace quern
