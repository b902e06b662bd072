#include "core/base/npy.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "core/base/error.hpp"

namespace quern {
namespace {

using Bytes = std::span<const std::byte>;

Error bad(const std::string& where, const std::string& what) { return Error(ErrorCode::data, what).at_file(where); }

// Little-endian number at `at`; the caller has checked the bounds.
uint64_t number(Bytes b, size_t at, int size) {
  uint64_t v = 0;
  for (int i = 0; i < size; ++i) v |= static_cast<uint64_t>(b[at + static_cast<size_t>(i)]) << (8 * i);
  return v;
}

// ---- the header of an array: a Python dict literal of three keys ---------------------------------------------------------

struct Header { DType type = DType::undefined; bool fortran = false; Dims dims; size_t data_at = 0; };

class HeaderText {
 public:
  HeaderText(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  Header parse() {
    Header h;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = word();
      expect(':');
      if (key == "descr") { h.type = dtype(); descr = true; }
      else if (key == "fortran_order") { h.fortran = boolean(); order = true; }
      else if (key == "shape") { h.dims = tuple(); shape = true; }
      else fail(fmt::format("has the unknown key '{}' in its header", key));
      if (!accept(',')) { expect('}'); break; }
    }
    if (!descr || !order || !shape) fail("has a header without descr, fortran_order or shape");
    return h;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw bad(where_, what); }
  void blanks() { while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_; }
  bool accept(char c) {
    blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) { if (!accept(c)) fail("has a header that can't be read (not a numpy file, or damaged)"); }
  std::string word() {
    blanks();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) expect('\'');
    const char quote = text_[at_++];
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) expect('\0');
    std::string w(text_.substr(at_, end - at_));
    at_ = end + 1;
    return w;
  }
  bool boolean() {
    blanks();
    for (const auto& [name, value] : {std::pair{std::string_view("True"), true}, {std::string_view("False"), false}})
      if (text_.substr(at_, name.size()) == name) { at_ += name.size(); return value; }
    fail("has a header whose fortran_order is neither True nor False");
  }
  Dims tuple() {
    Dims dims;
    expect('(');
    while (!accept(')')) {
      blanks();
      int64_t v = 0;
      const size_t start = at_;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        if (v > (std::numeric_limits<int64_t>::max() - 9) / 10) fail("declares a dimension that is too large");
        v = v * 10 + (text_[at_] - '0');
      }
      if (at_ == start) fail("has a shape in its header that is not a tuple of whole numbers");
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // written by Python 2
      dims.push_back(v);
      if (dims.size() > 32) fail("has more than 32 dimensions");
      if (!accept(',')) { expect(')'); break; }
    }
    return dims;
  }
  DType dtype() {
    blanks();
    if (at_ < text_.size() && text_[at_] == '[') fail("holds records (a structured dtype); save each field as an array of its own");
    const std::string d = word();
    if (d.empty()) fail("has an empty dtype");
    const bool has_order = d[0] == '<' || d[0] == '>' || d[0] == '|' || d[0] == '=';
    const std::string kind = has_order ? d.substr(1) : d;
    if (kind.find('O') == 0) fail("holds Python objects (dtype object), which are not read; save it with a numeric dtype");
    static constexpr std::pair<std::string_view, DType> known[] = {
        {"f4", DType::f32}, {"f8", DType::f64}, {"f2", DType::f16}, {"u1", DType::u8}, {"i1", DType::s8}, {"u2", DType::u16},
        {"i2", DType::s16}, {"u4", DType::u32}, {"i4", DType::s32}, {"u8", DType::u64}, {"i8", DType::s64}, {"b1", DType::boolean}};
    for (const auto& [name, type] : known) {
      if (kind != name) continue;
      if (d[0] == '>' && size_of(type) > 1)
        fail(fmt::format("is stored big-endian (dtype '{}'); save it with x.astype('<{}')", d, kind));
      return type;
    }
    fail(fmt::format("has the dtype '{}', which is not read; float16/32/64, (u)int8/16/32/64 and bool are", d));
  }

  std::string_view text_;
  std::string where_;
  size_t at_ = 0;
};

