// The one fault of this run: the value of QUERN_MUTANT, read while the plugin is loaded. Empty: the plugin is sound.
#pragma once
#include <string_view>

namespace mutant {

std::string_view fault();
inline bool is(std::string_view name) { return fault() == name; }

// Faults that are the same for every call: at loading, in the entry.
void misbehave_at_entry();

}  // namespace mutant
