#include "core/base/files.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
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

TEST_F(Files, WhatIsNoRegularFileIsNotReplaced) {
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { write_file(folder / "pipe", std::string_view("x")); }), ErrorCode::io);
  EXPECT_TRUE(fs::is_fifo(folder / "pipe"));
  EXPECT_EQ(code_of([&] { write_file("/dev/null", std::string_view("x")); }), ErrorCode::io);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, TwoStagedFoldersOfOneName) {
  const auto fill = [](const StagedFolder& s, std::string_view text) {
    for (const char* name : {"a", "b", "c"}) write_file(s.path() / name, text);
  };
  for (const bool there : {false, true}) {
    StagedFolder one(folder / "out"), two(folder / "out");
    fill(one, there ? "3" : "1");
    fill(two, there ? "4" : "2");
    one.commit();
    two.commit();  // the later one's entries stay, all of them
    for (const char* name : {"a", "b", "c"}) EXPECT_EQ(read_text(folder / "out" / name), there ? "4" : "2");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "out"), {}), 3);
    EXPECT_EQ(entries(), 1u);
  }
}

TEST_F(Files, LeftoversOfAKilledProcessArePutInOrder) {
  const auto age = [](const fs::path& p) { fs::last_write_time(p, fs::file_time_type::clock::now() - std::chrono::minutes(5)); };
  const fs::path beside = folder / "out.12-0123abcd.partial", other = folder / "outer.12-0123abcd.partial", words = folder / "out.of.partial";
  for (const auto& p : {beside, other, words}) {
    fs::create_directories(p / "package");
    age(p);
  }
  { StagedFolder s(folder / "out"); }
  EXPECT_FALSE(fs::exists(beside));
  EXPECT_TRUE(fs::exists(other));  // of another output
  EXPECT_TRUE(fs::exists(words));
  fs::remove_all(other);
  fs::remove_all(words);

  // Killed in the middle of the moving: `a` is the new one, `b` was taken away, the rest had not begun.
  const fs::path out = folder / "out", inside = out / ".quern.7-00000001.partial";
  fs::create_directories(inside / ".replaced");
  write_file(out / "a", std::string_view("new"));
  write_file(out / "c", std::string_view("old"));
  write_file(inside / ".replaced" / "a", std::string_view("old"));
  write_file(inside / ".replaced" / "b", std::string_view("old"));
  write_file(inside / "b", std::string_view("new"));
  write_file(inside / "c", std::string_view("new"));
  { StagedFolder young(out); }
  EXPECT_TRUE(fs::exists(inside)) << "it may just have been made";
  age(inside);
  {
    StagedFolder s(out);
    EXPECT_FALSE(fs::exists(inside));
    for (const char* name : {"a", "b", "c"}) EXPECT_EQ(read_text(out / name), "old");
    // One at work is left alone, whatever its age.
    age(s.path());
    StagedFolder next(out);
    EXPECT_TRUE(fs::exists(s.path()));
  }
  // Killed after it: the new entries stay.
  fs::create_directories(inside / ".finished");
  write_file(inside / ".finished" / "a", std::string_view("older"));
  age(inside);
  { StagedFolder s(out); }
  EXPECT_EQ(read_text(out / "a"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(out), {}), 3);
}

TEST_F(Files, AFailedMoveLeavesAllAsItWas) {
  write_file(folder / "file", std::string_view("x"));
  fs::create_directories(folder / "out");
  write_file(folder / "out" / "a", std::string_view("old"));
  StagedFolder s(folder / "out");
  write_file(s.path() / "a", std::string_view("new"));
  write_file(s.path() / "b", std::string_view("new"));
  // What it would be put into is taken away, and a file stands there.
  fs::rename(folder / "out", folder / "moved");
  fs::create_directories(folder / "out");
  EXPECT_EQ(code_of([&] { s.commit(); }), ErrorCode::io);
  EXPECT_TRUE(fs::is_empty(folder / "out"));
  EXPECT_EQ(read_text(folder / "moved" / "a"), "old");
}

TEST_F(Files, LinksThatLeadNowhere) {
  fs::create_symlink("round", folder / "about");
  fs::create_symlink("about", folder / "round");
  fs::create_symlink("nothing", folder / "dangling");
  for (const char* name : {"about", "dangling"}) {
    EXPECT_EQ(code_of([&] { StagedFolder s(folder / name); }), ErrorCode::io) << name;
    EXPECT_EQ(code_of([&] { MappedFile::open(folder / name); }), ErrorCode::io) << name;
  }
  EXPECT_EQ(code_of([&] { StagedFolder s(folder / "about" / "deeper"); }), ErrorCode::io);
  EXPECT_EQ(entries(), 3u);
}

}  // namespace
}  // namespace quern
