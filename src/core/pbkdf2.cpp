#include "core/pbkdf2.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"

// OpenSSL 3 deprecates the SHA256_* functions, and offers nothing else that lets a hash continue from a kept
// state. The provider's PBKDF2 spends most of its time around the hash: this loop needs a quarter of it. An
// attacker takes the fast way, so the defender who does not pays for iterations that protect nothing.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace apikey::core {
namespace {

constexpr std::size_t digest_size = SHA256_DIGEST_LENGTH;
constexpr std::size_t block_size = SHA256_CBLOCK;
constexpr std::size_t word_count = digest_size / 4;
constexpr std::uint32_t slice = 4096;

void store_big_endian(const SHA_LONG* words, std::uint8_t* out) {
    for (std::size_t i = 0; i < word_count; ++i) {
        const std::uint32_t word = words[i];
        out[4 * i] = static_cast<std::uint8_t>(word >> 24);
        out[4 * i + 1] = static_cast<std::uint8_t>(word >> 16);
        out[4 * i + 2] = static_cast<std::uint8_t>(word >> 8);
        out[4 * i + 3] = static_cast<std::uint8_t>(word);
    }
}

/**
 * HMAC-SHA-256 (RFC 2104) under one key. The states after the ipad and the opad block are computed once, so
 * that each iteration is two compressions. Holds everything that the derivation writes between input and
 * output, and wipes it however it ends.
 */
class Prf {
  public:
    explicit Prf(ByteView key) {
        std::fill_n(block_, block_size, std::uint8_t{0});
        if (key.size() > block_size) {
            SHA256_Init(&work_);
            SHA256_Update(&work_, key.data(), key.size());
            SHA256_Final(block_, &work_);
        } else {
            std::copy(key.begin(), key.end(), block_);
        }
        start(&inner_, 0x36);
        start(&outer_, 0x36 ^ 0x5c);

        // From here on block_ is the second and last block of both hashes: 32 bytes of message, then
        // SHA-256's padding and the length in bits, which counts the pad block too.
        constexpr std::uint32_t bits = (block_size + digest_size) * 8;
        std::fill_n(block_, block_size, std::uint8_t{0});
        block_[digest_size] = 0x80;
        block_[block_size - 2] = bits >> 8;
        block_[block_size - 1] = bits & 0xff;
    }
    ~Prf() { OPENSSL_cleanse(this, sizeof(*this)); }
    Prf(const Prf&) = delete;
    Prf& operator=(const Prf&) = delete;

    /** U_1 of block `index`: the PRF of salt || INT(index), of any length. */
    void first(ByteView salt, std::uint32_t index) {
        const std::uint8_t index_bytes[4] = {
            static_cast<std::uint8_t>(index >> 24), static_cast<std::uint8_t>(index >> 16),
            static_cast<std::uint8_t>(index >> 8), static_cast<std::uint8_t>(index)};
        work_ = inner_;
        if (!salt.empty()) {
            SHA256_Update(&work_, salt.data(), salt.size());
        }
        SHA256_Update(&work_, index_bytes, sizeof(index_bytes));
        SHA256_Final(block_, &work_);
        finish();
        std::copy_n(work_.h, word_count, sum_.begin());
    }

    /** U_j from U_{j-1}, and added to the sum. */
    void next() {
        store_big_endian(work_.h, block_);
        std::copy_n(inner_.h, word_count, work_.h);
        SHA256_Transform(&work_, block_);
        store_big_endian(work_.h, block_);
        finish();
        for (std::size_t i = 0; i < word_count; ++i) {
            sum_[i] ^= work_.h[i];
        }
    }

    /** The first bytes of T_index. */
    void take(std::span<std::uint8_t> out) {
        store_big_endian(sum_.data(), block_);
        std::copy_n(block_, out.size(), out.begin());
    }

  private:
    /** Expects the padded key in block_, xor-ed with what was there before; leaves it xor-ed with the new
     * pad. */
    void start(SHA256_CTX* state, std::uint8_t difference) {
        for (std::uint8_t& byte : block_) {
            byte ^= difference;
        }
        SHA256_Init(state);
        SHA256_Update(state, block_, block_size);
    }

    /** The outer hash of the inner digest that lies in block_. Leaves the result in work_.h. */
    void finish() {
        std::copy_n(outer_.h, word_count, work_.h);
        SHA256_Transform(&work_, block_);
    }

    SHA256_CTX inner_;
    SHA256_CTX outer_;
    SHA256_CTX work_;
    std::uint8_t block_[block_size];
    std::array<SHA_LONG, word_count> sum_;
};

}  // namespace

void pbkdf2_hmac_sha256(ByteView password, ByteView salt, std::uint32_t iterations,
                        std::span<std::uint8_t> out, InterruptCheck interrupt_check) {
    if (iterations < 1 || out.empty()) {
        throw InvalidArgument("PBKDF2 needs at least one iteration and one byte of output");
    }
    Prf prf(password);
    std::uint32_t in_slice = 0;
    std::uint32_t index = 0;
    for (std::size_t done = 0; done < out.size(); done += digest_size) {
        prf.first(salt, ++index);
        for (std::uint32_t i = 1; i < iterations; ++i) {
            prf.next();
            if (++in_slice == slice) {
                in_slice = 0;
                if (interrupt_check != nullptr) {
                    interrupt_check();
                }
            }
        }
        prf.take(out.subspan(done, std::min(digest_size, out.size() - done)));
    }
}

}  // namespace apikey::core

#pragma GCC diagnostic pop
