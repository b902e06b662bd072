// Whether a profile can run here: the instruction set has to be there, and a short test of the kernels against the contract has
// to pass, done once: the instruction sets that exist when this is written are covered by tests, processors that come later
// (and what oneDNN then chooses) are not.
#pragma once
#include <string>

#include "plugins/cpu/isa.hpp"

namespace quern_cpu {

// False, and why not.
bool isa_available(Isa isa, std::string& reason);

}  // namespace quern_cpu
