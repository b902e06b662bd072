#include "core/rules/pot/positions.hpp"

namespace quern {
namespace {

// Lenient, since the text is known to be JSON: whatever stands between the signs is taken as it is.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { value(""); }
  std::map<std::string, TextPosition> found;

 private:
  bool at_end() const { return at_ >= text_.size(); }
  char now() const { return at_end() ? '\0' : text_[at_]; }
  void step() {
    if (now() == '\n') { ++here_.line; here_.column = 1; } else ++here_.column;
    ++at_;
  }
  bool comment(const char* sign) const { return text_.substr(at_, 2) == sign; }
  void blanks() {
    while (!at_end()) {
      if (comment("//")) {
        while (!at_end() && now() != '\n') step();
      } else if (comment("/*")) {
        step();
        step();
        while (!at_end() && !comment("*/")) step();
        step();
        step();
      } else if (now() == ' ' || now() == '\t' || now() == '\n' || now() == '\r') {
        step();
      } else {
        return;
      }
    }
  }
  std::string word() {  // at its opening quote
    std::string out;
    step();
    while (!at_end() && now() != '"') {
      if (now() == '\\') { out += now(); step(); }
      if (!at_end()) { out += now(); step(); }
    }
    step();
    return out;
  }
  void value(const std::string& pointer) {
    blanks();
    found[pointer] = here_;
    const char open = now();
    if (open == '"') {
      word();
    } else if (open == '{' || open == '[') {
      step();
      for (size_t index = 0;; ++index) {
        blanks();
        if (at_end()) return;
        if (now() == '}' || now() == ']') { step(); return; }
        if (now() == ',') { step(); --index; continue; }
        std::string name = std::to_string(index);
        if (open == '{') {
          name = word();
          blanks();
          step();  // the colon
        }
        value(pointer + "/" + name);
      }
    } else {
      while (!at_end() && std::string_view(",]} \t\r\n/").find(now()) == std::string_view::npos) step();
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  TextPosition here_{1, 1};
};

}  // namespace

std::map<std::string, TextPosition> positions_in_json(std::string_view text) { return Scanner(text).found; }

}  // namespace quern
