// What readers of many files share: which files there are, which label each has, and what happens with those that can't be read.
#pragma once
#include <quern/algorithm.hpp>

#include <functional>
#include <memory>

namespace quern_readers {

using namespace quern_sdk;

[[noreturn]] void refuse(const std::string& what);  // data or parameters that can't be used
std::string joined(std::string_view folder, const std::string& path);
bool is_folder(const std::string& path);
// Regular files below `folder` with one of the endings (lower case, in any case on disk), sorted by name. Failure when there is no
// such folder or no such file. endings empty: all.
std::vector<std::string> files_below(const std::string& folder, const std::vector<std::string>& endings);
std::vector<uint8_t> bytes_of(const std::string& path);  // Failure when it can't be read or is empty
std::string text_of(const std::string& path);
std::vector<std::string> lines_of(const std::string& path);  // without ends of line; empty ones are kept
bool parse_number(std::string_view text, double& value);     // with a decimal point, whatever the locale
std::vector<std::string> split(std::string_view line, char separator);  // fields without spaces around; "quoted" ones keep separators

// A file, and the numbers that its annotation gives it.
struct Entry { std::string path; std::vector<double> label; };

// `annotations` of the parameters: {format: list | csv | folders, path}. list: lines of `file class`, as ImageNet's; csv: file, then
// numbers, a first line without numbers is a heading; folders: each folder's files are a class, in the order of the names.
// Without: all files, no labels. Every listed file must be there, unless what can't be read is skipped anyway.
std::vector<Entry> entries_of(const Json& annotations, std::string_view folder, const std::string& path, const std::vector<std::string>& endings);

// `on_error: skip`: tries each entry once, leaves out those for which `read` fails, and says which and how many in the log.
// Failure when nothing is left.
std::vector<size_t> readable(size_t count, const std::function<std::string(size_t)>& name, const std::function<void(size_t)>& read);

// The one input that is fed: named by the parameters, else the only one. Failure otherwise.
const InputView& input_of(const Json& p, const std::vector<InputView>& inputs, std::string_view reader);

}  // namespace quern_readers
