// Files: mapping for reading, and writing that leaves nothing half-written.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace quern {

namespace fs = std::filesystem;

// A read-only mapping of a whole regular file. Throws Error(io), naming the file. Share it to keep views alive.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const fs::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }
  // Lets go of the memory behind bytes that were read; they come back when they are touched again. Keeps the memory of a process
  // that reads through a large file flat.
  void release(const void* from, size_t bytes) const;

 private:
  MappedFile() = default;
  void* data_ = nullptr;
  size_t size_ = 0;
};

std::string read_text(const fs::path& path, size_t limit = size_t{64} << 20);

// Writes to a temporary name beside `path`, flushes, and renames: readers see the old file or the whole new one. What lies at
// `path` and is no regular file (a device, a pipe) is not replaced.
void write_file(const fs::path& path, std::span<const std::byte> bytes);
void write_file(const fs::path& path, std::string_view text);

// The same piece by piece, for what is larger than one would like to hold in memory. Gone without a trace unless finished.
class FileWriter {
 public:
  explicit FileWriter(const fs::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }
  void pad_to(uint64_t alignment);  // with zeros
  uint64_t size() const { return size_; }
  void finish();

 private:
  fs::path path_, temporary_;
  std::string waiting_;  // small pieces are gathered
  uint64_t size_ = 0;
  int fd_ = -1;
  void put(std::span<const std::byte> bytes);
};

// A folder whose content appears only when commit() is called; nothing is left behind otherwise.
//   StagedFolder out("out/"); write_file(out.path() / "a", ...); out.commit();
// A folder that is not there yet appears as one. Into an existing one the entries are moved: each replaces what has its
// name, what else lies there stays, and all is as before if a step fails. Of two processes that commit to one folder the later
// one's entries stay, all of them. What a process that was killed has left is put in order by the next one.
class StagedFolder {
 public:
  explicit StagedFolder(fs::path final_path);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  const fs::path& path() const { return staging_; }
  void commit();

 private:
  fs::path final_, staging_;
  int alive_ = -1;  // locked as long as this process is at work here
  bool inside_ = false, done_ = false;
  void move_entries();
};

// Whether entries are being moved into place at this moment: a signal handler then waits for the end. Async-signal-safe.
bool committing() noexcept;

}  // namespace quern
