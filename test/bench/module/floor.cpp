#include "floor.h"

#include <cstdint>

#include "core/pbkdf2.h"

bool bench_core_pbkdf2(const unsigned char* password, size_t password_size, const unsigned char* salt,
                       size_t salt_size, int iterations, unsigned char* out, size_t out_size) {
    try {
        apikey::core::pbkdf2_hmac_sha256({password, password_size}, {salt, salt_size},
                                         static_cast<std::uint32_t>(iterations), {out, out_size});
        return true;
    } catch (...) {
        return false;
    }
}
