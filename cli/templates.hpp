// The files of sdk/templates, as they were when the command was built. @NAME@ stands for the name of the plugin.
#pragma once
#include <string_view>

namespace quern {

std::string_view new_target_cmake();
std::string_view new_target_manifest();
std::string_view new_target_rules();
std::string_view new_target_source();
std::string_view new_target_readme();
std::string_view new_algorithm_cmake();
std::string_view new_algorithm_manifest();
std::string_view new_algorithm_source();
std::string_view new_algorithm_readme();
std::string_view manifest_schema();  // sdk/schemas/manifest.schema.json

}  // namespace quern
