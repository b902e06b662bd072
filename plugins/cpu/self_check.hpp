// A short test of oneDNN on this machine against the contract, done once before the profile is called available: the
// instruction sets that exist when this is written are covered by tests, those that come later are not.
#pragma once
#include <string>

namespace quern_cpu {

// False, and what went wrong.
bool self_check(std::string& reason);

}  // namespace quern_cpu
