#include "core/base/digest.hpp"

#include <openssl/evp.h>

#include "core/base/error.hpp"

namespace quern {

struct Sha256::State { EVP_MD_CTX* context = nullptr; };

Sha256::Sha256() : state_(std::make_unique<State>()) {
  state_->context = EVP_MD_CTX_new();
  if (!state_->context || EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) != 1)
    throw Error(ErrorCode::internal, "SHA-256 is not available");
}
Sha256::~Sha256() { EVP_MD_CTX_free(state_->context); }

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
  return *this;
}
Sha256& Sha256::add(std::string_view text) { return add(std::as_bytes(std::span(text.data(), text.size()))); }

std::string Sha256::hex() {
  unsigned char out[32];
  unsigned size = 0;
  EVP_DigestFinal_ex(state_->context, out, &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += "0123456789abcdef"[out[i] >> 4];
    text += "0123456789abcdef"[out[i] & 15];
  }
  return text;
}

std::string sha256(std::string_view text) { return Sha256().add(text).hex(); }
std::string sha256(std::span<const std::byte> bytes) { return Sha256().add(bytes).hex(); }

}  // namespace quern
