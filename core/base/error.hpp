// The one error of the host. Every failure a user can cause is thrown as quern::Error with a sentence that says what is
// wrong, where (file, line, column or node), and what to do. It is caught in three places only: the command's main,
// the worker threads (rethrown in the caller, lowest index first), and the plugin boundary (turned into a status).
//
//   throw Error(ErrorCode::model, "Conv needs a kernel of rank 3 to 5").at_node("conv1").hint("...");
#pragma once
#include <cstdint>
#include <exception>
#include <string>

namespace quern {

// The numbers are the exit codes of the command (docs/command.md).
enum class ErrorCode : int {
  internal = 1,     // a fault of Quern itself
  usage = 2,        // the command line
  config = 3,       // the configuration file
  model = 4,        // the model file, or something in the graph that can't be done
  data = 5,         // calibration or evaluation data
  plugin = 6,       // a target or algorithm plugin
  io = 7,           // reading or writing files
  mismatch = 8,     // verification found a difference, compared nothing, or covered too little
  memory = 9,       // not enough of it
  interrupted = 130 // Ctrl-C, SIGTERM
};

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  Error&& at_file(std::string file, int line = 0, int column = 0) && {  // line and column count from 1; 0 = none
    file_ = std::move(file); line_ = line; column_ = column; return std::move(*this);
  }
  Error&& at_node(std::string node) && { node_ = std::move(node); return std::move(*this); }
  Error&& hint(std::string text) && { hint_ = std::move(text); return std::move(*this); }
  void set_file(std::string file) { file_ = std::move(file); text_.clear(); }
  void set_node(std::string node) { node_ = std::move(node); text_.clear(); }

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& file() const { return file_; }
  int line() const { return line_; }
  int column() const { return column_; }
  const std::string& node() const { return node_; }
  const std::string& hint_text() const { return hint_; }
  // "pipeline.yaml:12:5: unknown key 'presett' (did you mean 'preset'?)"
  const char* what() const noexcept override;

 private:
  ErrorCode code_;
  std::string message_, file_, node_, hint_;
  int line_ = 0, column_ = 0;
  mutable std::string text_;
};

}  // namespace quern
