// POT's names of devices (ANY, CPU, GPU, VPU, GNA, ..., in any case), accepted wherever a configuration or --target names a target.
// The table is data: pot_names.json.
//
//   target_of_pot_name("GNA3", {"cpu", "gna_sim"}) -> "gna_sim:gna3"
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace quern {

// TARGET or TARGET:PROFILE; `name` itself when it is none of POT's, or when one of `targets` has exactly this name.
std::string target_of_pot_name(const std::string& name, const std::vector<std::string>& targets);

std::string_view pot_names();  // the table, as embedded

}  // namespace quern