Header parse_header(Bytes b, const std::string& where) {
  constexpr std::string_view magic("\x93NUMPY", 6);
  if (b.size() < 10 || std::memcmp(b.data(), magic.data(), magic.size()) != 0) throw bad(where, "is not a numpy array (.npy)");
  const int major = static_cast<int>(b[6]);
  if (major < 1 || major > 3) throw bad(where, fmt::format("is a numpy array of format {}; 1 to 3 are read", major));
  const size_t start = major == 1 ? 10 : 12;
  if (b.size() < start) throw bad(where, "is cut off in its header");
  const uint64_t length = number(b, 8, major == 1 ? 2 : 4);
  if (length > b.size() - start) throw bad(where, "is cut off in its header");
  Header h = HeaderText({reinterpret_cast<const char*>(b.data()) + start, static_cast<size_t>(length)}, where).parse();
  h.data_at = start + static_cast<size_t>(length);
  // The declared size is compared with what is there before anything is allocated.
  uint64_t bytes = size_of(h.type);
  bool zero = false;
  for (int64_t d : h.dims) zero |= d == 0;
  for (int64_t d : h.dims)
    if (!zero && __builtin_mul_overflow(bytes, static_cast<uint64_t>(d), &bytes)) bytes = std::numeric_limits<uint64_t>::max();
  const uint64_t there = b.size() - h.data_at;
  if (zero) bytes = 0;
  if (bytes != there)
    throw bad(where, fmt::format("declares {} {} ({} bytes) but holds {} bytes of data", name_of(h.type), to_string(h.dims), bytes, there));
  return h;
}

// Column-major to row-major.
Tensor reordered(const Header& h, const std::byte* data) {
  Tensor t(h.type, h.dims);
  Dims reversed(h.dims.rbegin(), h.dims.rend());
  Dims from = row_major_strides(reversed);
  std::reverse(from.begin(), from.end());
  const Dims to = row_major_strides(h.dims);
  copy({const_cast<std::byte*>(data), h.type, h.dims, from}, {t.mutable_bytes(), h.type, h.dims, to});
  return t;
}

// `file`: the file that `b` lies in; null when it is memory of `owner`.
StoredArray array_in(Bytes b, std::shared_ptr<const void> owner, std::shared_ptr<const MappedFile> file, const std::string& where) {
  Header h = parse_header(b, where);
  const std::byte* data = b.data() + h.data_at;
  if (h.fortran && h.dims.size() > 1) {
    auto t = std::make_shared<const Tensor>(reordered(h, data));
    return {h.type, h.dims, t, static_cast<const std::byte*>(t->data()), nullptr};
  }
  return {h.type, h.dims, std::move(owner), data, std::move(file)};
}

Tensor tensor_of(StoredArray a) {
  const auto count = element_count(a.dims);
  if (count > 0 && reinterpret_cast<uintptr_t>(a.data) % size_of(a.type) == 0) return Tensor(a.type, std::move(a.dims), std::move(a.owner), a.data);
  Tensor t(a.type, std::move(a.dims));
  if (t.bytes() > 0) std::memcpy(t.mutable_bytes(), a.data, t.bytes());
  return t;
}

std::string_view descr_of(DType type) {
  switch (type) {
    case DType::f32: return "<f4";
    case DType::f64: return "<f8";
    case DType::f16: return "<f2";
    case DType::u8: return "|u1";
    case DType::s8: return "|i1";
    case DType::u16: return "<u2";
    case DType::s16: return "<i2";
    case DType::u32: return "<u4";
    case DType::s32: return "<i4";
    case DType::u64: return "<u8";
    case DType::s64: return "<i8";
    case DType::boolean: return "|b1";
    default: throw Error(ErrorCode::data, fmt::format("numpy's files have no type for {}", name_of(type)));
  }
}

std::string npy_header(const Tensor& t) {
  std::string shape = "(";
  for (size_t i = 0; i < t.dims().size(); ++i) shape += (i ? " " : "") + std::to_string(t.dims()[i]) + ",";
  if (t.dims().size() > 1) shape.pop_back();
  std::string h = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}), }}", descr_of(t.type()), shape);
  const size_t total = (10 + h.size() + 1 + 63) / 64 * 64;
  h.append(total - 10 - h.size() - 1, ' ');
  h += '\n';
  const size_t n = h.size();
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(n & 0xff) + static_cast<char>(n >> 8) + h;
}

