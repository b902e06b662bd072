// Tables and refusals of the test target.
#pragma once
#include <quern/target.hpp>

namespace mutant {

using quern_sdk::Failure;
using quern_sdk::OpView;

bool supports(const OpView& op, std::string& reason);
void derive(const OpView& op, quern_sdk::TableSink& tables);

}  // namespace mutant
