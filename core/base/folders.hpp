// What lies in a folder, and away with it. The standard library's directory iterators that report by std::error_code can't
// pass on a lack of memory: they end the program.
//
//   std::error_code error;
//   for (const std::string& name : names_in(folder, error)) ...   // all but . and .., in no order; none on an error
#pragma once
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace quern {

std::vector<std::string> names_in(const std::filesystem::path& folder, std::error_code& error);
// A file, a link, or a folder with all that is in it; links are not followed. As far as it can be done.
void remove_tree(const std::filesystem::path& path) noexcept;

}  // namespace quern
