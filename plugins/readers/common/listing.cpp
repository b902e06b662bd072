#include "listing.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace quern_readers {

namespace fs = std::filesystem;

void refuse(const std::string& what) { throw Failure(QUERN_INVALID_ARGUMENT, what); }

std::string joined(std::string_view folder, const std::string& path) {
  return path.empty() || path[0] == '/' ? path : (fs::path(std::string(folder)) / path).string();
}

bool is_folder(const std::string& path) {
  std::error_code e;
  return fs::is_directory(path, e);
}

std::vector<std::string> files_below(const std::string& folder, const std::vector<std::string>& endings) {
  if (!is_folder(folder)) throw Failure(QUERN_NOT_FOUND, folder + ": there is no such folder");
  std::vector<std::string> out;
  std::error_code e;
  for (fs::recursive_directory_iterator it(folder, e), end; !e && it != end; it.increment(e)) {
    if (!it->is_regular_file()) continue;
    std::string ending = it->path().extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    if (endings.empty() || std::find(endings.begin(), endings.end(), ending) != endings.end()) out.push_back(it->path().string());
  }
  if (e) throw Failure(QUERN_NOT_FOUND, folder + ": " + e.message());
  if (out.empty()) {
    std::string list;
    for (const auto& x : endings) list += (list.empty() ? " (" : ", ") + x;
    refuse(folder + ": holds no file that can be read" + (list.empty() ? "" : list + ")"));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<uint8_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || is_folder(path)) throw Failure(QUERN_NOT_FOUND, path + " can't be opened");
  std::vector<uint8_t> out((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) throw Failure(QUERN_NOT_FOUND, path + " can't be read");
  if (out.empty()) refuse(path + " is empty");
  return out;
}

std::string text_of(const std::string& path) {
  const auto bytes = bytes_of(path);
  return {bytes.begin(), bytes.end()};
}

std::vector<std::string> lines_of(const std::string& path) {
  const std::string text = text_of(path);
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out.push_back(text.substr(at, end - at));
    if (!out.back().empty() && out.back().back() == '\r') out.back().pop_back();
    at = end + 1;
  }
  return out;
}

bool parse_number(std::string_view text, double& value) {
  const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
  return r.ec == std::errc() && r.ptr == text.data() + text.size();
}

std::vector<std::string> split(std::string_view line, char separator) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (char c : line) {
    if (c == '"') { quoted = !quoted; continue; }
    if (c == separator && !quoted) out.emplace_back();
    else out.back() += c;
  }
  for (auto& field : out) {
    const size_t begin = field.find_first_not_of(" \t");
    field = begin == std::string::npos ? "" : field.substr(begin, field.find_last_not_of(" \t") - begin + 1);
  }
  return out;
}

namespace {

std::vector<Entry> listed(const std::string& list, const std::string& folder, bool csv) {
  std::vector<Entry> out;
  int number = 0;
  for (std::string line : lines_of(list)) {
    ++number;
    const std::string where = list + ":" + std::to_string(number) + ": ";
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    std::vector<std::string> fields;
    if (csv) {
      fields = split(line, ',');
    } else {  // the class stands behind the last space: names may have some
      const size_t space = line.find_last_of(" \t");
      if (space == std::string::npos) refuse(where + "'" + line.substr(0, 40) + "' has no class; a line is a file and its class");
      fields = {split(line.substr(0, space), '\n')[0], line.substr(space + 1)};
    }
    Entry e{joined(folder, fields[0]), {}};
    for (size_t i = 1; i < fields.size(); ++i) {
      double v = 0;
      if (!parse_number(fields[i], v)) {
        if (csv && number == 1) { e.path.clear(); break; }  // a heading
        refuse(where + "'" + fields[i].substr(0, 40) + "' is no number");
      }
      e.label.push_back(v);
    }
    if (e.path.empty()) continue;
    if (e.label.empty()) refuse(where + "has no label");
    if (!out.empty() && e.label.size() != out.front().label.size())
      refuse(where + "has " + std::to_string(e.label.size()) + " numbers, the lines before " + std::to_string(out.front().label.size()));
    out.push_back(std::move(e));
  }
  if (out.empty()) refuse(list + ": names no file");
  return out;
}

}  // namespace

std::vector<Entry> entries_of(const Json& annotations, std::string_view folder, const std::string& path, const std::vector<std::string>& endings) {
  const std::string format = annotations.text("format", "");
  if (format == "list" || format == "imagenet" || format == "csv") {
    const std::string list = annotations.text("path", "");
    if (list.empty()) refuse("annotations of format " + format + " need a path");
    if (!is_folder(path)) throw Failure(QUERN_NOT_FOUND, path + ": there is no such folder");
    return listed(joined(folder, list), path, format == "csv");
  }
  std::vector<Entry> out;
  for (std::string& file : files_below(path, endings)) out.push_back({std::move(file), {}});
  if (format != "folders") return out;
  std::vector<std::string> classes;
  const auto class_of = [&](const Entry& e) {
    const std::string below = fs::path(e.path).lexically_relative(path).string();
    const size_t slash = below.find('/');
    if (slash == std::string::npos) refuse(e.path + ": lies in no folder of a class");
    return below.substr(0, slash);
  };
  for (const Entry& e : out) classes.push_back(class_of(e));
  std::vector<std::string> names = classes;
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (size_t i = 0; i < out.size(); ++i) out[i].label = {static_cast<double>(std::lower_bound(names.begin(), names.end(), classes[i]) - names.begin())};
  return out;
}

std::vector<size_t> readable(size_t count, const std::function<std::string(size_t)>& name, const std::function<void(size_t)>& read) {
  std::vector<std::string> faults(count);
  parallel_for(static_cast<int64_t>(count), [&](int64_t i) {
    try {
      read(static_cast<size_t>(i));
    } catch (const Failure& e) {
      faults[static_cast<size_t>(i)] = e.what();
    }
  });
  std::vector<size_t> kept;
  std::string first;
  size_t bad = 0;
  for (size_t i = 0; i < count; ++i) {
    if (faults[i].empty()) { kept.push_back(i); continue; }
    if (++bad <= 5) first += "; " + (faults[i].find(name(i)) == std::string::npos ? name(i) + ": " : "") + faults[i];
  }
  if (kept.empty() && count > 0) refuse("not one of " + std::to_string(count) + " files can be read" + first);
  if (bad > 0) log(QUERN_LOG_WARNING, std::to_string(bad) + " of " + std::to_string(count) + " files can't be read and are skipped" + first + (bad > 5 ? "; ..." : ""));
  return kept;
}

const InputView& input_of(const Json& p, const std::vector<InputView>& inputs, std::string_view reader) {
  const std::string name = p.text("input", "");
  std::string there;
  for (const InputView& i : inputs) {
    if (name.empty() ? inputs.size() == 1 : i.name == name) return i;
    there += (there.empty() ? "" : ", ") + std::string(i.name);
  }
  if (name.empty()) refuse(std::string(reader) + " feeds networks with one input; this one has " + there);
  refuse("the network has no input '" + name + "'; it has " + there);
}

}  // namespace quern_readers
