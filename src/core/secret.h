#pragma once

#include <openssl/crypto.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "core/bytes.h"

namespace apikey::core {

/** Wipes memory before it goes back to the heap, also when a container grows. */
template <typename T>
struct CleansingAllocator {
    using value_type = T;
    CleansingAllocator() noexcept = default;
    template <typename U>
    CleansingAllocator(const CleansingAllocator<U>&) noexcept {}

    T* allocate(std::size_t n) { return std::allocator<T>().allocate(n); }
    void deallocate(T* p, std::size_t n) noexcept {
        OPENSSL_cleanse(p, n * sizeof(T));
        std::allocator<T>().deallocate(p, n);
    }
    friend bool operator==(const CleansingAllocator&, const CleansingAllocator&) noexcept { return true; }
};

/** Key material or a plaintext token. A vector, not a string: a short string would live in the object itself,
 * unwiped. */
using SecretBytes = std::vector<std::uint8_t, CleansingAllocator<std::uint8_t>>;

inline ByteView view(const SecretBytes& secret) {
    return {secret.data(), secret.size()};
}
inline std::string_view text_of(const SecretBytes& secret) {
    return text_of(view(secret));
}

/** Fixed-size key material on the stack or inside another object; wiped at the end of its life. */
template <std::size_t N>
class SecretArray {
  public:
    SecretArray() noexcept : bytes_{} {}
    SecretArray(const SecretArray&) noexcept = default;
    SecretArray& operator=(const SecretArray&) noexcept = default;
    ~SecretArray() { OPENSSL_cleanse(bytes_, N); }

    std::uint8_t* data() noexcept { return bytes_; }
    const std::uint8_t* data() const noexcept { return bytes_; }
    static constexpr std::size_t size() noexcept { return N; }
    std::span<std::uint8_t> span() noexcept { return {bytes_, N}; }
    ByteView view() const noexcept { return {bytes_, N}; }

  private:
    std::uint8_t bytes_[N];
};

}  // namespace apikey::core
