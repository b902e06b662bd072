// Private to the onnx room: the table behind operator_gates().
#pragma once
#include <utility>

#include "core/onnx/onnx.hpp"

namespace quern {

struct GateRow {
  std::string op;
  std::vector<std::vector<int>> groups;  // since-versions, ascending, in groups of one meaning
  int ended = 0;                         // the opset in which the operator was withdrawn, or 0
};

const GateRow* gate_row(const std::string& op);
int oldest_known_opset();
int newest_known_opset();
// The opsets under which a node of this definition means what it means: [first, last].
std::pair<int, int> opset_range(const std::string& op, int since_version);

}  // namespace quern