uint32_t crc_of(Bytes b, uint32_t crc = 0) {
  uLong c = crc;
  for (size_t at = 0; at < b.size();) {
    const size_t n = std::min<size_t>(b.size() - at, size_t{1} << 30);
    c = ::crc32(c, reinterpret_cast<const Bytef*>(b.data() + at), static_cast<uInt>(n));
    at += n;
  }
  return static_cast<uint32_t>(c);
}

}  // namespace

StoredArray stored_npy(const fs::path& path) {
  auto file = MappedFile::open(path);
  return array_in(file->bytes(), file, file, path.string());
}

Tensor read_npy(const fs::path& path) { return tensor_of(stored_npy(path)); }

std::string npy_bytes(const Tensor& t) {
  std::string s = npy_header(t);
  s.append(static_cast<const char*>(t.data()), t.bytes());
  return s;
}

// ---- zip -----------------------------------------------------------------------------------------------------------------

namespace {

constexpr uint32_t local_mark = 0x04034b50, central_mark = 0x02014b50, end_mark = 0x06054b50, end64_mark = 0x06064b50,
                   locator_mark = 0x07064b50;
constexpr uint32_t unknown32 = 0xffffffff;

struct Directory { uint64_t entries, size, offset; };

Directory find_directory(Bytes b, const std::string& where) {
  if (b.size() < 22) throw bad(where, "is not an .npz archive (too short)");
  const size_t lowest = b.size() > 22 + 65535 ? b.size() - 22 - 65535 : 0;
  for (size_t at = b.size() - 22;; --at) {
    if (number(b, at, 4) == end_mark && at + 22 + number(b, at + 20, 2) == b.size()) {
      Directory d{number(b, at + 10, 2), number(b, at + 12, 4), number(b, at + 16, 4)};
      if (d.entries == 0xffff || d.size == unknown32 || d.offset == unknown32) {
        if (at < 20 || number(b, at - 20, 4) != locator_mark) throw bad(where, "is damaged: the zip64 directory is missing");
        const uint64_t end64 = number(b, at - 12, 8);
        if (b.size() < 56 || end64 > b.size() - 56 || number(b, static_cast<size_t>(end64), 4) != end64_mark)
          throw bad(where, "is damaged: the zip64 directory is not where it should be");
        d = {number(b, end64 + 32, 8), number(b, end64 + 40, 8), number(b, end64 + 48, 8)};
      }
      if (d.offset > b.size() || d.size > b.size() - d.offset || d.entries > d.size / 46)
        throw bad(where, "is damaged: its directory does not lie within the file");
      return d;
    }
    if (at == lowest) break;
  }
  throw bad(where, "is not an .npz archive, or it is cut off (no zip directory at its end)");
}

Tensor inflated(Bytes packed, uint64_t size, const std::string& where) {
  // Deflate can't expand by more than 1032 : 1; a larger claim is a lie and is not believed with memory.
  if (size > (static_cast<uint64_t>(packed.size()) + 1) * 1032)
    throw bad(where, fmt::format("declares {} bytes, more than its {} packed bytes can hold", size, packed.size()));
  Tensor out(DType::u8, {static_cast<int64_t>(size)});
  z_stream z{};
  if (::inflateInit2(&z, -MAX_WBITS) != Z_OK) throw Error(ErrorCode::internal, "zlib can't be started");
  struct End { z_stream* z; ~End() { ::inflateEnd(z); } } end{&z};
  constexpr size_t step = size_t{1} << 30;
  size_t in_at = 0, out_at = 0;
  Bytef none;
  for (;;) {
    const size_t in_now = std::min(packed.size() - in_at, step), out_now = std::min<size_t>(static_cast<size_t>(size) - out_at, step);
    z.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data())) + in_at;
    z.avail_in = static_cast<uInt>(in_now);
    z.next_out = out_now ? static_cast<Bytef*>(out.mutable_bytes()) + out_at : &none;
    z.avail_out = static_cast<uInt>(out_now);
    const int r = ::inflate(&z, Z_NO_FLUSH);
    const size_t used = in_now - z.avail_in, made = out_now - z.avail_out;
    in_at += used;
    out_at += made;
    if (r == Z_STREAM_END) break;
    if (r != Z_OK || (used == 0 && made == 0)) throw bad(where, "is damaged: its packed data can't be unpacked");
  }
  if (out_at != size) throw bad(where, fmt::format("unpacks to {} bytes instead of the {} declared", out_at, size));
  return out;
}

}  // namespace

