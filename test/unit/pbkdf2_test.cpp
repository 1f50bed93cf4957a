#include "core/pbkdf2.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <random>

#include "core/error.h"
#include "hex.h"

namespace apikey::core {
namespace {

std::string derive(std::string_view password, std::string_view salt, std::uint32_t iterations,
                   std::size_t size) {
    Bytes out(size);
    pbkdf2_hmac_sha256(bytes_of(password), bytes_of(salt), iterations, out);
    return to_hex(out);
}

// RFC 7914 section 11.
TEST(Pbkdf2, Rfc7914) {
    EXPECT_EQ(derive("passwd", "salt", 1, 64),
              "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
              "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
    EXPECT_EQ(derive("Password", "NaCl", 80000, 64),
              "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
              "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d");
}

// Passwords and salts around the block size of SHA-256, outputs that end within a block.
TEST(Pbkdf2, AgreesWithOpenssl) {
    std::mt19937 random(3);
    const auto random_bytes = [&](std::size_t size) {
        Bytes bytes(size);
        for (auto& byte : bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
        return bytes;
    };
    for (const std::size_t password_size : {0u, 1u, 31u, 32u, 63u, 64u, 65u, 128u, 200u}) {
        for (const std::size_t salt_size : {0u, 1u, 16u, 51u, 52u, 60u, 64u, 65u, 130u}) {
            const Bytes password = random_bytes(password_size);
            const Bytes salt = random_bytes(salt_size);
            const std::uint32_t iterations = 1 + random() % 50;
            const std::size_t size = 1 + random() % 100;
            Bytes ours(size), theirs(size);
            pbkdf2_hmac_sha256(password, salt, iterations, ours);
            ASSERT_EQ(PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(password.data()),
                                        static_cast<int>(password.size()), salt.data(),
                                        static_cast<int>(salt.size()), static_cast<int>(iterations),
                                        EVP_sha256(), static_cast<int>(size), theirs.data()),
                      1);
            ASSERT_EQ(to_hex(ours), to_hex(theirs)) << password_size << ' ' << salt_size << ' ' << iterations;
        }
    }
}

TEST(Pbkdf2, RefusesNoIterationsAndNoOutput) {
    Bytes out(32);
    EXPECT_THROW(pbkdf2_hmac_sha256({}, {}, 0, out), InvalidArgument);
    EXPECT_THROW(pbkdf2_hmac_sha256({}, {}, 1, {}), InvalidArgument);
}

int checks = 0;

TEST(Pbkdf2, AsksForInterruptsInSlices) {
    Bytes out(32);
    checks = 0;
    pbkdf2_hmac_sha256({}, {}, 4096, out, [] { ++checks; });
    EXPECT_EQ(checks, 0);
    pbkdf2_hmac_sha256({}, {}, 10 * 4096 + 1, out, [] { ++checks; });
    EXPECT_EQ(checks, 10);
}

// A long output is one long derivation: the slices go on across its blocks.
TEST(Pbkdf2, AsksForInterruptsAcrossBlocks) {
    Bytes out(32 * 100);
    checks = 0;
    pbkdf2_hmac_sha256({}, {}, 1001, out, [] { ++checks; });
    EXPECT_EQ(checks, 100 * 1000 / 4096);
}

TEST(Pbkdf2, AnInterruptEndsIt) {
    struct Interrupted {};
    Bytes out(32, 0xee);
    checks = 0;
    EXPECT_THROW(pbkdf2_hmac_sha256({}, {}, 4'000'000'000u, out,
                                    [] {
                                        if (++checks == 2) {
                                            throw Interrupted();
                                        }
                                    }),
                 Interrupted);
    EXPECT_EQ(checks, 2);
    EXPECT_EQ(out, Bytes(32, 0xee));
}

}  // namespace
}  // namespace apikey::core
