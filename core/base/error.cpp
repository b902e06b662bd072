#include "core/base/error.hpp"

namespace quern {

const char* Error::what() const noexcept {
  try {
    if (text_.empty()) {
      std::string t;
      if (!file_.empty()) {
        t += file_;
        if (line_ > 0) t += ":" + std::to_string(line_) + (column_ > 0 ? ":" + std::to_string(column_) : "");
        t += ": ";
      }
      if (!node_.empty()) t += "node '" + node_ + "': ";
      t += message_;
      if (!hint_.empty()) t += "\n  " + hint_;
      text_ = std::move(t);
    }
    return text_.c_str();
  } catch (...) {
    return message_.c_str();
  }
}

}  // namespace quern
