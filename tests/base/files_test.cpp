#include "core/base/files.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "core/base/error.hpp"

namespace quern {
namespace {

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    folder = fs::path(::testing::TempDir()) / ("quern_files_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }
  size_t entries() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator())); }
  fs::path folder;
};

ErrorCode code_of(const std::function<void()>& f) {
  try { f(); } catch (const Error& e) { return e.code(); }
  return ErrorCode::internal;
}

TEST_F(Files, WriteThenRead) {
  write_file(folder / "a", std::string_view("hello"));
  write_file(folder / "a", std::string_view("hello again"));
  EXPECT_EQ(read_text(folder / "a"), "hello again");
  EXPECT_EQ(MappedFile::open(folder / "a")->text(), "hello again");
  write_file(folder / "empty", std::string_view());
  EXPECT_EQ(MappedFile::open(folder / "empty")->bytes().size(), 0u);
  EXPECT_EQ(entries(), 2u);
}

TEST_F(Files, MappingOutlivesTheFile) {
  write_file(folder / "a", std::string_view("stays"));
  auto file = MappedFile::open(folder / "a");
  fs::remove(folder / "a");
  EXPECT_EQ(file->text(), "stays");
}

TEST_F(Files, FailuresAreIoErrorsAndLeaveNothing) {
  EXPECT_EQ(code_of([&] { MappedFile::open(folder / "absent"); }), ErrorCode::io);
  EXPECT_EQ(code_of([&] { MappedFile::open(folder); }), ErrorCode::io);
  EXPECT_EQ(code_of([&] { write_file(folder / "no" / "such", std::string_view("x")); }), ErrorCode::io);
  fs::create_directory(folder / "dir");
  EXPECT_EQ(code_of([&] { write_file(folder / "dir", std::string_view("x")); }), ErrorCode::io);
  EXPECT_EQ(entries(), 1u);  // no temporary file is left
  write_file(folder / "long", std::string_view("0123456789"));
  EXPECT_EQ(code_of([&] { read_text(folder / "long", 5); }), ErrorCode::io);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { MappedFile::open(folder / "pipe"); }), ErrorCode::io);  // and does not hang
}

TEST_F(Files, StagedFolderAppearsWhole) {
  {
    StagedFolder s(folder / "out");
    write_file(s.path() / "a", std::string_view("1"));
    EXPECT_FALSE(fs::exists(folder / "out"));
    s.commit();
  }
  EXPECT_EQ(read_text(folder / "out" / "a"), "1");
  {
    StagedFolder s(folder / "out");
    write_file(s.path() / "b", std::string_view("2"));
  }  // not committed
  EXPECT_TRUE(fs::exists(folder / "out" / "a"));
  EXPECT_EQ(entries(), 1u);
  {
    StagedFolder s((folder / "out").string() + "/");
    write_file(s.path() / "b", std::string_view("2"));
    s.commit();
  }
  EXPECT_EQ(read_text(folder / "out" / "a"), "1");  // what has another name stays
  EXPECT_EQ(read_text(folder / "out" / "b"), "2");
  {
    StagedFolder s(folder / "out");
    fs::create_directory(s.path() / "a");  // a folder in the place of a file
    write_file(s.path() / "a" / "c", std::string_view("3"));
    s.commit();
  }
  EXPECT_EQ(read_text(folder / "out" / "a" / "c"), "3");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "out"), {}), 2);
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, StagedFolderDoesNotReplaceAFile) {
  write_file(folder / "out", std::string_view("precious"));
  EXPECT_EQ(code_of([&] { StagedFolder s(folder / "out"); }), ErrorCode::io);
  EXPECT_EQ(read_text(folder / "out"), "precious");
}

}  // namespace
}  // namespace quern