Npz::Npz(const fs::path& path) : file_(MappedFile::open(path)), path_(path.string()) {
  const Bytes b = file_->bytes();
  const Directory d = find_directory(b, path_);
  uint64_t at = d.offset;
  const uint64_t end = d.offset + d.size;
  for (uint64_t n = 0; n < d.entries; ++n) {
    if (end - at < 46 || number(b, at, 4) != central_mark) throw bad(path_, "is damaged: an entry of its directory is missing");
    const uint64_t flags = number(b, at + 8, 2), name_size = number(b, at + 28, 2), extra_size = number(b, at + 30, 2);
    const uint64_t whole = 46 + name_size + extra_size + number(b, at + 32, 2);
    if (whole > end - at) throw bad(path_, "is damaged: an entry of its directory is cut off");
    Entry e{number(b, at + 42, 4), number(b, at + 20, 4), number(b, at + 24, 4), static_cast<int>(number(b, at + 10, 2)),
            static_cast<uint32_t>(number(b, at + 16, 4))};
    std::string name(reinterpret_cast<const char*>(b.data()) + at + 46, name_size);
    // zip64: the fields that read "unknown" stand in the extra field, in this order.
    const bool wide[3] = {e.size == unknown32, e.packed == unknown32, e.offset == unknown32};
    uint64_t x = at + 46 + name_size;
    const uint64_t extra_end = x + extra_size;
    while (extra_end - x >= 4) {
      const uint64_t id = number(b, x, 2), size = number(b, x + 2, 2);
      x += 4;
      if (size > extra_end - x) throw bad(path_, "is damaged: an extra field runs past its entry");
      if (id == 1) {
        uint64_t p = x;
        uint64_t* fields[3] = {&e.size, &e.packed, &e.offset};
        for (int f = 0; f < 3; ++f) {
          if (!wide[f]) continue;
          if (x + size - p < 8) throw bad(path_, "is damaged: a zip64 field is cut off");
          *fields[f] = number(b, p, 8);
          p += 8;
        }
      }
      x += size;
    }
    at += whole;
    if (name.size() < 4 || name.compare(name.size() - 4, 4, ".npy") != 0) continue;  // not an array
    name.resize(name.size() - 4);
    const std::string where = path_ + ":" + name;
    if (flags & 1) throw bad(where, "is encrypted");
    if (e.method != 0 && e.method != 8) throw bad(where, fmt::format("is packed with zip method {}; stored and deflated are read", e.method));
    if (e.offset > b.size() || e.packed > b.size() - e.offset) throw bad(where, "does not lie within the file (cut off?)");
    if (!entries_.emplace(name, e).second) throw bad(where, "stands twice in the archive");
    names_.push_back(std::move(name));
  }
}

bool Npz::has(const std::string& name) const { return entries_.count(name) != 0; }

Tensor Npz::read(const std::string& name) const { return tensor_of(stored(name)); }

StoredArray Npz::stored(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) {
    std::string list;
    for (const auto& n : names_) list += (list.empty() ? "" : ", ") + n;
    throw bad(path_, fmt::format("holds no array '{}'; there is: {}", name, list.empty() ? "nothing" : list));
  }
  const Entry& e = it->second;
  const Bytes b = file_->bytes();
  const std::string where = path_ + ":" + name;
  if (b.size() - e.offset < 30 || number(b, e.offset, 4) != local_mark) throw bad(where, "is damaged: its local header is missing");
  const uint64_t start = e.offset + 30 + number(b, e.offset + 26, 2) + number(b, e.offset + 28, 2);
  if (start > b.size() || e.packed > b.size() - start) throw bad(where, "does not lie within the file (cut off?)");
  const Bytes packed = b.subspan(start, e.packed);
  if (e.method == 0) {
    if (e.packed != e.size) throw bad(where, "is damaged: stored with two different sizes");
    uint32_t crc = 0;
    for (size_t done = 0; done < packed.size();) {
      const Bytes part = packed.subspan(done, std::min<size_t>(packed.size() - done, size_t{1} << 20));
      crc = crc_of(part, crc);
      file_->release(b.data(), b.size());  // all of it: pages around those read come along
      done += part.size();
    }
    if (crc != e.crc) throw bad(where, "is damaged: its check sum (CRC-32) is wrong");
    return array_in(packed, file_, file_, where);
  }
  auto unpacked = std::make_shared<const Tensor>(inflated(packed, e.size, where));
  const Bytes data(static_cast<const std::byte*>(unpacked->data()), static_cast<size_t>(e.size));
  if (crc_of(data) != e.crc) throw bad(where, "is damaged: its check sum (CRC-32) is wrong");
  return array_in(data, unpacked, nullptr, where);
}

