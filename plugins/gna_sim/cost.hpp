// A simple model of the time a unit takes on the hardware: docs/targets/gna_sim.md, "Cost".
#pragma once
#include "plugins/gna_sim/numbers.hpp"

namespace quern_gna {
bool cost(const OpView& op, double& cycles, double& bytes);
}