void write_npz(const fs::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  std::string out, central;
  const auto put = [](std::string& s, uint64_t v, int size) {
    for (int i = 0; i < size; ++i) s += static_cast<char>(v >> (8 * i) & 0xff);
  };
  // Two sizes (size, packed; equal here) and perhaps an offset as a zip64 field.
  const auto wide_field = [&](uint64_t size, std::optional<uint64_t> offset) {
    std::string s;
    put(s, 1, 2);
    put(s, offset ? 24 : 16, 2);
    put(s, size, 8);
    put(s, size, 8);
    if (offset) put(s, *offset, 8);
    return s;
  };
  std::map<std::string, int> seen;
  for (const auto& [key, tensor] : arrays) {
    const std::string name = key + ".npy", header = npy_header(tensor);
    if (seen[key]++) throw Error(ErrorCode::data, fmt::format("the array '{}' is given twice", key)).at_file(path.string());
    if (name.size() > 4096) throw Error(ErrorCode::data, "an array name of more than 4096 bytes").at_file(path.string());
    const Bytes data(static_cast<const std::byte*>(tensor.data()), tensor.bytes());
    const uint64_t size = header.size() + data.size(), offset = out.size();
    const uint32_t crc = crc_of(data, crc_of({reinterpret_cast<const std::byte*>(header.data()), header.size()}));
    const bool wide = size >= unknown32;
    const auto common = [&](std::string& s, bool wide_sizes) {
      put(s, wide ? 45 : 20, 2);
      put(s, 0x800, 2);      // names are UTF-8
      put(s, 0, 2);          // stored
      put(s, 0, 2);          // midnight
      put(s, 0x21, 2);       // 1 January 1980
      put(s, crc, 4);
      put(s, wide_sizes ? unknown32 : size, 4);
      put(s, wide_sizes ? unknown32 : size, 4);
      put(s, name.size(), 2);
    };
    put(out, local_mark, 4);
    common(out, wide);
    std::string extra = wide ? wide_field(size, {}) : "";
    // Padding as an extra field, so that the array's data is aligned to 64 bytes and can be read in place.
    const size_t unpadded = out.size() + 2 + name.size() + extra.size() + 4;
    const size_t pad = (64 - unpadded % 64) % 64;
    put(extra, 0x5150, 2);
    put(extra, pad, 2);
    extra.append(pad, '\0');
    put(out, extra.size(), 2);
    out += name;
    out += extra;
    out += header;
    if (!data.empty()) out.append(reinterpret_cast<const char*>(data.data()), data.size());

    const bool wide_central = wide || offset >= unknown32;
    const std::string central_extra = wide_central ? wide_field(size, offset) : "";
    put(central, central_mark, 4);
    put(central, wide_central ? 45 : 20, 2);
    common(central, wide_central);
    put(central, central_extra.size(), 2);
    central.append(2 + 2 + 2 + 4, '\0');  // comment, disk, attributes
    put(central, wide_central ? unknown32 : offset, 4);
    central += name;
    central += central_extra;
  }
  const uint64_t at = out.size(), count = arrays.size();
  const bool wide_end = count >= 0xffff || at >= unknown32 || central.size() >= unknown32;
  out += central;
  if (wide_end) {
    const uint64_t end64 = out.size();
    put(out, end64_mark, 4);
    put(out, 44, 8);
    put(out, 45, 2);
    put(out, 45, 2);
    put(out, 0, 8);
    put(out, count, 8);
    put(out, count, 8);
    put(out, central.size(), 8);
    put(out, at, 8);
    put(out, locator_mark, 4);
    put(out, 0, 4);
    put(out, end64, 8);
    put(out, 1, 4);
  }
  put(out, end_mark, 4);
  put(out, 0, 4);
  put(out, wide_end ? 0xffff : count, 2);
  put(out, wide_end ? 0xffff : count, 2);
  put(out, wide_end ? unknown32 : central.size(), 4);
  put(out, wide_end ? unknown32 : at, 4);
  put(out, 0, 2);
  write_file(path, out);
}

}  // namespace quern
